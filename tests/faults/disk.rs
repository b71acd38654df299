//! A full disk: row 17.

use std::{
    cell::Cell,
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    is_in_use, is_unknown, pay,
    support::{
        backend::Backend,
        client::{post, send},
        eventually,
        gate::{Process, program},
    },
};

/// How far a file of the gate's may grow, in blocks of 512 bytes.
const BLOCKS: usize = 8192;

/// The real program, whose files cannot grow beyond [`BLOCKS`]: to it, a full disk.
fn on_a_full_disk(store: &str, upstream: &str) -> Process {
    let mut command = Command::new("sh");
    // The signal that comes with the limit is ignored, so that writes fail with an error.
    let script = format!("trap '' XFSZ; ulimit -f {BLOCKS}; exec \"$0\" \"$@\"");
    command.args(["-c", &script]).arg(program());
    command.args(["serve", "--store", store, "--upstream", upstream]);
    command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    Process::run(command)
}

/// Row 17: what was dispatched is recorded or unknown, everything after it is refused
/// before it is sent, and the gate says so and stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_while_responses_are_recorded() {
    let backend = Backend::start().await;
    let folder = tempfile::tempdir().unwrap();
    let store = format!("file:{}", folder.path().display());
    let mut gate = on_a_full_disk(&store, &backend.url());
    let path = "/large/200000";
    let (mut recorded, mut doubtful, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    let mut full_since = None;
    // A file of the journal is full before the tables are, and then it goes on with the other one.
    while full_since.is_none_or(|since: Instant| since.elapsed() < Duration::from_secs(1)) {
        let key = format!("k-{}", recorded.len() + doubtful.len() + refused.len());
        let answer = pay(gate.address, path, &key).await;
        match (answer.status, answer.header("cache-status")) {
            (200, "oncegate; fwd=miss; stored") => recorded.push(key),
            (200, "oncegate; fwd=miss; stored=?0") => doubtful.push(key),
            (503, _) => {
                assert_eq!(answer.problem(), "store-unavailable");
                full_since.get_or_insert_with(Instant::now);
                refused.push(key);
                continue;
            }
            _ => panic!("{answer:?}"),
        }
        full_since = None;
        assert!(recorded.len() + doubtful.len() < 200, "the disk is never full");
    }
    println!("disk full: {} recorded, {} in doubt", recorded.len(), doubtful.len());
    assert!(!recorded.is_empty());
    for key in &refused {
        assert_eq!(backend.executions(key), 0, "refused before it was sent");
    }
    assert!(gate.is_alive());
    let (status, said) = gate.readyz().await;
    assert_eq!(status, 503, "{said}");
    assert!(said.starts_with("store: "), "{said}");
    gate.kill();

    // With room again: what was acknowledged is there, the rest is in doubt.
    let gate = Process::start(&store, &backend.url(), None);
    for key in &recorded {
        let replay = pay(gate.address, path, key).await;
        assert_eq!((replay.status, replay.header("idempotent-replayed")), (200, "true"));
    }
    for key in &doubtful {
        let retry = pay(gate.address, path, key).await;
        // What found room after all is a replay.
        let is_replay = retry.header("idempotent-replayed") == "true";
        assert!(is_replay || is_in_use(&retry) || is_unknown(&retry, "owner_lost"), "{retry:?}");
    }
    for key in recorded.iter().chain(&doubtful) {
        assert_eq!(backend.executions(key), 1);
    }
    eventually("it works again", async || {
        send(gate.address, &post("/pay", "new", "pay")).await.status == 201
    })
    .await;
}

/// Row 17: a file system that somebody else fills. The gate refuses what is new, tells what it
/// has, and goes on by itself when there is room again.
///
/// The file system is mounted where only the gate sees it, which not everybody may do. `.ci/run`
/// runs this where it can be done, and says where it cannot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "mounts a file system; run by .ci/run"]
async fn filled_by_somebody_else() {
    let backend = Backend::start().await;
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().display();
    let mut command = Command::new("unshare");
    let script = "mount -t tmpfs -o size=48m none \"$1\" && shift && exec \"$0\" \"$@\"";
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]).arg(program());
    command.arg(folder.path());
    command.args(["serve", "--store", &format!("file:{place}"), "--upstream", &backend.url()]);
    command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let mut gate = Process::run(command);
    assert_eq!(pay(gate.address, "/pay", "known").await.status, 201);

    let filler = format!("/proc/{}/root{place}/filler", gate.id());
    let mut file = std::fs::File::create(&filler).unwrap();
    let full = std::io::copy(&mut std::io::repeat(1), &mut file).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    let keys = Cell::new(0);
    eventually("new requests are refused", async || {
        keys.set(keys.get() + 1);
        let answer = pay(gate.address, "/large/200000", &format!("k-{}", keys.get())).await;
        answer.status == 503 && answer.problem() == "store-unavailable"
    })
    .await;
    let keys = keys.get();
    assert_eq!(backend.executions(&format!("k-{keys}")), 0, "refused before it was sent");
    let replay = pay(gate.address, "/pay", "known").await;
    assert_eq!((replay.status, replay.header("idempotent-replayed")), (201, "true"));
    let (status, said) = gate.readyz().await;
    assert_eq!(status, 503, "{said}");

    drop(file);
    std::fs::remove_file(&filler).unwrap();
    eventually("it goes on by itself", async || {
        pay(gate.address, "/pay", "new").await.status == 201
    })
    .await;
    assert!(gate.is_alive());
    for key in (1..=keys).map(|number| format!("k-{number}")) {
        assert!(backend.executions(&key) <= 1, "{key} was executed once at the most");
    }
}
