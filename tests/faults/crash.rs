//! Gates that die or sleep: rows 1 to 3.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    is_in_use, is_unknown, pay, spawn_pay,
    support::{
        backend::Backend,
        client::{Connection, post},
        eventually,
        gate::Process,
        redis::{Link, Server},
    },
};

const LEASE: Duration = Duration::from_millis(300);
const SETTINGS: &str = "[upstream]\nresponse_timeout = \"3s\"\n[store]\ntimeout = \"10s\"\n\
                        [idempotency]\nlease = \"300ms\"\n";

/// Row 1, with a gate that lives on: it neither takes over nor locks up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_another_gate_lives() {
    let (redis, backend) = (Server::start(&[]), Backend::start().await);
    let [doomed, other] =
        [(); 2].map(|()| Process::configured(&redis.url(), &backend.url(), SETTINGS));
    let running = spawn_pay(doomed.address, "/gate/a", "k");
    eventually("the backend has it", async || backend.count() == 1).await;
    doomed.kill();
    assert_eq!(running.await.unwrap(), None, "a killed gate answers nobody");
    backend.open("a", 1000);
    eventually("the lease passes", async || {
        let retry = pay(other.address, "/gate/a", "k").await;
        assert!(is_in_use(&retry) || is_unknown(&retry, "owner_lost"), "{retry:?}");
        is_unknown(&retry, "owner_lost")
    })
    .await;
    let new = Process::configured(&redis.url(), &backend.url(), SETTINGS);
    assert!(is_unknown(&pay(new.address, "/gate/a", "k").await, "owner_lost"));
    assert_eq!(backend.executions("k"), 1);
}

/// Row 2.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asleep_for_three_leases_while_the_backend_works() {
    let (redis, backend) = (Server::start(&[]), Backend::start().await);
    let [sleeper, other] =
        [(); 2].map(|()| Process::configured(&redis.url(), &backend.url(), SETTINGS));
    let running = spawn_pay(sleeper.address, "/gate/a", "k");
    eventually("the backend has it", async || backend.count() == 1).await;
    sleeper.pause();
    let asleep = Instant::now();
    eventually("the lease passes", async || {
        is_unknown(&pay(other.address, "/gate/a", "k").await, "owner_lost")
    })
    .await;
    backend.open("a", 1000);
    while asleep.elapsed() < 3 * LEASE {
        let duplicate = pay(other.address, "/gate/a", "k").await;
        assert!(is_unknown(&duplicate, "owner_lost"), "{duplicate:?}");
        assert_eq!(backend.executions("k"), 1);
    }
    sleeper.resume();
    let late = running.await.unwrap().expect("the sleeper finishes what it began");
    assert_eq!((late.status, late.text()), (201, "pay"));
    assert_eq!(late.header("cache-status"), "oncegate; fwd=miss; stored");
    for gate in [&other, &sleeper] {
        let replay = pay(gate.address, "/gate/a", "k").await;
        assert_eq!((replay.status, &replay.body), (201, &late.body));
        assert_eq!(replay.header("idempotent-replayed"), "true");
    }
    assert_eq!(backend.executions("k"), 1);
}

/// Two gates on one Redis, the first of which sleeps with a claim that Redis has and
/// whose reply waits for it, and a client whose thread of the first has asked before.
async fn asleep_with_a_claim(settings: &str) -> (Server, Backend, Link, [Process; 2], Connection) {
    let (redis, backend) = (Server::start(&[]), Backend::start().await);
    let link = Link::to(redis.address()).await;
    let sleeper = Process::configured(&link.url(), &backend.url(), settings);
    let other = Process::configured(&redis.url(), &backend.url(), settings);
    let mut client = Connection::open(sleeper.address).await;
    assert_eq!(client.ask(&post("/pay", "warm", "pay")).await.status, 201);
    (redis, backend, link, [sleeper, other], client)
}

fn records(redis: &Server) -> usize {
    redis::cmd("DBSIZE").query(&mut redis.connection()).unwrap()
}

/// Row 3.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asleep_between_claim_and_send() {
    let (redis, backend, link, [sleeper, other], mut client) = asleep_with_a_claim(SETTINGS).await;
    let before = records(&redis);
    link.hold();
    let running = tokio::spawn(async move { client.ask(&post("/pay", "k", "pay")).await });
    eventually("Redis has the claim", async || records(&redis) == before + 1).await;
    sleeper.pause();
    link.release();
    eventually("the lease passes", async || {
        is_unknown(&pay(other.address, "/pay", "k").await, "owner_lost")
    })
    .await;
    assert_eq!(backend.executions("k"), 0, "the sleeper had not sent it");
    // No connection is fresh any more, so that one has to be made: it looks once more then.
    tokio::time::sleep(Duration::from_millis(600)).await;
    sleeper.resume();
    let late = running.await.unwrap();
    assert_eq!((late.status, late.text()), (201, "pay"));
    let replay = pay(other.address, "/pay", "k").await;
    assert_eq!((replay.text(), replay.header("idempotent-replayed")), ("pay", "true"));
    assert_eq!(backend.executions("k"), 1);
}

/// Row 3, where the key has been taken over meanwhile: the sleeper finds out before
/// it sends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replaced_between_claim_and_send() {
    let settings = format!("{SETTINGS}on_unknown = \"retry\"\n");
    let (redis, backend, link, [sleeper, other], mut client) = asleep_with_a_claim(&settings).await;
    let before = records(&redis);
    link.hold();
    let running = tokio::spawn(async move { client.ask(&post("/pay", "k", "pay")).await });
    eventually("Redis has the claim", async || records(&redis) == before + 1).await;
    sleeper.pause();
    link.release();
    eventually("the other gate takes over", async || {
        pay(other.address, "/pay", "k").await.status == 201
    })
    .await;
    assert_eq!(backend.executions("k"), 1);
    sleeper.resume();
    let late = running.await.unwrap();
    assert_eq!((late.status, late.problem()), (503, "store-unavailable".to_owned()));
    let replay = pay(sleeper.address, "/pay", "k").await;
    assert_eq!((replay.text(), replay.header("idempotent-replayed")), ("pay", "true"));
    assert_eq!(backend.executions("k"), 1, "sent by the one who holds it, and by nobody else");
}
