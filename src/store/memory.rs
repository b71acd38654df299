//! Records in this process's memory: gone with it.
//!
//! For tests, for demos, and for services whose duplicates come within one
//! process's life. Expired records are swept a few at a time, by the writes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;

use super::{Claimed, Cursor, Page, Store, StoreError, Write};
use crate::{
    ambient::{Ambient, System},
    engine::{
        policy::Keep,
        record::{Fence, Record, StoreKey, Summary, Timestamp},
    },
    mutants::{Mutant, is_active},
};

/// How many expired records one write removes at the most.
const SWEEP: usize = 4;

/// A store that lives and dies with the process.
///
/// ```
/// use oncegate::store::{MemoryStore, Store};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let store = MemoryStore::default();
/// assert!(store.ping().await.is_ok());
/// # });
/// ```
#[derive(Debug)]
pub struct MemoryStore {
    ambient: Arc<dyn Ambient>,
    shelf: Mutex<Shelf>,
}

#[derive(Debug, Default)]
struct Shelf {
    entries: BTreeMap<StoreKey, Entry>,
    by_expiry: BTreeSet<(Timestamp, StoreKey)>,
}

#[derive(Debug)]
struct Entry {
    record: Record,
    written: Timestamp,
    until: Timestamp,
    response_until: Option<Timestamp>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new(Arc::new(System))
    }
}

impl MemoryStore {
    /// An empty store that tells the time by `ambient`.
    #[must_use]
    pub fn new(ambient: Arc<dyn Ambient>) -> Self {
        Self { ambient, shelf: Mutex::default() }
    }

    /// The number of records, expired ones that were not swept yet included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shelf().entries.len()
    }

    /// Whether there is no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        // A panic while the lock is held cannot leave an entry half written.
        self.shelf.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Shelf {
    /// What is there at `now`, as a reader sees it.
    fn read(&self, key: &StoreKey, now: Timestamp) -> Option<Record> {
        let entry = self.entries.get(key).filter(|entry| now < entry.until)?;
        Some(match (&entry.record, entry.response_until) {
            (Record::Done(done), Some(until)) if now >= until => Record::Expired(done.tombstone()),
            (record, _) => record.clone(),
        })
    }

    fn write(&mut self, key: &StoreKey, record: &Record, keep: Keep, now: Timestamp) {
        let written = if is_active(Mutant::AgeFromClaim) {
            self.entries.get(key).map_or(now, |before| before.written)
        } else {
            now
        };
        self.forget(key);
        let until = now.after(keep.record);
        let response_until = keep.response.map(|keep| now.after(keep));
        self.by_expiry.insert((until, *key));
        self.entries.insert(*key, Entry { record: record.clone(), written, until, response_until });
        self.sweep(now);
    }

    fn forget(&mut self, key: &StoreKey) {
        if let Some(entry) = self.entries.remove(key) {
            self.by_expiry.remove(&(entry.until, *key));
        }
    }

    fn sweep(&mut self, now: Timestamp) {
        for _ in 0..SWEEP {
            match self.by_expiry.first().copied() {
                Some((until, key)) if until <= now => self.forget(&key),
                _ => break,
            }
        }
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn claim(
        &self,
        key: &StoreKey,
        record: &Record,
        keep: Keep,
    ) -> Result<Claimed, StoreError> {
        let now = self.ambient.now();
        let mut shelf = self.shelf();
        match shelf.read(key, now) {
            Some(held)
                if held.fence().token != record.fence().token
                    || is_active(Mutant::ForgetOwnClaim) =>
            {
                Ok(Claimed::Held(held))
            }
            Some(_) => Ok(Claimed::Mine),
            None => {
                shelf.write(key, record, keep, now);
                Ok(Claimed::Mine)
            }
        }
    }

    async fn swap(
        &self,
        key: &StoreKey,
        expect: Fence,
        record: &Record,
        keep: Keep,
    ) -> Result<Write, StoreError> {
        let now = self.ambient.now();
        let mut shelf = self.shelf();
        let admitted = shelf
            .read(key, now)
            .is_some_and(|held| expect.admits(held.fence()) || record.fence().admits(held.fence()));
        if !admitted {
            return Ok(Write::Fenced);
        }
        shelf.write(key, record, keep, now);
        Ok(Write::Applied)
    }

    async fn remove(&self, key: &StoreKey, expect: Fence) -> Result<Write, StoreError> {
        let now = self.ambient.now();
        let mut shelf = self.shelf();
        match shelf.read(key, now) {
            Some(held) if !expect.admits(held.fence()) => Ok(Write::Fenced),
            _ => {
                shelf.forget(key);
                Ok(Write::Applied)
            }
        }
    }

    async fn get(&self, key: &StoreKey) -> Result<Option<Record>, StoreError> {
        Ok(self.shelf().read(key, self.ambient.now()))
    }

    async fn age(&self, key: &StoreKey) -> Result<Option<(Fence, Duration)>, StoreError> {
        let now = self.ambient.now();
        let shelf = self.shelf();
        let entry = shelf.entries.get(key).filter(|entry| now < entry.until);
        Ok(entry.map(|entry| (entry.record.fence(), now.since(entry.written))))
    }

    async fn scan(&self, cursor: Option<Cursor>, limit: usize) -> Result<Page, StoreError> {
        let (now, limit) = (self.ambient.now(), limit.max(1));
        let shelf = self.shelf();
        let after = cursor.and_then(|cursor| StoreKey::from_hex(&cursor.0));
        let start = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let records: Vec<_> = shelf
            .entries
            .range((start, std::ops::Bound::Unbounded))
            .filter_map(|(key, _)| Some((*key, Summary::of(&shelf.read(key, now)?))))
            .take(limit)
            .collect();
        let next = (records.len() == limit)
            .then(|| records.last().map(|(key, _)| Cursor(key.to_string())))
            .flatten();
        Ok(Page { records, next })
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
