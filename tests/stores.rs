//! Every store keeps the promise of the trait, and each its own on top of that.

#![allow(clippy::unwrap_used, reason = "a test says by its panic what did not hold")]

#[cfg(any(feature = "embedded", feature = "redis"))]
#[path = "stores/sample.rs"]
mod sample;
#[cfg(any(feature = "embedded", feature = "redis"))]
mod support;

#[cfg(feature = "embedded")]
#[path = "stores/embedded.rs"]
mod embedded;
#[cfg(feature = "embedded")]
#[path = "stores/full.rs"]
mod full;
#[cfg(feature = "embedded")]
#[path = "stores/hanging.rs"]
mod hanging;
#[cfg(feature = "embedded")]
#[path = "stores/power.rs"]
mod power;
#[cfg(feature = "redis")]
#[path = "stores/redis.rs"]
mod redis_server;
#[cfg(feature = "redis")]
#[path = "stores/standing.rs"]
mod standing;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use oncegate::{
    ambient::{Ambient, System},
    engine::record::{Timestamp, Token},
    store::{
        MemoryStore,
        conformance::{Passing, RealTime, Suite},
    },
};

/// A clock that the test sets.
#[derive(Debug)]
struct Simulated(AtomicU64);

impl Simulated {
    fn clock() -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(1_000_000)))
    }
}

impl Ambient for Simulated {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(SeqCst))
    }

    fn token(&self) -> Token {
        System.token()
    }
}

#[async_trait::async_trait]
impl Passing for Simulated {
    fn now(&self) -> Timestamp {
        Ambient::now(self)
    }

    async fn elapse(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_millis()).unwrap(), SeqCst);
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_conforms() {
    let clock = Simulated::clock();
    let store = MemoryStore::new(clock.clone());
    Suite::new(Arc::new(store), clock).run().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_conforms_in_real_time() {
    Suite::new(Arc::new(MemoryStore::default()), Arc::new(RealTime)).run().await;
}
