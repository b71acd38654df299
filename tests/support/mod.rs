//! What the tests stand on: a backend with a ledger, a raw client, gates, Redis.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

#[cfg(feature = "proxy")]
pub mod backend;
pub mod client;
#[cfg(feature = "embedded")]
pub mod disk;
#[cfg(feature = "proxy")]
pub mod gate;
#[cfg(feature = "proxy")]
pub mod http2;
#[cfg(feature = "proxy")]
pub mod keepalive;
pub mod ports;
#[cfg(feature = "redis")]
pub mod redis;
pub mod scripted;
pub mod sockets;
#[cfg(all(feature = "proxy", feature = "redis"))]
pub mod storm;

use std::{
    future::Future,
    time::{Duration, Instant},
};

/// Waits until `condition` holds, or fails.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let until = Instant::now() + patience();
    while !condition().await {
        assert!(Instant::now() < until, "did not happen in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Fails unless `attempt`, which measures something, takes less than `limit`. A machine that is
/// busy with something else can hold up one attempt, and hardly three.
pub async fn within<F: Future<Output = Duration>>(limit: Duration, mut attempt: impl FnMut() -> F) {
    let mut took = Vec::new();
    while took.len() < 3 {
        took.push(attempt().await);
        if took.last() < Some(&limit) {
            return;
        }
    }
    panic!("took {took:?}, and should take less than {limit:?}");
}

/// A seed, which is printed: `ONCEGATE_SEED` takes the same decisions again.
#[expect(clippy::print_stdout, reason = "shown when the test fails")]
pub fn seed() -> u64 {
    let given = std::env::var("ONCEGATE_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| u64::from(std::process::id()));
    println!("ONCEGATE_SEED={seed}");
    seed
}

/// How long to wait for what should happen. Where it should not, because a rule is
/// broken on purpose, `ONCEGATE_PATIENCE` (seconds) makes the wait short.
pub fn patience() -> Duration {
    let seconds = std::env::var("ONCEGATE_PATIENCE").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(20))
}
