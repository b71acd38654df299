//! Many duplicates, and a Redis that is killed under load: rows 6 and 8.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
};

use crate::{
    pay,
    support::{
        backend::Backend,
        client::{Connection, post, try_send},
        eventually,
        gate::Process,
        redis::Server,
    },
};

const DUPLICATES: usize = 1000;

/// Row 6.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_duplicates_at_three_gates() {
    let (redis, backend) = (Server::start(&[]), Backend::start().await);
    let settings = "[idempotency]\non_conflict = \"wait\"\n";
    let gates = [(); 3].map(|()| Process::configured(&redis.url(), &backend.url(), settings));
    let asked = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..DUPLICATES)
        .map(|number| {
            let (address, asked) = (gates[number % 3].address, Arc::clone(&asked));
            tokio::spawn(async move {
                let mut client = Connection::open(address).await;
                client.write(&post("/ticket/t", "k", "pay")).await;
                asked.fetch_add(1, SeqCst);
                client.answer().await.expect("every duplicate is answered")
            })
        })
        .collect();
    eventually("all have asked, and one is executed", async || {
        asked.load(SeqCst) == DUPLICATES && backend.count() >= 1
    })
    .await;
    backend.open("t", DUPLICATES);
    let (mut firsts, mut different) = (0, BTreeSet::new());
    for client in clients {
        let answer = client.await.unwrap();
        assert_eq!(answer.status, 201);
        firsts += usize::from(answer.header("idempotent-replayed").is_empty());
        different.insert((answer.header("location").to_owned(), answer.body));
    }
    println!("{DUPLICATES} duplicates at 3 gates: {} executed", backend.executions("k"));
    assert_eq!((backend.executions("k"), firsts), (1, 1));
    assert_eq!(different.len(), 1, "identical bytes: {different:?}");
}

/// What an outage of Redis did, in keys.
#[derive(Debug)]
#[expect(dead_code, reason = "printed")]
struct Outage {
    tried: usize,
    executed: usize,
    doubled: usize,
}

/// Kills Redis under load and starts it anew; afterwards every client comes back, at
/// a gate that has no response at hand.
async fn killed_under_load(persistence: &[&str], loses: bool) -> Outage {
    let (mut redis, backend) = (Server::start(persistence), Backend::start().await);
    let settings = "[store]\ntimeout = \"300ms\"\n[idempotency]\nlease = \"500ms\"\n";
    let [gate, other] =
        [(); 2].map(|()| Process::configured(&redis.url(), &backend.url(), settings));
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..16)
        .map(|client| {
            let (address, stop) = (gate.address, Arc::clone(&stop));
            tokio::spawn(async move {
                let mut keys = Vec::new();
                while !stop.load(SeqCst) {
                    let key = format!("{client}-{}", keys.len());
                    let request = post("/slow/5", &key, "pay");
                    let answer = try_send(address, &request).await.expect("everybody is answered");
                    assert!([201, 409, 503].contains(&answer.status), "{answer:?}");
                    keys.push(key);
                    if answer.status == 503 {
                        tokio::task::yield_now().await;
                    }
                }
                keys
            })
        })
        .collect();
    eventually("there is load", async || backend.count() >= 300).await;
    redis.kill();
    eventually("the outage is noticed", async || gate.readyz().await.0 == 503).await;
    redis.restart();
    let before = backend.count();
    eventually("the load goes on", async || backend.count() >= before + 100).await;
    stop.store(true, SeqCst);
    let mut keys = Vec::new();
    for client in clients {
        keys.extend(client.await.unwrap());
    }
    if loses {
        eventually("the loss is noticed", async || {
            other.readyz().await.1.contains("/api/store/acknowledge")
        })
        .await;
        other.acknowledge_loss().await;
    }
    eventually("the store is back", async || other.readyz().await.0 == 200).await;
    let losses = other.metric("oncegate_amnesia_total").await;
    assert_eq!(losses > 0.0, loses, "no alarm without a reason: {losses}");
    let mut outage = Outage { tried: keys.len(), executed: 0, doubled: 0 };
    for key in &keys {
        let retry = pay(other.address, "/slow/5", key).await;
        assert!([201, 409].contains(&retry.status), "{retry:?}");
    }
    for key in &keys {
        let executions = backend.executions(key);
        outage.executed += usize::from(executions > 0);
        outage.doubled += usize::from(executions > 1);
    }
    outage
}

/// Row 8, as `fsync` asks for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_with_every_write_forced() {
    let outage =
        killed_under_load(&["--appendonly", "yes", "--appendfsync", "always"], false).await;
    println!("appendfsync always: {outage:?}");
    assert_eq!(outage.doubled, 0, "{outage:?}");
}

/// Row 8, measured: a process that dies leaves its writes to the operating system. That
/// they may be gone is told all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_with_writes_forced_every_second() {
    let outage =
        killed_under_load(&["--appendonly", "yes", "--appendfsync", "everysec"], true).await;
    println!("appendfsync everysec: {outage:?}");
}

/// Row 8, measured: what was recorded before is forgotten, and runs again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_without_persistence() {
    let outage = killed_under_load(&["--appendonly", "no"], true).await;
    println!("no persistence: {outage:?}");
}
