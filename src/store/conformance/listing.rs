//! What operators see.

use std::{collections::HashMap, time::Duration};

use super::{
    LONG, Suite,
    sample::{self, KEEP, done, owner, pending, unknown},
};
use crate::{
    engine::{
        policy::Keep,
        record::{Record, StoreKey, Summary},
    },
    store::{Claimed, Write},
};

/// How many records of each kind are listed.
const EACH: usize = 60;

/// More pages than any listing of this suite can have.
const PAGES: usize = 100_000;

const SHORT: Duration = Duration::from_millis(20);

impl Suite {
    /// The store answers.
    ///
    /// # Panics
    /// When it does not.
    pub async fn a_ping_is_answered(&self) {
        self.store.ping().await.unwrap_or_else(|error| panic!("ping: {error}"));
    }

    /// A listing in pages of three comes to an end, shows every record that is
    /// there at least once and as it is, and none that is gone.
    ///
    /// # Panics
    /// When that is not so.
    pub async fn a_listing_in_small_pages_is_complete(&self) {
        let retained = self.time.now().after(LONG);
        let mut there: Vec<(StoreKey, Record)> = Vec::new();
        let mut gone: Vec<StoreKey> = Vec::new();
        for _ in 0..EACH {
            let fence = owner();
            there.push((self.claimed(&pending(fence)).await, pending(fence)));
            for last in [unknown(fence.next()), done(fence.next(), retained, "listed")] {
                let key = self.claimed(&pending(fence)).await;
                self.written(&key, &last, KEEP).await;
                there.push((key, last));
            }
            let key = self.claimed(&pending(fence)).await;
            let keep = Keep { record: LONG, response: Some(SHORT) };
            let last = done(fence.next(), self.time.now().after(SHORT), "expired");
            self.written(&key, &last, keep).await;
            there.push((key, last));

            let key = sample::key();
            let keep = Keep { record: SHORT, response: None };
            assert_eq!(self.claim(&key, &pending(fence), keep).await, Claimed::Mine);
            gone.push(key);
            let key = self.claimed(&pending(fence)).await;
            assert_eq!(self.remove(&key, fence).await, Write::Applied);
            gone.push(key);
        }
        for key in &gone {
            self.until(key, "the record is gone", Option::is_none).await;
        }
        for (key, record) in &mut there {
            if let Record::Done(done) = record
                && done.retained_until != retained
            {
                *record = Record::Expired(done.tombstone());
                self.until(key, "the response is gone", |record| {
                    matches!(record, Some(Record::Expired(_)))
                })
                .await;
            }
        }

        // Pages of nothing lead on, too.
        for limit in [3, 0] {
            let listed = self.listed(limit).await;
            for (key, record) in &there {
                assert_eq!(listed.get(key), Some(&Summary::of(record)), "{key} in the listing");
            }
            for key in &gone {
                assert_eq!(listed.get(key), None, "{key}, which is gone, in the listing");
            }
        }
    }

    async fn listed(&self, limit: usize) -> HashMap<StoreKey, Summary> {
        let mut listed = HashMap::new();
        let mut cursor = None;
        for _ in 0..PAGES {
            let page = self.store.scan(cursor, limit).await;
            let page = page.unwrap_or_else(|error| panic!("scan: {error}"));
            listed.extend(page.records);
            cursor = page.next;
            if cursor.is_none() {
                return listed;
            }
        }
        panic!("the listing has no end");
    }
}
