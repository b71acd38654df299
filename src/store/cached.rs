//! The responses that this process has seen lately.
//!
//! A replay from here costs no round trip and no task switch. It needs no
//! invalidation: a recorded response changes only when its retention has passed,
//! which [`ResponseCache::peek`] checks, or when an operator forgets the key, which
//! the gate that does it tells its own cache.

use std::{sync::Arc, thread};

use quick_cache::{OptionsBuilder, Weighter, sync::Cache};

use crate::{
    engine::record::{Done, StoreKey, Timestamp},
    mutants::{Mutant, is_active},
};

/// A part of the cache that has a lock of its own is at least this large, because
/// no single response can be larger than half of the part that it falls into.
const PART: u64 = 4 << 20;

/// The share for responses that were asked for again. Retries come soon after their request
/// or never, so those that nobody has asked for yet get as much: more would limit what a
/// single one may take. Keys whose response had to go have no claim to come back.
const ASKED_FOR: f64 = 0.5;

/// The expected size of a response, which only sizes the first allocation: rather too
/// large, so that an unused cache takes little.
const TYPICAL: u64 = 16 << 10;

/// An in-process cache of done records, bounded in bytes.
#[derive(Debug)]
pub struct ResponseCache {
    cache: Cache<StoreKey, Kept, Bytes>,
}

/// A response, and its weight: whoever has to make room asks several times, of records that
/// nobody has touched for long.
#[derive(Clone, Debug)]
struct Kept {
    done: Arc<Done>,
    weight: u64,
}

#[derive(Clone, Debug)]
struct Bytes;

impl Weighter<StoreKey, Kept> for Bytes {
    fn weight(&self, _: &StoreKey, kept: &Kept) -> u64 {
        kept.weight
    }
}

impl ResponseCache {
    /// A cache that holds up to `bytes` of responses, as [`Done::weight`] counts
    /// them. With 0 it holds nothing.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let threads = thread::available_parallelism().map_or(1, usize::from) as u64;
        let parts = 1_usize << (bytes / PART).clamp(1, 4 * threads).ilog2();
        let options = OptionsBuilder::new()
            .weight_capacity(bytes)
            .hot_allocation(ASKED_FOR)
            .ghost_allocation(0.0)
            .estimated_items_capacity(usize::try_from(bytes / TYPICAL).unwrap_or(usize::MAX))
            .shards(parts)
            .build()
            .expect("both capacities are set");
        let cache = Cache::with_options(options, Bytes, Default::default(), Default::default());
        Self { cache }
    }

    /// The recorded response, if it is here and still retained at `now`.
    #[must_use]
    pub fn peek(&self, key: &StoreKey, now: Timestamp) -> Option<Arc<Done>> {
        let Kept { done, .. } = self.cache.get(key)?;
        (now < done.retained_until).then_some(done)
    }

    /// Keeps a recorded response, for which others may have to go.
    pub fn insert(&self, key: StoreKey, done: Arc<Done>) {
        // What weighs nothing is kept for ever.
        let weight = if is_active(Mutant::CacheWithoutLimit) { 0 } else { done.weight() as u64 };
        self.cache.insert(key, Kept { done, weight });
    }

    /// Forgets a response.
    pub fn remove(&self, key: &StoreKey) {
        self.cache.remove(key);
    }

    /// How many bytes are held.
    #[must_use]
    pub fn weight(&self) -> u64 {
        self.cache.weight()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{
        fingerprint::Fingerprint,
        record::{Fence, Recorded, StoredResponse, Token},
    };

    fn done(body: usize) -> Arc<Done> {
        let head = http::Response::new(()).into_parts().0;
        Arc::new(Done {
            fence: Fence::new(Token([1; 16])),
            fingerprint: Fingerprint::from_bytes([2; 32]),
            completed: Timestamp(0),
            retained_until: Timestamp(100),
            response: Recorded::Whole(StoredResponse::new(head, vec![0; body].into(), None)),
        })
    }

    fn key(number: u16) -> StoreKey {
        let mut bytes = [0; 32];
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        StoreKey::from_bytes(bytes)
    }

    #[test]
    fn a_response_is_found_until_its_retention_passes() {
        let cache = ResponseCache::new(1 << 20);
        cache.insert(key(1), done(10));
        assert!(cache.peek(&key(1), Timestamp(99)).is_some());
        assert!(cache.peek(&key(1), Timestamp(100)).is_none());
        cache.remove(&key(1));
        assert!(cache.peek(&key(1), Timestamp(0)).is_none());
    }

    #[test]
    fn the_bound_counts_bytes() {
        let cache = ResponseCache::new(1 << 20);
        for number in 0..1000 {
            cache.insert(key(number), done(10_000));
            assert!(cache.weight() <= 1 << 20);
        }
        assert!(cache.weight() > 900_000, "{}", cache.weight());
    }

    /// The cache is full of responses that nobody asks for, and a retry comes after a while.
    #[test]
    fn the_latest_third_of_a_full_cache_is_there() {
        let cache = ResponseCache::new(1 << 20);
        let fit = u16::try_from((1 << 20) / done(1000).weight()).unwrap();
        for number in 0..4 * fit {
            cache.insert(key(number), done(1000));
        }
        for number in 4 * fit - fit / 3..4 * fit {
            assert!(cache.peek(&key(number), Timestamp(0)).is_some(), "{number} of {}", 4 * fit);
        }
    }

    #[test]
    fn a_response_of_a_mebibyte_fits_into_the_usual_cache() {
        let cache = ResponseCache::new(64 << 20);
        cache.insert(key(1), done(1 << 20));
        assert!(cache.peek(&key(1), Timestamp(0)).is_some());
    }

    #[test]
    fn an_empty_cache_holds_nothing() {
        let cache = ResponseCache::new(0);
        cache.insert(key(1), done(10));
        assert!(cache.peek(&key(1), Timestamp(0)).is_none());
    }
}
