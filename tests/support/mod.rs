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
#[cfg(feature = "redis")]
pub mod redis;

use std::{
    future::Future,
    time::{Duration, Instant},
};

/// Waits until `condition` holds, or fails.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let until = Instant::now() + Duration::from_secs(20);
    while !condition().await {
        assert!(Instant::now() < until, "did not happen within 20 s: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
