//! A full disk: row 17.

use std::{
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
