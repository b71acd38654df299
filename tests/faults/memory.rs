//! A process out of memory: row 17.

use std::process::Command;

use crate::{
    is_in_use, is_unknown, pay, spawn_pay,
    support::{
        backend::Backend,
        eventually,
        gate::{Process, program},
    },
};

/// How much address space the gate has, in KiB: enough to live, too little for the
/// responses below.
const LIMIT: usize = 1_500_000;
/// Each of these is recorded whole, so held whole. Together they are beyond [`LIMIT`].
const RESPONSE: usize = 200_000_000;
const REQUESTS: usize = 12;

/// An allocation that fails ends the process, whatever it was doing. What it had
/// dispatched is recorded or unknown to the next one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exhausted_by_responses() {
    let backend = Backend::start().await;
    let folder = tempfile::tempdir().unwrap();
    let store = format!("file:{}", folder.path().display());
    let config = folder.path().join("gate.toml");
    let settings = "[store]\ncache = \"0\"\n[idempotency]\nlease = \"300ms\"\n\
                    max_response_body = \"250MB\"\n";
    std::fs::write(&config, settings).unwrap();
    let mut command = Command::new("sh");
    let script = format!("ulimit -v {LIMIT}; exec \"$0\" \"$@\"");
    command.args(["-c", &script]).arg(program());
    command.args(["serve", "--store", &store, "--upstream", &backend.url(), "--config"]);
    command.arg(&config).args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let mut gate = Process::run(command);
    let path = format!("/large/{RESPONSE}");
    let keys: Vec<_> = (0..REQUESTS).map(|number| format!("k-{number}")).collect();
    let running: Vec<_> = keys.iter().map(|key| spawn_pay(gate.address, &path, key)).collect();
    // Every client hears of it: nobody is left waiting.
    for client in running {
        let _ = client.await.unwrap();
    }
    eventually("an allocation fails", || std::future::ready(!gate.is_alive())).await;
    let executed = backend.count();
    assert!(executed > 0, "something had been dispatched");
    let next = Process::start(&store, &backend.url(), Some(&config));
    for key in keys.iter().filter(|key| backend.executions(key) > 0) {
        eventually("it is known what became of it", async || {
            let retry = pay(next.address, &path, key).await;
            assert!(
                is_in_use(&retry) || is_unknown(&retry, "owner_lost") || retry.status == 200,
                "{:?}",
                retry.status
            );
            assert_eq!(backend.count(), executed, "nothing ran twice");
            !is_in_use(&retry)
        })
        .await;
    }
}
