//! A store that does not answer: refused before the dispatch, unknown at the worst
//! after it, and never a second execution.

#![cfg(all(feature = "proxy", feature = "redis"))]
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use support::{
    backend::Backend,
    client::{Connection, post, post_with, send},
    eventually,
    gate::Gate,
    redis::{Link, Server},
};

const QUICK: &str = "[store]\ntimeout = \"200ms\"\n";

#[tokio::test]
async fn before_the_claim_the_request_is_refused() {
    let (mut redis, backend) = (Server::start(&[]), Backend::start().await);
    let gate = Gate::on(&redis.url(), &backend.url(), QUICK).await;
    assert_eq!(send(gate.address, &post("/pay", "known", "")).await.status, 201);
    redis.kill();
    let answer = send(gate.address, &post("/pay", "k", "")).await;
    assert_eq!((answer.status, answer.problem()), (503, "store-unavailable".to_owned()));
    assert_eq!(answer.header("retry-after"), "1");
    let known = send(gate.address, &post("/pay", "known", "")).await;
    assert_eq!(known.header("idempotent-replayed"), "true", "what is at hand is still replayed");
    assert_eq!(
        send(gate.address, &post_with("/pay", &[], "")).await.status,
        201,
        "unkeyed traffic goes on"
    );
    let readyz = send(gate.admin, b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(readyz.status, 503);
    assert_eq!((backend.executions("k"), gate.outcomes("store_unavailable").await), (0, 1));
    redis.restart();
    eventually("it works again", async || {
        send(gate.address, &post("/pay", "k", "")).await.status == 201
    })
    .await;
    assert_eq!(backend.executions("k"), 1);
}

/// Whether it is ready is everybody's to know, and why it is not the operator's.
#[tokio::test]
async fn why_the_gate_is_not_ready_needs_the_token() {
    let (mut redis, backend) = (Server::start(&[]), Backend::start().await);
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "0123456789abcdef\n").unwrap();
    let settings = format!("{QUICK}[admin]\ntoken_file = {token:?}");
    let gate = Gate::on(&redis.url(), &backend.url(), &settings).await;
    redis.kill();
    for (authorization, says_why) in [("", false), ("Bearer 0123456789abcdef", true)] {
        let request =
            format!("GET /readyz HTTP/1.1\r\nHost: a\r\nAuthorization: {authorization}\r\n\r\n");
        let answer = send(gate.admin, request.as_bytes()).await;
        assert_eq!(answer.status, 503);
        assert_eq!(answer.text().starts_with("store: "), says_why, "{}", answer.text());
        assert_eq!(answer.text() == "not ready\n", !says_why, "{}", answer.text());
    }
}

#[tokio::test]
async fn a_policy_may_forward_unprotected() {
    let (mut redis, backend) = (Server::start(&[]), Backend::start().await);
    let settings = format!("{QUICK}[idempotency]\non_store_down = \"pass\"");
    let gate = Gate::on(&redis.url(), &backend.url(), &settings).await;
    redis.kill();
    let answer = send(gate.address, &post("/pay", "k", "")).await;
    assert_eq!(
        (answer.status, answer.header("cache-status")),
        (201, "oncegate; fwd=bypass; detail=store-down")
    );
    assert_eq!(gate.outcomes("bypassed").await, 1);
}

#[tokio::test]
async fn what_is_forwarded_unprotected_has_its_time_as_well() {
    let (mut redis, backend) = (Server::start(&[]), Backend::start().await);
    let settings = format!(
        "{QUICK}[idempotency]\non_store_down = \"pass\"\n[upstream]\nresponse_timeout = \"200ms\""
    );
    let gate = Gate::on(&redis.url(), &backend.url(), &settings).await;
    redis.kill();
    let late = send(gate.address, &post("/hang", "k", "")).await;
    assert_eq!((late.status, late.problem()), (504, "upstream-failed".to_owned()));
    assert_eq!(late.header("cache-status"), "oncegate; fwd=bypass; detail=store-down");
    assert_eq!(gate.outcomes("bypassed").await, 1);
}

#[tokio::test]
async fn after_the_dispatch_the_response_is_delivered_and_recorded_later() {
    let (redis, backend) = (Server::start(&["--appendonly", "yes"]), Backend::start().await);
    let mut redis = redis;
    let gate = Gate::on(&redis.url(), &backend.url(), QUICK).await;
    let address = gate.address;
    let first = tokio::spawn(async move { send(address, &post("/gate/a", "k", "pay")).await });
    eventually("the backend has it", async || backend.count() == 1).await;
    redis.kill();
    backend.open("a", 1);
    let first = first.await.unwrap();
    assert_eq!((first.status, first.text()), (201, "pay"), "the upstream's answer is delivered");
    assert_eq!(first.header("cache-status"), "oncegate; fwd=miss; stored=?0");
    let duplicate = send(gate.address, &post("/gate/a", "k", "pay")).await;
    assert_eq!(duplicate.problem(), "key-in-use", "it is still being recorded");
    redis.restart();
    eventually("it is recorded", async || {
        send(gate.address, &post("/gate/a", "k", "pay")).await.status == 201
    })
    .await;
    let other = Gate::on(&redis.url(), &backend.url(), "").await;
    let replay = send(other.address, &post("/gate/a", "k", "pay")).await;
    assert_eq!((replay.text(), replay.header("idempotent-replayed")), ("pay", "true"));
    assert_eq!(backend.executions("k"), 1);
}

#[tokio::test]
async fn a_lost_reply_to_the_claim_locks_nobody_out() {
    let (redis, backend) = (Server::start(&[]), Backend::start().await);
    let link = Link::to(redis.address()).await;
    let gate = Gate::on(&link.url(), &backend.url(), QUICK).await;
    let mut client = Connection::open(gate.address).await;
    assert_eq!(client.ask(&post("/pay", "warm", "")).await.status, 201);
    link.lose_next_reply();
    let answer = client.ask(&post("/pay", "k", "pay")).await;
    assert!(!link.waits_to_cut(), "the reply to the claim was lost");
    assert_eq!((answer.status, answer.header("cache-status")), (201, "oncegate; fwd=miss; stored"));
    assert_eq!(backend.executions("k"), 1);
}

#[tokio::test]
async fn a_lost_reply_to_the_recording_changes_no_replay() {
    let (redis, backend) = (Server::start(&[]), Backend::start().await);
    let link = Link::to(redis.address()).await;
    let gate = Gate::on(&link.url(), &backend.url(), QUICK).await;
    let mut client = Connection::open(gate.address).await;
    assert_eq!(client.ask(&post("/pay", "warm", "")).await.status, 201);
    let first = tokio::spawn(async move { client.ask(&post("/gate/a", "k", "pay")).await });
    eventually("the backend has it", async || backend.executions("k") == 1).await;
    link.lose_next_reply();
    backend.open("a", 1);
    let first = first.await.unwrap();
    assert!(!link.waits_to_cut(), "the reply to the recording was lost");
    assert_eq!(first.header("cache-status"), "oncegate; fwd=miss; stored");
    let other = Gate::on(&redis.url(), &backend.url(), "").await;
    let replay = send(other.address, &post("/gate/a", "k", "pay")).await;
    assert_eq!((replay.status, &replay.body), (first.status, &first.body));
    assert_eq!(replay.header("idempotent-replayed"), "true");
    assert_eq!(backend.executions("k"), 1);
}
