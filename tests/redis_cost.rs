//! What a keyed request costs on Redis, counted by Redis itself: reads from the
//! gate's socket, one request at a time.

#![cfg(all(feature = "proxy", feature = "redis"))]
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use support::{
    backend::Backend,
    client::{post, send},
    gate::Gate,
    redis::Server,
};

/// Round trips so far. The gates look at the server every second, each time with one
/// `INFO` in one piece; those do not count, and neither does this question.
fn reads(redis: &Server) -> u64 {
    let info = redis.every_info();
    let of_info = info.get::<String>("cmdstat_info").unwrap_or_default();
    let calls = of_info.split(',').find_map(|field| field.strip_prefix("calls="));
    let looks: u64 = calls.map_or(0, |calls| calls.parse().unwrap());
    info.get::<u64>("total_reads_processed").unwrap() - looks
}

#[tokio::test]
async fn first_request_two_replay_one_cached_replay_none() {
    let (redis, backend) = (Server::start(&[]), Backend::start().await);
    let first_gate = Gate::on(&redis.url(), &backend.url(), "").await;
    let other_gate = Gate::on(&redis.url(), &backend.url(), "").await;
    // Connections are open and scripts are loaded once for all.
    for gate in [&first_gate, &other_gate] {
        send(gate.address, &post("/pay", &format!("warm-{}", gate.address.port()), "")).await;
    }
    let idle = reads(&redis);
    let own = reads(&redis) - idle;
    let cost = async |gate: &Gate, key: &str| {
        let before = reads(&redis);
        let answer = send(gate.address, &post("/pay", key, "pay")).await;
        assert_eq!(answer.status, 201);
        reads(&redis) - before - own
    };
    for key in ["a", "b", "c"] {
        assert_eq!(cost(&first_gate, key).await, 2, "claim and record");
        assert_eq!(cost(&first_gate, key).await, 0, "the response is at hand");
        assert_eq!(cost(&other_gate, key).await, 1, "another process looks once");
        assert_eq!(cost(&other_gate, key).await, 0, "and has it at hand then");
        assert_eq!(backend.executions(key), 1);
    }
}

#[tokio::test]
async fn without_a_key_the_store_hears_nothing() {
    let (redis, backend) = (Server::start(&[]), Backend::start().await);
    let gate = Gate::on(&redis.url(), &backend.url(), "").await;
    let before = reads(&redis);
    let own = reads(&redis) - before;
    for _ in 0..20 {
        let request = support::client::post_with("/pay", &[], "pay");
        assert_eq!(send(gate.address, &request).await.status, 201);
    }
    assert_eq!(reads(&redis) - before - own, own);
}
