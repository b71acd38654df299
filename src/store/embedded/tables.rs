//! The tables of the data file, and how they are read.
//!
//! | table | key | value |
//! |---|---|---|
//! | [`meta`](super::meta) | | what the tables say of themselves |
//! | those of the [index] | half of the store key | when the record expires, where its row lies |
//! | those of the [responses] | | where they are in their file |
//! | `records` | (when it expires, half) | when its response did, the other half, head |
//!
//! Times are milliseconds since the Unix epoch; that of a response that never was is 0.
//!
//! 1. Only the index lies in the order of keys. All else lies in the order of time, where
//!    neighbours come and go together.
//! 2. A key of the index has exactly one row, and there are no others: where the index says
//!    among the responses, or, when it was left behind there, in `records` at the time that
//!    the index says. So a look takes two reads. A response that is over leaves its head to
//!    `records`.
//! 3. What is first in `records` expires first. Readers go by the times; what has expired is
//!    removed little by little.
//! 4. Keys that share 128 bits of their hash have one place. The second of them is an error,
//!    and never taken for the first.

use std::sync::Arc;

use bytes::Bytes;
use redb::{
    Database, ReadOnlyTable, ReadableDatabase, ReadableTable, StorageError, TableDefinition,
};

use super::{
    index::{self, Index, Place},
    peeking::File,
    responses::{self, Haste, Responses, Spot},
    row::{Changes, Row},
    would_wait,
};
use crate::{
    engine::record::{StoreKey, Timestamp},
    mutants::{Mutant, is_active},
    store::StoreError,
};

/// The layout of these tables and of the journal.
pub(super) const FORMAT: u64 = 8;

pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
pub(super) const RECORDS: TableDefinition<'_, Timed, Head> = TableDefinition::new("records");

pub(super) type Half = &'static [u8; 16];
pub(super) type Timed = (u64, Half);
pub(super) type Head = (u64, Half, &'static [u8]);

/// Trouble below the records: the transaction is of no use any more.
///
/// Boxed because redb's error is large and travels through every operation.
pub(super) type Broken = Box<redb::Error>;

/// What is known of the tables without looking into them.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) index: Index,
    pub(super) responses: Responses,
}

impl Layout {
    /// `None`: the tables were not written with this file of responses.
    pub(super) fn open(database: &Database, responses: File) -> Result<Option<Self>, Broken> {
        let Some(responses) = Responses::open(database, responses)? else { return Ok(None) };
        Ok(Some(Self { index: Index::open(database)?, responses }))
    }
}

/// The tables as they were at one moment. The pages of that moment stay in the file
/// as long as this is held.
#[derive(Debug)]
pub(super) struct Reader {
    index: index::Reading,
    responses: Arc<responses::Reading>,
    records: ReadOnlyTable<Timed, Head>,
}

impl Reader {
    /// The tables as the last transaction left them.
    pub(super) fn open(database: &Database, layout: &mut Layout) -> Result<Self, Broken> {
        let transaction = database.begin_read().map_err(broken)?;
        Ok(Self {
            index: layout.index.read(&transaction)?,
            responses: layout.responses.read(),
            records: transaction.open_table(RECORDS).map_err(broken)?,
        })
    }

    /// Whether `key` is there, expired or not.
    pub(super) fn has(&self, key: &StoreKey) -> Result<bool, Broken> {
        Ok(self.index.get(halves(key).0)?.is_some())
    }

    /// The row of `key` without its response, unless it has expired `now`.
    pub(super) fn bare(&self, key: &StoreKey, now: Timestamp) -> Result<Option<Row>, Broken> {
        self.look(key, now, responses::Reading::bare)
    }

    /// The row of `key`, unless it has expired `now`.
    pub(super) fn row(
        &self,
        key: &StoreKey,
        now: Timestamp,
        haste: Haste,
    ) -> Result<Option<Row>, Broken> {
        self.look(
            key,
            now,
            match haste {
                Haste::Wait => responses::Reading::row,
                Haste::Now => responses::Reading::row_now,
            },
        )
    }

