//! What must not break the promise, broken on purpose: `docs/faults.md` says which
//! test is the proof of which row, and which mutant fails it.

#![cfg(all(feature = "proxy", feature = "redis", feature = "embedded"))]
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
#![allow(clippy::print_stdout, reason = "what was measured is shown with --nocapture")]

mod support;

#[path = "faults/amnesia.rs"]
mod amnesia;
#[path = "faults/clients.rs"]
mod clients;
#[path = "faults/crash.rs"]
mod crash;
#[path = "faults/disk.rs"]
mod disk;
#[path = "faults/memory.rs"]
mod memory;
#[path = "faults/redis.rs"]
mod redis_server;
#[path = "faults/replicas.rs"]
mod replicas;
#[path = "faults/rolling.rs"]
mod rolling;
#[path = "faults/time.rs"]
mod time;
#[path = "faults/upstream.rs"]
mod upstream;

use std::net::SocketAddr;

use support::client::{Answer, post, send, try_send};

/// Sends a keyed POST in a task of its own; `None` when the connection broke.
fn spawn_pay(gate: SocketAddr, path: &str, key: &str) -> tokio::task::JoinHandle<Option<Answer>> {
    let request = post(path, key, "pay");
    tokio::spawn(async move { try_send(gate, &request).await })
}

async fn pay(gate: SocketAddr, path: &str, key: &str) -> Answer {
    send(gate, &post(path, key, "pay")).await
}

/// Whether this is the refusal of an outcome that nobody knows, for this reason.
fn is_unknown(answer: &Answer, reason: &str) -> bool {
    answer.status == 409
        && answer.problem() == "outcome-unknown"
        && answer.member("reason") == reason
}

/// Whether this is the refusal of a duplicate of what still runs.
fn is_in_use(answer: &Answer) -> bool {
    answer.status == 409 && answer.problem() == "key-in-use"
}
