//! A replica without the last claims becomes the primary: row 7.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use crate::{
    pay,
    support::{
        backend::Backend,
        client::{post, try_send},
        eventually,
        gate::Process,
        redis::{Link, Server},
    },
};

/// What a failover did, in keys.
#[derive(Debug)]
#[expect(dead_code, reason = "printed")]
struct Failover {
    tried: usize,
    executed: usize,
    doubled: usize,
    /// What the last gate says on `/readyz`.
    told: String,
}

/// Load at one gate; the replica stops hearing of it; the primary dies; the replica takes
/// its place; every client comes back at another gate.
async fn failover(durability: &str) -> Failover {
    let (mut primary, backend) = (Server::start(&[]), Backend::start().await);
    let link = Link::to(primary.address()).await;
    let follows = link.address();
    let replica = tokio::task::spawn_blocking(move || Server::replica_of(follows)).await.unwrap();
    let settings = format!("[store]\ntimeout = \"300ms\"\ndurability = {durability}\n");
    let gate = Process::configured(&primary.url(), &backend.url(), &settings);
    let (stop, refused) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..8)
        .map(|client| {
            let (address, stop, refused) = (gate.address, Arc::clone(&stop), Arc::clone(&refused));
            tokio::spawn(async move {
                let mut keys = Vec::new();
                while !stop.load(SeqCst) {
                    let key = format!("{client}-{}", keys.len());
                    let answer = try_send(address, &post("/slow/5", &key, "pay")).await;
                    let answer = answer.expect("everybody is answered");
                    assert!([201, 503].contains(&answer.status), "{answer:?}");
                    refused.fetch_or(answer.status == 503, SeqCst);
                    keys.push(key);
                }
                keys
            })
        })
        .collect();
    eventually("there is load", async || backend.count() >= 100).await;
    // What was sent so far is known to the replica.
    let heard = keys_of(&backend);
    eventually("it is on the replica", async || replica.has_all_of(&primary)).await;
    link.hold();
    refused.store(false, SeqCst);
    let before = backend.count();
    eventually("the replica is behind, or missed", async || {
        backend.count() >= before + 100 || refused.load(SeqCst)
    })
    .await;
    stop.store(true, SeqCst);
    let mut keys = Vec::new();
    for client in clients {
        keys.extend(client.await.unwrap());
    }
    link.cut();
    primary.kill();
    replica.promote();
    let other = Process::start(&replica.url(), &backend.url(), None);
    for key in &keys {
        let retry = pay(other.address, "/slow/5", key).await;
        assert!([201, 409].contains(&retry.status), "{retry:?}");
    }
    let known = heard.iter().map(|key| backend.executions(key));
    assert!(known.max() <= Some(1), "what the replica had heard of is not executed again");
    let executions: Vec<_> = keys.iter().map(|key| backend.executions(key)).collect();
    Failover {
        tried: keys.len(),
        executed: executions.iter().filter(|executions| **executions > 0).count(),
        doubled: executions.iter().filter(|executions| **executions > 1).count(),
        told: other.readyz().await.1,
    }
}

fn keys_of(backend: &Backend) -> Vec<String> {
    let requests = backend.requests();
    requests.iter().filter_map(|seen| seen.header("idempotency-key")).map(str::to_owned).collect()
}

/// Row 7: what is not on the replica is not sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_replica_knows_every_claim_that_was_sent() {
    let failover = failover("{ replicated = 1 }").await;
    println!("replicated = 1: {failover:?}");
    assert_eq!(failover.doubled, 0, "{failover:?}");
}

/// Row 7, measured: what the replica had not heard of runs again, and an operator is told
/// that this may be so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_replica_without_the_last_claims() {
    let failover = failover("\"acknowledged\"").await;
    println!("acknowledged: {failover:?}");
    assert!(failover.doubled > 0, "the replica was behind: {failover:?}");
    assert!(failover.told.contains("or replaced"), "{failover:?}");
}

/// Row 7: without the replica nothing is claimed, and `/readyz` says why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_replica_nothing_is_sent() {
    let (primary, backend) = (Server::start(&[]), Backend::start().await);
    let address = primary.address();
    let replica = tokio::task::spawn_blocking(move || Server::replica_of(address)).await.unwrap();
    let settings = "[store]\ndurability = { replicated = 1 }\n";
    let gate = Process::configured(&primary.url(), &backend.url(), settings);
    assert_eq!(pay(gate.address, "/pay", "with").await.status, 201);
    drop(replica);
    eventually("it is gone", async || primary.info("connected_slaves") == 0).await;
    assert_eq!(pay(gate.address, "/pay", "without").await.status, 503);
    assert_eq!(backend.executions("without"), 0);
    eventually("the replica is missed", async || {
        gate.readyz().await.1.contains("0 replicas in step")
    })
    .await;
}
