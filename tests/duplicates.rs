//! Fifty at once, one execution: on every store, and across gates.

#![cfg(all(feature = "proxy", feature = "redis", feature = "embedded"))]
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use std::net::SocketAddr;

use support::{
    backend::Backend,
    client::{Answer, post, send},
    eventually,
    gate::{Gate, Process},
    redis::Server,
};

const DUPLICATES: usize = 50;
const PAY: &str = "pay";
const BUFFERED: &str = "oncegate_buffered_bytes";

/// The same slow request, many times at once, to the gates in turn.
struct Storm<'b> {
    backend: &'b Backend,
    answers: Vec<tokio::task::JoinHandle<Answer>>,
}

impl<'b> Storm<'b> {
    async fn begin(backend: &'b Backend, gates: &[SocketAddr]) -> Self {
        let answers = (0..DUPLICATES).map(|number| {
            let gate = gates[number % gates.len()];
            tokio::spawn(async move { send(gate, &post("/gate/slow", "k", PAY)).await })
        });
        let storm = Self { backend, answers: answers.collect() };
        eventually("the backend has the first", async || backend.count() >= 1).await;
        storm
    }

    /// The backend answers when all but one have their answer.
    async fn refused(self) -> Vec<Answer> {
        let done = || self.answers.iter().filter(|answer| answer.is_finished()).count();
        eventually("all others are refused", async || done() == DUPLICATES - 1).await;
        self.end().await
    }

    /// The backend answers when all but the one that it has wait: a gate keeps a body until
    /// it was sent.
    async fn waited(self, buffered: impl AsyncFn() -> f64) -> Vec<Answer> {
        let others = ((DUPLICATES - 1) * PAY.len()) as f64;
        eventually("all others wait", async || buffered().await == others).await;
        self.end().await
    }

    async fn end(self) -> Vec<Answer> {
        self.backend.open("slow", DUPLICATES);
        let mut collected = Vec::new();
        for answer in self.answers {
            collected.push(answer.await.unwrap());
        }
        collected
    }
}

async fn one_execution_on(store: &str) {
    let backend = Backend::start().await;
    let gate = Gate::on(store, &backend.url(), "").await;
    let answers = Storm::begin(&backend, &[gate.address]).await.refused().await;
    assert_eq!(backend.executions("k"), 1, "{store}");
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1, "{store}");
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        assert_eq!(answer.problem(), "key-in-use", "{store}");
    }
    for _ in 0..2 {
        let replay = send(gate.address, &post("/gate/slow", "k", "pay")).await;
        assert_eq!((replay.status, replay.text()), (201, "pay"), "{store}");
        assert_eq!(replay.header("idempotent-replayed"), "true", "{store}");
    }
    assert_eq!(backend.executions("k"), 1, "{store}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_memory() {
    one_execution_on("memory:").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_disk() {
    let folder = tempfile::tempdir().unwrap();
    one_execution_on(&format!("file:{}", folder.path().display())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_redis() {
    let redis = Server::start(&[]);
    one_execution_on(&redis.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_on_one_redis_reject() {
    let (redis, backend) = (Server::start(&[]), Backend::start().await);
    let gates = [(); 2].map(|()| Process::start(&redis.url(), &backend.url(), None));
    let storm = Storm::begin(&backend, &[gates[0].address, gates[1].address]).await;
    let answers = storm.refused().await;
    assert_eq!(backend.executions("k"), 1);
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    for gate in &gates {
        let replay = send(gate.address, &post("/gate/slow", "k", "pay")).await;
        assert_eq!((replay.text(), replay.header("idempotent-replayed")), ("pay", "true"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_on_one_redis_wait_for_each_other() {
    let (redis, backend) = (Server::start(&[]), Backend::start().await);
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("gate.toml");
    std::fs::write(&config, "[idempotency]\non_conflict = \"wait\"\n").unwrap();
    let gates = [(); 2].map(|()| Process::start(&redis.url(), &backend.url(), Some(&config)));
    let storm = Storm::begin(&backend, &[gates[0].address, gates[1].address]).await;
    let buffered = async || gates[0].metric(BUFFERED).await + gates[1].metric(BUFFERED).await;
    let answers = storm.waited(buffered).await;
    assert_eq!(backend.executions("k"), 1);
    for answer in &answers {
        assert_eq!((answer.status, answer.text()), (201, "pay"));
    }
    let collapsed = |answer: &&Answer| answer.header("cache-status").contains("collapsed");
    assert_eq!(answers.iter().filter(collapsed).count(), DUPLICATES - 1, "the others waited");
}

/// Every duplicate in a process that waits costs the store nothing of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn duplicates_in_one_process_share_one_look_at_the_store() {
    let (redis, backend) = (Server::start(&[]), Backend::start().await);
    let settings = "[idempotency]\non_conflict = \"wait\"";
    let gate = Gate::on(&redis.url(), &backend.url(), settings).await;
    send(gate.address, &post("/pay", "warm", "")).await;
    let before = redis.info("total_commands_processed");
    let storm = Storm::begin(&backend, &[gate.address]).await;
    let answers = storm.waited(async || gate.metric(BUFFERED).await).await;
    assert!(answers.iter().all(|answer| answer.status == 201));
    let commands = redis.info("total_commands_processed") - before;
    assert!(commands < DUPLICATES as u64, "{commands} commands for {DUPLICATES} duplicates");
}
