//! The tables of the data file, and what one write transaction does with them.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | `"format"` | [`FORMAT`] |
//! | `meta` | `"journal"` | the last frame of the journal that the tables hold (absent: 0) |
//! | `heads` | store key | when the record expires, when its response does (0: none), head |
//! | `responses` | store key | response |
//! | `expiry` | (when, store key, [`RECORD`] or [`RESPONSE`]) | nothing |
//!
//! Times are milliseconds since the Unix epoch. Readers go by the times in `heads`
//! alone; what `expiry` lists is removed little by little.

use std::{
    ops::Bound::{Excluded, Unbounded},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use redb::{
    Database, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    Table, TableDefinition, WriteTransaction,
};

use super::row::{Changes, Row};
use crate::{
    engine::record::{StoreKey, Timestamp},
    store::StoreError,
};

/// The layout of these tables and of the journal. Layout 1 had no journal.
pub(super) const FORMAT: u64 = 2;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const HEADS: TableDefinition<'_, &[u8; 32], Head> = TableDefinition::new("heads");
const RESPONSES: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("responses");
const EXPIRY: TableDefinition<'_, Expiry, ()> = TableDefinition::new("expiry");

type Head = (u64, u64, &'static [u8]);
type Expiry = (u64, &'static [u8; 32], u8);

const RECORD: u8 = 0;
const RESPONSE: u8 = 1;

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
    if let Some(format @ (0 | FORMAT..)) = found {
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
    heads: ReadOnlyTable<&'static [u8; 32], Head>,
    responses: ReadOnlyTable<&'static [u8; 32], &'static [u8]>,
}

impl Reader {
    pub(super) fn open(database: &Database) -> Result<Self, Broken> {
        let transaction = database.begin_read().map_err(broken)?;
        Ok(Self {
            heads: transaction.open_table(HEADS).map_err(broken)?,
            responses: transaction.open_table(RESPONSES).map_err(broken)?,
        })
    }

    /// The row of `key`, expired or not, without its response.
    pub(super) fn bare(&self, key: &StoreKey) -> Result<Option<Row>, Broken> {
        let row = self.heads.get(key.as_bytes()).map_err(broken)?;
        Ok(row.map(|row| bare(row.value())))
    }

    /// The row of `key`, expired or not.
    pub(super) fn row(&self, key: &StoreKey) -> Result<Option<Row>, Broken> {
        let Some(mut row) = self.bare(key)? else { return Ok(None) };
        if row.response_until != 0 {
            let bytes = self.responses.get(key.as_bytes()).map_err(broken)?;
            row.response = bytes.map(|bytes| Bytes::copy_from_slice(bytes.value()));
        }
        Ok(Some(row))
    }

    /// How many rows there are, expired or not.
    pub(super) fn count(&self) -> Result<u64, Broken> {
        self.heads.len().map_err(broken)
    }

    /// Up to `limit` rows after `after`, expired or not, without their responses.
    pub(super) fn list(&self, after: Option<&StoreKey>, limit: usize) -> Result<Changes, Broken> {
        let start = after.map_or(Unbounded, |key| Excluded(key.as_bytes()));
        let rows = self.heads.range::<&[u8; 32]>((start, Unbounded)).map_err(broken)?;
        rows.take(limit)
            .map(|entry| {
                let (key, row) = entry.map_err(broken)?;
                Ok((StoreKey::from_bytes(*key.value()), Some(Arc::new(bare(row.value())))))
            })
            .collect()
    }
}

/// Puts `changes`, which reach up to frame `last` of the journal, into the tables, and
/// removes up to `sweep` of what has expired at `now`. Returns how many were removed.
pub(super) fn store(
    database: &Database,
    changes: &Changes,
    last: u64,
    now: Timestamp,
    sweep: usize,
) -> Result<usize, Broken> {
    let transaction = begin(database)?;
    let mut shelf = Shelf::open(&transaction)?;
    for (key, row) in changes {
        shelf.put(key.as_bytes(), row.as_deref())?;
    }
    let swept = shelf.sweep(now, sweep, None)?;
    drop(shelf);
    transaction.open_table(META).map_err(broken)?.insert("journal", last).map_err(broken)?;
    transaction.commit().map_err(broken)?;
    Ok(swept)
}

/// Removes up to `limit` of what has expired at `now`, for no longer than `time`, and
/// returns how many.
pub(super) fn sweep(
    database: &Database,
    now: Timestamp,
    limit: usize,
    time: Duration,
) -> Result<usize, Broken> {
    let transaction = begin(database)?;
    let mut shelf = Shelf::open(&transaction)?;
    let swept = shelf.sweep(now, limit, Some(Instant::now() + time))?;
    drop(shelf);
    match swept {
        0 => transaction.abort().map_err(broken)?,
        1.. => transaction.commit().map_err(broken)?,
    }
    Ok(swept)
}

/// Whether something has expired at `now`, and was not removed.
pub(super) fn is_due(database: &Database, now: Timestamp) -> Result<bool, Broken> {
    let transaction = database.begin_read().map_err(broken)?;
    let expiry = transaction.open_table(EXPIRY).map_err(broken)?;
    let first = expiry.first().map_err(broken)?;
    Ok(first.is_some_and(|(entry, _)| entry.value().0 <= now.0))
}

fn begin(database: &Database) -> Result<WriteTransaction, Broken> {
    let mut transaction = database.begin_write().map_err(broken)?;
    transaction.set_durability(Durability::Immediate).map_err(broken)?;
    // To open the file after a crash takes no longer than after a shutdown. It costs a
    // second forced write and a map of the file's pages, once for thousands of changes.
    transaction.set_quick_repair(true);
    Ok(transaction)
}

/// The tables within one write transaction.
struct Shelf<'t> {
    heads: Table<'t, &'static [u8; 32], Head>,
    responses: Table<'t, &'static [u8; 32], &'static [u8]>,
    expiry: Table<'t, Expiry, ()>,
}

impl<'t> Shelf<'t> {
    fn open(transaction: &'t WriteTransaction) -> Result<Self, Broken> {
        Ok(Self {
            heads: transaction.open_table(HEADS).map_err(broken)?,
            responses: transaction.open_table(RESPONSES).map_err(broken)?,
            expiry: transaction.open_table(EXPIRY).map_err(broken)?,
        })
    }

    /// Puts a row, or nothing, in the place of what is there.
    fn put(&mut self, key: &[u8; 32], row: Option<&Row>) -> Result<(), Broken> {
        let old = match row {
            Some(row) => self.heads.insert(key, (row.until, row.response_until, &*row.head)),
            None => self.heads.remove(key),
        };
        let old = old.map_err(broken)?.map(|old| (old.value().0, old.value().1));
        if let Some((until, response_until)) = old {
            self.expiry.remove((until, key, RECORD)).map_err(broken)?;
            if response_until != 0 {
                self.expiry.remove((response_until, key, RESPONSE)).map_err(broken)?;
                self.responses.remove(key).map_err(broken)?;
            }
        }
        let Some(row) = row else { return Ok(()) };
        self.expiry.insert((row.until, key, RECORD), ()).map_err(broken)?;
        if let Some(response) = &row.response {
            self.responses.insert(key, &**response).map_err(broken)?;
            self.expiry.insert((row.response_until, key, RESPONSE), ()).map_err(broken)?;
        }
        Ok(())
    }

    /// Removes up to `limit` of what has expired at `now`, until `end`, and returns how
    /// many.
    fn sweep(
        &mut self,
        now: Timestamp,
        limit: usize,
        end: Option<Instant>,
    ) -> Result<usize, Broken> {
        let mut over = Vec::new();
        let due = self.expiry.range(..=(now.0, &[0xff; 32], u8::MAX)).map_err(broken)?;
        for entry in due.take(limit) {
            let (entry, ()) = entry.map(|(key, _)| (key, ())).map_err(broken)?;
            let (when, key, kind) = entry.value();
            over.push((when, *key, kind));
        }
        let mut swept = 0;
        for (when, key, kind) in &over {
            self.expiry.remove((*when, key, *kind)).map_err(broken)?;
            if *kind == RESPONSE {
                self.responses.remove(key).map_err(broken)?;
            } else {
                self.put(key, None)?;
            }
            swept += 1;
            if end.is_some_and(|end| Instant::now() > end) {
                break;
            }
        }
        Ok(swept)
    }
}

fn bare((until, response_until, head): (u64, u64, &[u8])) -> Row {
    Row { until, response_until, head: Bytes::copy_from_slice(head), response: None }
}

fn broken(error: impl Into<redb::Error>) -> Broken {
    Box::new(error.into())
}

/// An operation's error for trouble below it.
pub(super) fn unavailable(what: &str, error: impl std::fmt::Display) -> StoreError {
    let kind = crate::store::StoreErrorKind::Unavailable;
    StoreError::new(kind, what).because(error.to_string())
}
