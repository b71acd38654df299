//! The tables of the data file, and how they are read.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | `"format"` | [`FORMAT`] |
//! | `meta` | `"journal"` | the last frame of the journal that the tables hold (absent: 0) |
//! | those of the [index] | half of the store key | when the record expires, when its response does |
//! | `records` | (when it expires, half) | the other half, head |
//! | `responses` | (when it expires, half) | when the record expires, the other half, head, response |
//!
//! Times are milliseconds since the Unix epoch; that of a response that never was is 0.
//!
//! 1. Only the index lies in the order of keys. All else lies in the order of time, where
//!    neighbours come and go together.
//! 2. A key of the index has exactly one row, and there are no others: in `responses` at the
//!    time that the index says, or else in `records`. So a look takes two pages. A response
//!    that is over leaves its head to `records`.
//! 3. What is first in `records` and `responses` expires first. Readers go by the times;
//!    what has expired is removed little by little. So a response may be missing from
//!    the time on that the index says.
//! 4. Keys that share 128 bits of their hash have one place. The second of them is an error,
//!    and never taken for the first.

use std::sync::Arc;

use bytes::Bytes;
use redb::{
    Database, ReadOnlyTable, ReadableDatabase, ReadableTable, StorageError, TableDefinition,
};

use super::{
    index::{self, Index, Times},
    row::{Changes, Row},
};
use crate::{
    engine::record::{StoreKey, Timestamp},
    store::StoreError,
};

/// The layout of these tables and of the journal.
pub(super) const FORMAT: u64 = 5;

pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
pub(super) const RECORDS: TableDefinition<'_, Timed, Head> = TableDefinition::new("records");
pub(super) const RESPONSES: TableDefinition<'_, Timed, Response> =
    TableDefinition::new("responses");

pub(super) type Half = &'static [u8; 16];
pub(super) type Timed = (u64, Half);
pub(super) type Head = (Half, &'static [u8]);
pub(super) type Response = (u64, Half, &'static [u8], &'static [u8]);

/// Trouble below the records: the transaction is of no use any more.
///
/// Boxed because redb's error is large and travels through every operation.
pub(super) type Broken = Box<redb::Error>;

/// Creates the tables of a new file. Returns the layout of one that is there, and the
/// last frame of the journal that its tables hold.
pub(super) fn prepare(database: &Database) -> Result<(u64, u64), Broken> {
    let transaction = database.begin_write().map_err(broken)?;
    let mut meta = transaction.open_table(META).map_err(broken)?;
    let number = |row: Option<redb::AccessGuard<'_, u64>>| row.map(|number| number.value());
    let found = number(meta.get("format").map_err(broken)?);
    let moved = number(meta.get("journal").map_err(broken)?).unwrap_or(0);
    if let Some(format) = found {
        return Ok((format, moved));
    }
    meta.insert("format", FORMAT).map_err(broken)?;
    drop(meta);
    index::create(&transaction)?;
    transaction.open_table(RECORDS).map_err(broken)?;
    transaction.open_table(RESPONSES).map_err(broken)?;
    transaction.commit().map_err(broken)?;
    Ok((FORMAT, moved))
}

/// The tables as they were at one moment. The pages of that moment stay in the file
/// as long as this is held.
#[derive(Debug)]
pub(super) struct Reader {
    index: index::Reading,
    records: ReadOnlyTable<Timed, Head>,
    responses: ReadOnlyTable<Timed, Response>,
}

impl Reader {
    pub(super) fn open(database: &Database, index: &Index) -> Result<Self, Broken> {
        let transaction = database.begin_read().map_err(broken)?;
        Ok(Self {
            index: index.read(&transaction)?,
            records: transaction.open_table(RECORDS).map_err(broken)?,
            responses: transaction.open_table(RESPONSES).map_err(broken)?,
        })
    }

    /// The row of `key`, expired or not, without its response.
    pub(super) fn bare(&self, key: &StoreKey) -> Result<Option<Row>, Broken> {
        self.look(key, |_| None)
    }

    /// The row of `key`, expired or not.
    pub(super) fn row(&self, key: &StoreKey) -> Result<Option<Row>, Broken> {
        self.look(key, |response| Some(Bytes::copy_from_slice(response)))
    }

    fn look(
        &self,
        key: &StoreKey,
        response: impl FnOnce(&[u8]) -> Option<Bytes>,
    ) -> Result<Option<Row>, Broken> {
        let (half, other) = halves(key);
        let Some(times) = self.index.get(half)? else { return Ok(None) };
        let (found, row) = self.at(times, half, response)?;
        if found == *other { Ok(Some(row)) } else { Err(lost()) }
    }

    /// The other half of a key that is in the index, and its row with what `response` makes
    /// of its response.
    fn at(
        &self,
        (until, response_until): Times,
        half: &[u8; 16],
        response: impl FnOnce(&[u8]) -> Option<Bytes>,
    ) -> Result<([u8; 16], Row), Broken> {
        let row = |other: &[u8; 16], head, response| {
            let head = Bytes::copy_from_slice(head);
            (*other, Row { until, response_until, head, response })
        };
        if response_until != 0
            && let Some(found) = self.responses.get((response_until, half)).map_err(broken)?
        {
            let (_, other, head, bytes) = found.value();
            return Ok(row(other, head, response(bytes)));
        }
        let found = self.records.get((until, half)).map_err(broken)?.ok_or_else(lost)?;
        let (other, head) = found.value();
        Ok(row(other, head, None))
    }

    /// How many rows there are, expired or not.
    pub(super) fn count(&self) -> Result<u64, Broken> {
        self.index.count()
    }

    /// Whether something has expired at `now` and was not removed, or there is something else
    /// to do in the tables.
    pub(super) fn is_due(&self, now: Timestamp) -> Result<bool, Broken> {
        let record = self.records.first().map_err(broken)?.map(|(entry, _)| entry.value().0);
        let response = self.responses.first().map_err(broken)?.map(|(entry, _)| entry.value().0);
        let expired = record.into_iter().chain(response).any(|until| until <= now.0);
        Ok(expired || self.index.is_due()?)
    }

    /// Up to `limit` rows after `after`, expired or not, without their responses.
    pub(super) fn list(&self, after: Option<&StoreKey>, limit: usize) -> Result<Changes, Broken> {
        let keys = self.index.list(after.map(|key| halves(key).0), limit)?;
        keys.iter()
            .map(|(half, times)| {
                let (other, row) = self.at(*times, half, |_| None)?;
                Ok((whole(half, &other), Some(Arc::new(row))))
            })
            .collect()
    }
}

/// What the index knows a key by, and the rest of it.
pub(super) fn halves(key: &StoreKey) -> (&[u8; 16], &[u8; 16]) {
    let (halves, _) = key.as_bytes().as_chunks();
    (&halves[0], &halves[1])
}

fn whole(half: &[u8; 16], other: &[u8; 16]) -> StoreKey {
    let mut key = [0; 32];
    key[..16].copy_from_slice(half);
    key[16..].copy_from_slice(other);
    StoreKey::from_bytes(key)
}

/// A key of the index has no row, or that of another key.
pub(super) fn lost() -> Broken {
    broken(StorageError::Corrupted("a key without its record".to_owned()))
}

pub(super) fn broken(error: impl Into<redb::Error>) -> Broken {
    Box::new(error.into())
}

/// An operation's error for trouble below it.
pub(super) fn unavailable(what: &str, error: impl std::fmt::Display) -> StoreError {
    let kind = crate::store::StoreErrorKind::Unavailable;
    StoreError::new(kind, what).because(error.to_string())
}
