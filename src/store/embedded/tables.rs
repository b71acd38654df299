//! The tables of the data file, and how they are read.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | `"format"` | [`FORMAT`] |
//! | `meta` | `"journal"` | the last frame of the journal that the tables hold (absent: 0) |
//! | `index` | store key | when the record expires |
//! | `records` | (when it expires, store key) | when its response does (0: none), head |
//! | `responses` | (when it expires, store key) | response |
//!
//! Times are milliseconds since the Unix epoch.
//!
//! 1. Keys are spread evenly, so a change of one key writes a page of `index` again.
//!    Its rows are short, so that it has few pages; all else lies in the order of time,
//!    where neighbours come and go together.
//! 2. A key of `index` has exactly one row in `records`, at the time that `index` says,
//!    and nothing else is in `records`. A response lies where that row says.
//! 3. What is first in `records` and `responses` expires first. Readers go by the times;
//!    what has expired is removed little by little. So a response may be missing from
//!    the time on that its row says.

use std::{
    ops::Bound::{Excluded, Unbounded},
    sync::Arc,
};

use bytes::Bytes;
use redb::{
    Database, ReadOnlyTable, ReadableDatabase, ReadableTable, ReadableTableMetadata, StorageError,
    TableDefinition,
};

use super::{
    row::{Changes, Row},
    shelf::Shelf,
};
use crate::{
    engine::record::{StoreKey, Timestamp},
    store::StoreError,
};

/// The layout of these tables and of the journal.
pub(super) const FORMAT: u64 = 3;

pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
pub(super) const INDEX: TableDefinition<'_, Key, u64> = TableDefinition::new("index");
pub(super) const RECORDS: TableDefinition<'_, Timed, Head> = TableDefinition::new("records");
pub(super) const RESPONSES: TableDefinition<'_, Timed, Response> =
    TableDefinition::new("responses");

pub(super) type Key = &'static [u8; 32];
pub(super) type Timed = (u64, &'static [u8; 32]);
pub(super) type Head = (u64, &'static [u8]);
pub(super) type Response = &'static [u8];

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
    drop(Shelf::open(&transaction)?);
    transaction.commit().map_err(broken)?;
    Ok((FORMAT, moved))
}

/// The tables as they were at one moment. The pages of that moment stay in the file
/// as long as this is held.
#[derive(Debug)]
pub(super) struct Reader {
    index: ReadOnlyTable<Key, u64>,
    records: ReadOnlyTable<Timed, Head>,
    responses: ReadOnlyTable<Timed, Response>,
}

impl Reader {
    pub(super) fn open(database: &Database) -> Result<Self, Broken> {
        let transaction = database.begin_read().map_err(broken)?;
        Ok(Self {
            index: transaction.open_table(INDEX).map_err(broken)?,
            records: transaction.open_table(RECORDS).map_err(broken)?,
            responses: transaction.open_table(RESPONSES).map_err(broken)?,
        })
    }

    /// The row of `key`, expired or not, without its response.
    pub(super) fn bare(&self, key: &StoreKey) -> Result<Option<Row>, Broken> {
        let until = self.index.get(key.as_bytes()).map_err(broken)?;
        until.map(|until| self.at(until.value(), key.as_bytes())).transpose()
    }

    /// The row of `key`, expired or not.
    pub(super) fn row(&self, key: &StoreKey) -> Result<Option<Row>, Broken> {
        let Some(mut row) = self.bare(key)? else { return Ok(None) };
        if row.response_until != 0 {
            let place = (row.response_until, key.as_bytes());
            let bytes = self.responses.get(place).map_err(broken)?;
            row.response = bytes.map(|bytes| Bytes::copy_from_slice(bytes.value()));
        }
        Ok(Some(row))
    }

    /// How many rows there are, expired or not.
    pub(super) fn count(&self) -> Result<u64, Broken> {
        self.index.len().map_err(broken)
    }

    /// Up to `limit` rows after `after`, expired or not, without their responses.
    pub(super) fn list(&self, after: Option<&StoreKey>, limit: usize) -> Result<Changes, Broken> {
        let start = after.map_or(Unbounded, |key| Excluded(key.as_bytes()));
        let keys = self.index.range::<&[u8; 32]>((start, Unbounded)).map_err(broken)?;
        keys.take(limit)
            .map(|entry| {
                let (key, until) = entry.map_err(broken)?;
                let row = self.at(until.value(), key.value())?;
                Ok((StoreKey::from_bytes(*key.value()), Some(Arc::new(row))))
            })
            .collect()
    }

    /// The row of a key that is in the index.
    fn at(&self, until: u64, key: &[u8; 32]) -> Result<Row, Broken> {
        let row = self.records.get((until, key)).map_err(broken)?;
        let lost = || StorageError::Corrupted("a key without its record".to_owned());
        let row = row.ok_or_else(lost).map_err(broken)?;
        let (response_until, head) = row.value();
        Ok(Row { until, response_until, head: Bytes::copy_from_slice(head), response: None })
    }
}

/// Whether something has expired at `now`, and was not removed.
pub(super) fn is_due(database: &Database, now: Timestamp) -> Result<bool, Broken> {
    let transaction = database.begin_read().map_err(broken)?;
    let records = transaction.open_table(RECORDS).map_err(broken)?;
    let responses = transaction.open_table(RESPONSES).map_err(broken)?;
    let record = records.first().map_err(broken)?.map(|(entry, _)| entry.value().0);
    let response = responses.first().map_err(broken)?.map(|(entry, _)| entry.value().0);
    Ok(record.into_iter().chain(response).any(|until| until <= now.0))
}

pub(super) fn broken(error: impl Into<redb::Error>) -> Broken {
    Box::new(error.into())
}

/// An operation's error for trouble below it.
pub(super) fn unavailable(what: &str, error: impl std::fmt::Display) -> StoreError {
    let kind = crate::store::StoreErrorKind::Unavailable;
    StoreError::new(kind, what).because(error.to_string())
}
