//! What was forced to the journal and may not be in the tables yet, and how to look
//! through it.
//!
//! 1. Only what lasts is in here: the committer adds a batch when its frame was forced.
//! 2. Whoever looks for a key looks here first and then into the tables that he got
//!    here at the same moment. What left this place before is in them; what has
//!    expired may be, or not.
//! 3. The tables are opened once after each transaction, by the thread that made it:
//!    opening waits for locks that a transaction holds for milliseconds.
//! 4. Only the committer adds, so to it a key that is absent stays absent as long as
//!    nothing has left this place ([`Recent::moved`]).

use std::{
    collections::BTreeMap,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use redb::Database;

use super::{
    disk::{Hand, Room, Space},
    responses::Haste,
    row::{Changes, Row},
    tables::{self, Broken, Reader, halves},
};
use crate::{
    ambient::Ambient,
    engine::record::{StoreKey, Timestamp},
    store::StoreError,
};

/// What the threads and the store's handles share.
#[derive(Debug)]
pub(super) struct Shared {
    // Dropped before the database, whose tables it holds.
    recent: RwLock<Recent>,
    pub(super) database: Database,
    pub(super) ambient: Arc<dyn Ambient>,
    /// A write has failed.
    pub(super) failed: AtomicBool,
    /// Frames of the journal that were forced to the disk.
    pub(super) commits: AtomicU64,
    pub(super) hand: Hand,
    room: Room,
    /// The tables wait for room.
    pub(super) lacks_room: AtomicBool,
    /// The store is being dropped.
    pub(super) closing: AtomicBool,
}

/// Says so when a thread panics: otherwise others would wait for it.
pub(super) struct Fuse<'s>(pub(super) &'s Shared);

impl Drop for Fuse<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.failed.store(true, Relaxed);
        }
    }
}

/// Changes on their way from the journal to the tables.
#[derive(Debug)]
pub(super) struct Recent {
    /// They grow with every batch.
    pub(super) growing: Changes,
    /// How many bytes of the journal these take; in memory it is about as many.
    pub(super) weight: usize,
    /// They are being put into the tables.
    pub(super) moving: Option<Arc<Changes>>,
    /// How many times changes have left for the tables.
    pub(super) moved: u64,
    /// The tables as they were committed last.
    pub(super) tables: Arc<Reader>,
}

/// What a key holds, and until when that is certain.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) row: Option<Arc<Row>>,
    /// [`Recent::moved`] before the look into the tables.
    pub(super) as_of: u64,
}

impl Shared {
    pub(super) fn new(
        database: Database,
        tables: Reader,
        ambient: Arc<dyn Ambient>,
        room: Room,
    ) -> Self {
        let recent = Recent {
            growing: Changes::new(),
            weight: 0,
            moving: None,
            moved: 0,
            tables: Arc::new(tables),
        };
        Self {
            recent: RwLock::new(recent),
            database,
            ambient,
            failed: AtomicBool::new(false),
            commits: AtomicU64::new(0),
            hand: Hand::empty(),
            room,
            lacks_room: AtomicBool::new(false),
            closing: AtomicBool::new(false),
        }
    }

    /// How much room there is, as far as that is known.
    pub(super) fn room(&self) -> Space {
        self.room.space()
    }

    /// Whether the tables do not wait for room.
    pub(super) fn has_room(&self) -> bool {
        !self.lacks_room.load(Relaxed)
    }

    /// Whether the store is being dropped.
    pub(super) fn ends(&self) -> bool {
        self.closing.load(Relaxed)
    }

    pub(super) fn recent(&self) -> RwLockReadGuard<'_, Recent> {
        // Nothing panics while it changes these maps, so they are whole.
        self.recent.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn recent_mut(&self) -> RwLockWriteGuard<'_, Recent> {
        // As above.
        self.recent.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses when a write has failed.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        if self.failed.load(Relaxed) { Err(StoreError::failed()) } else { Ok(()) }
    }

    /// The row of `key`; what has expired `now` may be left out. In haste, one that would have to
    /// be waited for is an error.
    pub(super) fn find(
        &self,
        key: &StoreKey,
        now: Timestamp,
        haste: Haste,
    ) -> Result<Found, Broken> {
        let recent = self.recent();
        let as_of = recent.moved;
        if let Some(row) = recent.get(key) {
            return Ok(Found { row: row.clone(), as_of });
        }
        let tables = Arc::clone(&recent.tables);
        drop(recent);
        let row = tables.row(key, now, haste)?.map(Arc::new);
        Ok(Found { row, as_of })
    }

    /// The number of rows, expired or not.
    pub(super) fn count(&self) -> Result<u64, Broken> {
        let recent = self.recent();
        let is_there = |changes: &Changes| -> Vec<_> {
            changes.iter().map(|(key, row)| (*key, row.is_some())).collect()
        };
        let mut changes: BTreeMap<StoreKey, bool> = BTreeMap::new();
        let moving = recent.moving.as_deref().map(is_there).unwrap_or_default();
        let growing = is_there(&recent.growing);
        let tables = Arc::clone(&recent.tables);
        drop(recent);
        changes.extend(moving);
        changes.extend(growing);
        let (mut count, mut gone) = (tables.count()?, 0);
        for (key, row) in &changes {
            match (row, tables.has(key)?) {
                (true, false) => count += 1,
                (false, true) => gone += 1,
                (true, true) | (false, false) => {}
            }
        }
        Ok(count - gone)
    }

    /// Rows after `after`, expired or not, about `limit` of them, and where the
    /// listing goes on.
    pub(super) fn list(
        &self,
        after: Option<StoreKey>,
        limit: usize,
    ) -> Result<(Changes, Option<StoreKey>), Broken> {
        use std::ops::Bound::{Excluded, Unbounded};

        let range = (after.map_or(Unbounded, Excluded), Unbounded);
        let page = |changes: &Changes| -> Changes {
            changes.range(range).take(limit).map(|(key, row)| (*key, row.clone())).collect()
        };
        let recent = self.recent();
        let growing = page(&recent.growing);
        let moving = recent.moving.as_deref().map(page).unwrap_or_default();
        let tables = Arc::clone(&recent.tables);
        drop(recent);
        let (tables, end) = tables.list(after.as_ref(), limit)?;

        // A source with more than its part of the page says nothing about what follows.
        let full = [&moving, &growing].into_iter().filter(|source| source.len() == limit);
        let ends = full.filter_map(|source| source.keys().next_back().copied());
        let end = ends.chain(end).min();
        let sources = [tables, moving, growing];
        let mut rows = Changes::new();
        // Later sources are newer and go over earlier ones.
        sources.into_iter().for_each(|source| rows.extend(source));
        if let Some(end) = end {
            rows.retain(|key, _| *key <= end);
        }
        Ok((rows, end))
    }
}

impl Recent {
    /// Whether another key with the same half is here, or was.
    pub(super) fn has_twin(&self, key: &StoreKey) -> bool {
        has_twin(&self.growing, key)
            || self.moving.as_ref().is_some_and(|moving| has_twin(moving, key))
    }

    /// What is known of `key` here; `None` within: it was removed.
    pub(super) fn get(&self, key: &StoreKey) -> Option<&Option<Arc<Row>>> {
        self.growing.get(key).or_else(|| self.moving.as_ref()?.get(key))
    }
}

/// Whether `changes` have another key with the same half: the tables have one place for both.
pub(super) fn has_twin(changes: &Changes, key: &StoreKey) -> bool {
    let [first, last] = [[0; 16], [0xff; 16]].map(|other| tables::whole(halves(key).0, &other));
    changes.range(first..=last).any(|(other, _)| other != key)
}
