//! A Redis that forgets: rows 8 and 18.

use crate::{
    pay, spawn_pay,
    support::{backend::Backend, eventually, gate::Process, redis::Server, sockets::silent},
};

/// No response at hand, so that every retry asks the store.
const FORGETFUL: &str = "[store]\ncache = \"0\"\n";
const REFUSES: &str = "[store]\ncache = \"0\"\non_amnesia = \"refuse\"\ntimeout = \"300ms\"\n\
                       [idempotency]\non_store_down = \"pass\"\n";

/// `/readyz` says that data is gone, in these words.
async fn is_alarmed(gate: &Process, words: &str) -> bool {
    let (status, why) = gate.readyz().await;
    status == 503 && why.contains(words) && why.contains("/api/store/acknowledge")
}

/// Row 18: nothing that was lost is said to be recorded, and what a gate has at hand
/// it still replays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn emptied_while_a_request_runs() {
    let (redis, backend) = (Server::start(&[]), Backend::start().await);
    let gate = Process::start(&redis.url(), &backend.url(), None);
    assert_eq!(pay(gate.address, "/pay", "done").await.status, 201);
    let running = spawn_pay(gate.address, "/gate/a", "running");
    eventually("it runs", async || backend.count() == 2).await;
    redis::cmd("FLUSHALL").exec(&mut redis.connection()).unwrap();
    backend.open("a", 1000);
    let first = running.await.unwrap().unwrap();
    assert_eq!((first.status, first.text()), (201, "pay"), "the answer is delivered");
    assert_eq!(first.header("cache-status"), "oncegate; fwd=miss; stored=?0");
    let replay = pay(gate.address, "/pay", "done").await;
    assert_eq!(replay.header("idempotent-replayed"), "true");
    assert_eq!(backend.executions("done"), 1);
    assert_eq!(pay(gate.address, "/pay", "new").await.status, 201, "it goes on");
}

/// Row 18: the claim is lost, and another gate executes the request, while a connection for it is
/// made. Its owner hears of that, and sends nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn emptied_while_a_connection_is_made() {
    let (redis, backend) = (Server::start(&[]), Backend::start().await);
    let (silent, _queue) = silent().await;
    let settings = format!(
        "[server]\nthreads = 1\n[idempotency]\nlease = \"900ms\"\n[[route]]\n\
         upstream.urls = [\"http://{silent}\", \"{}\"]\nupstream.connect_timeout = \"3s\"",
        backend.url()
    );
    let slow = Process::configured(&redis.url(), &backend.url(), &settings);
    let other = Process::start(&redis.url(), &backend.url(), None);
    let waiting = spawn_pay(slow.address, "/pay", "k");
    let mut connection = redis.connection();
    let mut claims = || {
        let claims: Vec<String> =
            redis::cmd("KEYS").arg("oncegate:{*").query(&mut connection).unwrap();
        claims.len()
    };
    eventually("it is claimed", || std::future::ready(claims() == 1)).await;
    redis::cmd("FLUSHALL").exec(&mut redis.connection()).unwrap();
    assert_eq!(pay(other.address, "/pay", "k").await.status, 201);
    let waited = waiting.await.unwrap().unwrap();
    assert_eq!((waited.status, waited.problem()), (504, "upstream-unreachable".to_owned()));
    assert_eq!(backend.executions("k"), 1);
    let replay = pay(slow.address, "/pay", "k").await;
    assert_eq!((replay.status, replay.header("idempotent-replayed")), (201, "true"));
}

/// Row 18: every gate says so until somebody has told one of them that it is known, also
/// one that starts afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn emptied_is_told_until_somebody_knows() {
    let (redis, backend) = (Server::start(&[]), Backend::start().await);
    let gates = [(); 2].map(|()| Process::configured(&redis.url(), &backend.url(), FORGETFUL));
    assert_eq!(pay(gates[0].address, "/pay", "before").await.status, 201);
    assert_eq!(gates[0].readyz().await.0, 200);
    redis::cmd("FLUSHALL").exec(&mut redis.connection()).unwrap();
    for gate in &gates {
        eventually("the loss is noticed", async || is_alarmed(gate, "lost its data set").await)
            .await;
        assert!(gate.metric("oncegate_amnesia_total").await >= 1.0);
    }
    assert_eq!(pay(gates[0].address, "/pay", "after").await.status, 201, "only an alarm");
    let third = Process::configured(&redis.url(), &backend.url(), FORGETFUL);
    assert!(is_alarmed(&third, "lost its data set").await, "{:?}", third.readyz().await);
    gates[0].acknowledge_loss().await;
    for gate in gates.iter().chain([&third]) {
        eventually("it is known", async || gate.readyz().await.0 == 200).await;
    }
}

/// Row 18: told to refuse, not one request of an emptied store is sent, from the moment
/// on at which it was emptied and whatever `on_store_down` says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn emptied_and_told_to_refuse() {
    let (redis, backend) = (Server::start(&[]), Backend::start().await);
    let gate = Process::configured(&redis.url(), &backend.url(), REFUSES);
    for round in 0..3 {
        let key = format!("k{round}");
        assert_eq!(pay(gate.address, "/pay", &key).await.status, 201);
        redis::cmd("FLUSHALL").exec(&mut redis.connection()).unwrap();
        let retry = pay(gate.address, "/pay", &key).await;
        assert_eq!((retry.status, retry.problem()), (503, "store-unavailable".to_owned()));
        assert_eq!(pay(gate.address, "/pay", "new").await.status, 503);
        assert_eq!(backend.executions(&key), 1);
        gate.acknowledge_loss().await;
        eventually("it is known", async || gate.readyz().await.0 == 200).await;
    }
    assert_eq!(pay(gate.address, "/pay", "new").await.status, 201, "it goes on");
}

/// Row 8: a server that comes back empty, and one that may have lost its last second, is
/// noticed by its first claim.
async fn killed_and_told_to_refuse(persistence: &[&str], words: &str) {
    let (mut redis, backend) = (Server::start(persistence), Backend::start().await);
    let gate = Process::configured(&redis.url(), &backend.url(), REFUSES);
    assert_eq!(pay(gate.address, "/pay", "k").await.status, 201);
    redis.kill();
    redis.restart();
    let fresh = pay(gate.address, "/pay", "fresh").await;
    assert_eq!((fresh.status, fresh.problem()), (503, "store-unavailable".to_owned()));
    assert!(is_alarmed(&gate, words).await, "{:?}", gate.readyz().await);
    assert_eq!(backend.executions("fresh"), 0);
    gate.acknowledge_loss().await;
    eventually("it goes on", async || pay(gate.address, "/pay", "fresh").await.status == 201).await;
    assert_eq!(backend.executions("fresh"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_without_persistence_and_told_to_refuse() {
    killed_and_told_to_refuse(&[], "lost its data set").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_with_writes_forced_every_second_and_told_to_refuse() {
    let every_second = ["--appendonly", "yes", "--appendfsync", "everysec"];
    killed_and_told_to_refuse(&every_second, "the last records may be gone").await;
}
