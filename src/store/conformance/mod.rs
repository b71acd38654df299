//! One suite that every store passes.
//!
//! ```
//! use std::sync::Arc;
//! use oncegate::store::{MemoryStore, conformance::{RealTime, Suite}};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! Suite::new(Arc::new(MemoryStore::default()), Arc::new(RealTime)).run().await;
//! # });
//! ```
//!
//! Every case is a method that says what it proves and panics when that is not
//! so. Each works on keys of its own, so a store that holds other records may be
//! examined too. What has to expire is waited for, with a deadline; what has to be
//! there is kept for ten minutes. A slow machine makes the suite slow, not wrong.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{Claimed, Store, Write};
use crate::{
    ambient::{Ambient, System},
    engine::{
        policy::Keep,
        record::{Fence, Record, StoreKey, Timestamp},
    },
};

mod claims;
mod expiry;
mod listing;
mod sample;
mod swaps;

/// Longer than any run of the suite.
const LONG: Duration = Duration::from_secs(600);

/// How much time passes between two looks at a record that has to go.
const STEP: Duration = Duration::from_millis(5);

/// How many looks a record gets before the suite gives it up: ten seconds.
const STEPS: usize = 2000;

/// The clock that a store goes by, and a way to let time pass on it.
#[async_trait]
pub trait Passing: Send + Sync + 'static {
    /// What the clock shows.
    fn now(&self) -> Timestamp;

    /// Returns when at least `by` has passed.
    async fn elapse(&self, by: Duration);
}

/// The clock on the wall, for stores that go by that.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealTime;

#[async_trait]
impl Passing for RealTime {
    fn now(&self) -> Timestamp {
        System.now()
    }

    async fn elapse(&self, by: Duration) {
        tokio::time::sleep(by).await;
    }
}

/// The suite, over one store.
pub struct Suite {
    store: Arc<dyn Store>,
    /// The same store by another way, or by the same.
    other: Arc<dyn Store>,
    time: Arc<dyn Passing>,
}

impl Suite {
    /// A suite that examines `store`, which goes by the clock of `time`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, time: Arc<dyn Passing>) -> Self {
        Self { other: Arc::clone(&store), store, time }
    }

    /// Half of the callers that race each other take `other`: another handle of the same store,
    /// as another process has it.
    #[must_use]
    pub fn beside(self, other: Arc<dyn Store>) -> Self {
        Self { other, ..self }
    }

    /// Runs every case, in a Tokio runtime with its timer on.
    ///
    /// # Panics
    /// When the store does not do what [`Store`] promises.
    pub async fn run(&self) {
        self.a_ping_is_answered().await;

        self.an_absent_key_is_claimed().await;
        self.a_held_key_shows_what_is_there().await;
        self.a_repeated_claim_is_mine().await;
        self.of_fifty_claims_one_wins().await;
        self.of_fifty_claims_of_an_expired_key_one_wins().await;

        self.an_owner_swaps_and_repeats_it().await;
        self.another_token_is_fenced().await;
        self.a_delayed_write_does_not_undo_a_later_one().await;
        self.fences_compare_as_bytes_and_numbers().await;
        self.a_swap_of_an_absent_key_is_fenced().await;
        self.a_takeover_replaces_the_owner_it_saw().await;
        self.of_twenty_takeovers_one_wins().await;
        self.an_owner_removes_his_record().await;
        self.a_removal_removes_no_takeover().await;
        self.a_pending_record_shows_no_old_response().await;
        self.a_response_of_a_mebibyte_is_kept().await;

        self.a_response_goes_and_its_tombstone_stays().await;
        self.a_record_goes_and_its_key_is_free().await;
        self.a_swap_renews_the_keep().await;
        self.an_old_responses_end_leaves_the_new_one().await;
        self.a_tombstone_is_taken_over().await;
        self.what_is_kept_for_ever_is_young().await;
        self.an_age_counts_from_the_last_writing().await;

        self.a_listing_in_small_pages_is_complete().await;
    }

    /// The ways to the store in turn, for so many callers.
    fn ways(&self, callers: usize) -> impl Iterator<Item = Arc<dyn Store>> {
        [&self.store, &self.other].into_iter().cloned().cycle().take(callers)
    }

    async fn claim(&self, key: &StoreKey, record: &Record, keep: Keep) -> Claimed {
        self.store.claim(key, record, keep).await.unwrap_or_else(|error| panic!("claim: {error}"))
    }

    async fn age(&self, key: &StoreKey) -> Option<(Fence, Duration)> {
        self.store.age(key).await.unwrap_or_else(|error| panic!("age: {error}"))
    }

    async fn swap(&self, key: &StoreKey, expect: Fence, record: &Record, keep: Keep) -> Write {
        let write = self.store.swap(key, expect, record, keep).await;
        write.unwrap_or_else(|error| panic!("swap: {error}"))
    }

    async fn remove(&self, key: &StoreKey, expect: Fence) -> Write {
        self.store.remove(key, expect).await.unwrap_or_else(|error| panic!("remove: {error}"))
    }

    async fn get(&self, key: &StoreKey) -> Option<Record> {
        self.store.get(key).await.unwrap_or_else(|error| panic!("get: {error}"))
    }

    /// Claims a fresh key and checks that it was absent.
    async fn claimed(&self, record: &Record) -> StoreKey {
        let key = sample::key();
        assert_eq!(self.claim(&key, record, sample::KEEP).await, Claimed::Mine, "a fresh key");
        key
    }

    /// Writes the owner's next record and checks that the store took it.
    async fn written(&self, key: &StoreKey, record: &Record, keep: Keep) {
        let write = self.swap(key, record.fence(), record, keep).await;
        assert_eq!(write, Write::Applied, "the owner's write of {record:?}");
    }

    /// Lets time pass until `wanted` is true of the record.
    async fn until(
        &self,
        key: &StoreKey,
        what: &str,
        wanted: fn(&Option<Record>) -> bool,
    ) -> Option<Record> {
        for _ in 0..STEPS {
            let record = self.get(key).await;
            if wanted(&record) {
                return record;
            }
            self.time.elapse(STEP).await;
        }
        panic!("after {:?}, still not: {what}", STEP * STEPS as u32);
    }
}