    /// What has expired is not read: it may be damaged, and nobody is locked out for ever.
    fn look(&self, key: &StoreKey, now: Timestamp, read: Read) -> Result<Option<Row>, Broken> {
        let (half, _) = halves(key);
        // Where it is looked for, it probably is, whatever the disk says.
        let unread = |error: Broken| match would_wait(&error) {
            true => error,
            false => corrupted(&format!("a record that cannot be read: {error}")),
        };
        let place = self.index.get(half).map_err(unread)?;
        let Some(place) = place.filter(|place| place.0 > now.0) else { return Ok(None) };
        let (found, row) = self.at(place, half, read).map_err(unread)?;
        // The times of a row that is read without its response are not covered by its check
        // sum, and one that seems to have expired is anybody's to remove.
        let is_it = row.until == place.0 || is_active(Mutant::TrustTimes);
        if found == *key && is_it { Ok(Some(row)) } else { Err(lost()) }
    }

    /// The whole key of one that is in the index, and its row, as `read` takes it from the
    /// responses.
    fn at(&self, place: Place, half: &[u8; 16], read: Read) -> Result<(StoreKey, Row), Broken> {
        if let Some(spot) = Spot::of(place)
            && let Some(found) = read(&self.responses, spot)?
        {
            return Ok(found);
        }
        let until = place.0;
        let found = self.records.get((until, half)).map_err(broken)?.ok_or_else(lost)?;
        let (response_until, other, head) = found.value();
        let head = Bytes::copy_from_slice(head);
        Ok((whole(half, other), Row { until, response_until, head, response: None }))
    }

    /// How many rows there are, expired or not.
    pub(super) fn count(&self) -> Result<u64, Broken> {
        self.index.count()
    }

    /// Whether something has expired at `now` and was not removed, or there is something else
    /// to do in the tables.
    pub(super) fn is_due(&self, now: Timestamp) -> Result<bool, Broken> {
        let record = self.records.first().map_err(broken)?.map(|(entry, _)| entry.value().0);
        let expired = record.is_some_and(|until| until <= now.0);
        Ok(expired || self.responses.is_due(now) || self.index.is_due()?)
    }

    /// Up to `limit` rows after `after`, expired or not, without their responses and without
    /// those that cannot be read; and where they end, if there may be more.
    pub(super) fn list(
        &self,
        after: Option<&StoreKey>,
        limit: usize,
    ) -> Result<(Changes, Option<StoreKey>), Broken> {
        let keys = self.index.list(after.map(|key| halves(key).0), limit)?;
        let last = keys.last().filter(|_| keys.len() == limit);
        let end = last.map(|(half, _)| whole(half, &[0xff; 16]));
        let mut rows = Changes::new();
        for (half, place) in &keys {
            match self.at(*place, half, responses::Reading::bare) {
                Ok((key, row)) if halves(&key).0 == half => {
                    rows.insert(key, Some(Arc::new(row)));
                }
                Ok(_) => tracing::error!("a record that is damaged is not listed"),
                Err(error) => tracing::error!(%error, "a record is not listed"),
            }
        }
        Ok((rows, end))
    }
}

/// How a row is taken from the responses.
type Read = fn(&responses::Reading, Spot) -> Result<Option<(StoreKey, Row)>, Broken>;

/// What the index knows a key by, and the rest of it.
pub(super) fn halves(key: &StoreKey) -> (&[u8; 16], &[u8; 16]) {
    let (halves, _) = key.as_bytes().as_chunks();
    (&halves[0], &halves[1])
}

pub(super) fn whole(half: &[u8; 16], other: &[u8; 16]) -> StoreKey {
    let mut key = [0; 32];
    key[..16].copy_from_slice(half);
    key[16..].copy_from_slice(other);
    StoreKey::from_bytes(key)
}

/// A key of the index has no row, or that of another key.
pub(super) fn lost() -> Broken {
    corrupted("a key without its record")
}

/// The files hold what they should not.
pub(super) fn corrupted(what: &str) -> Broken {
    broken(StorageError::Corrupted(what.to_owned()))
}

pub(super) fn broken(error: impl Into<redb::Error>) -> Broken {
    Box::new(error.into())
}

/// An operation's error for trouble below it.
pub(super) fn unavailable(what: &str, error: impl std::fmt::Display) -> StoreError {
    let kind = crate::store::StoreErrorKind::Unavailable;
    StoreError::new(kind, what).because(error.to_string())
}
