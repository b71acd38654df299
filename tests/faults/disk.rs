//! A full disk: row 17.

use std::process::Command;

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
    let (mut recorded, mut doubtful) = (Vec::new(), Vec::new());
    for number in 0.. {
        let key = format!("k-{number}");
        let answer = pay(gate.address, path, &key).await;
        match (answer.status, answer.header("cache-status")) {
            (200, "oncegate; fwd=miss; stored") => recorded.push(key),
            (200, "oncegate; fwd=miss; stored=?0") => doubtful.push(key),
            (503, _) => {
                assert_eq!(answer.problem(), "store-unavailable");
                assert_eq!(backend.executions(&key), 0, "refused before it was sent");
                break;
            }
            _ => panic!("{answer:?}"),
        }
        assert!(number < 200, "the disk is never full");
    }
    println!("disk full: {} recorded, {} in doubt", recorded.len(), doubtful.len());
    assert!(!recorded.is_empty());
    let executed = backend.count();
    for number in 0..5 {
        let refused = pay(gate.address, path, &format!("after-{number}")).await;
        assert_eq!((refused.status, refused.problem()), (503, "store-unavailable".to_owned()));
    }
    assert_eq!(backend.count(), executed, "nothing is sent any more");
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
        assert!(is_in_use(&retry) || is_unknown(&retry, "owner_lost"), "{retry:?}");
    }
    for key in recorded.iter().chain(&doubtful) {
        assert_eq!(backend.executions(key), 1);
    }
    eventually("it works again", async || {
        send(gate.address, &post("/pay", "new", "pay")).await.status == 201
    })
    .await;
}
