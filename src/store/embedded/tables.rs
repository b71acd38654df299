//! The tables of the data file, and what one write transaction does with them.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | `"format"` | [`FORMAT`] |
//! | `heads` | store key | when the record expires, when its response does (0: none), head |
//! | `responses` | store key | response |
//! | `expiry` | (when, store key, [`RECORD`] or [`RESPONSE`]) | nothing |
//!
//! Times are milliseconds since the Unix epoch. Readers go by the times in `heads`
//! alone; what `expiry` lists is removed whenever there is a write anyway.

use std::time::Duration;

use bytes::Bytes;
use redb::{
    ReadTransaction, ReadableTable, ReadableTableMetadata, Table, TableDefinition, WriteTransaction,
};

use crate::{
    engine::{
        codec::{self, CodecError, Encoded},
        policy::Keep,
        record::{Fence, Record, StoreKey, Summary, Timestamp},
    },
    store::StoreError,
};

/// The layout of these tables.
pub(super) const FORMAT: u64 = 1;

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

/// What one record's bytes gave: they may be damaged while the file is sound.
pub(super) type Decoded<T> = Result<T, CodecError>;

/// Creates the tables of a new file, and returns the layout of one that is there.
pub(super) fn prepare(database: &redb::Database) -> Result<u64, Broken> {
    let transaction = database.begin_write().map_err(broken)?;
    let mut meta = transaction.open_table(META).map_err(broken)?;
    let found = meta.get("format").map_err(broken)?.map(|format| format.value());
    if let Some(format) = found {
        return Ok(format);
    }
    meta.insert("format", FORMAT).map_err(broken)?;
    drop(meta);
    drop(Shelf::open(&transaction)?);
    transaction.commit().map_err(broken)?;
    Ok(FORMAT)
}

/// Reads the record of `key` as it is at `now`.
pub(super) fn read(
    transaction: &ReadTransaction,
    key: &StoreKey,
    now: Timestamp,
) -> Result<Decoded<Option<Record>>, Broken> {
    let heads = transaction.open_table(HEADS).map_err(broken)?;
    let responses = transaction.open_table(RESPONSES).map_err(broken)?;
    record(&heads, &responses, key, now)
}

/// Reads who wrote the record of `key`, and how long before `now` that was.
pub(super) fn age(
    transaction: &ReadTransaction,
    key: &StoreKey,
    now: Timestamp,
) -> Result<Decoded<Option<(Fence, Duration)>>, Broken> {
    let heads = transaction.open_table(HEADS).map_err(broken)?;
    let row = heads.get(key.as_bytes()).map_err(broken)?;
    let Some(row) = row.filter(|row| now.0 < row.value().0) else { return Ok(Ok(None)) };
    let (until, _, head) = row.value();
    Ok(codec::decode_age(head, Timestamp(until).since(now)).map(Some))
}

/// Counts the records, those that have expired and were not swept yet included.
pub(super) fn count(transaction: &ReadTransaction) -> Result<u64, Broken> {
    transaction.open_table(HEADS).map_err(broken)?.len().map_err(broken)
}

/// Lists up to `limit` records after `after` that are there at `now`.
pub(super) fn list(
    transaction: &ReadTransaction,
    after: Option<StoreKey>,
    limit: usize,
    now: Timestamp,
) -> Result<Decoded<Vec<(StoreKey, Summary)>>, Broken> {
    use std::ops::Bound::{Excluded, Unbounded};

    let heads = transaction.open_table(HEADS).map_err(broken)?;
    let start = after.as_ref().map_or(Unbounded, |key| Excluded(key.as_bytes()));
    let mut records = Vec::new();
    for entry in heads.range::<&[u8; 32]>((start, Unbounded)).map_err(broken)? {
        let (key, row) = entry.map_err(broken)?;
        let (until, response_until, head) = row.value();
        if now.0 >= until {
            continue;
        }
        match codec::decode_summary(head, now.0 < response_until) {
            Ok(summary) => records.push((StoreKey::from_bytes(*key.value()), summary)),
            Err(error) => return Ok(Err(error)),
        }
        if records.len() == limit {
            break;
        }
    }
    Ok(Ok(records))
}

/// The tables within one write transaction.
pub(super) struct Shelf<'t> {
    heads: Table<'t, &'static [u8; 32], Head>,
    responses: Table<'t, &'static [u8; 32], &'static [u8]>,
    expiry: Table<'t, Expiry, ()>,
}

impl<'t> Shelf<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, Broken> {
        Ok(Self {
            heads: transaction.open_table(HEADS).map_err(broken)?,
            responses: transaction.open_table(RESPONSES).map_err(broken)?,
            expiry: transaction.open_table(EXPIRY).map_err(broken)?,
        })
    }

    pub(super) fn read(
        &self,
        key: &StoreKey,
        now: Timestamp,
    ) -> Result<Decoded<Option<Record>>, Broken> {
        record(&self.heads, &self.responses, key, now)
    }

    /// Who wrote the record that is there.
    pub(super) fn fence(
        &self,
        key: &StoreKey,
        now: Timestamp,
    ) -> Result<Decoded<Option<Fence>>, Broken> {
        let row = self.heads.get(key.as_bytes()).map_err(broken)?;
        Ok(row
            .filter(|row| now.0 < row.value().0)
            .map(|row| codec::decode_fence(row.value().2))
            .transpose())
    }

    /// Puts a record in the place of what is there.
    pub(super) fn write(
        &mut self,
        key: &StoreKey,
        encoded: &Encoded,
        keep: Keep,
        now: Timestamp,
    ) -> Result<(), Broken> {
        self.forget(key)?;
        let key = key.as_bytes();
        let until = now.after(keep.record).0;
        let mut response_until = 0;
        if let Some(response) = &encoded.response {
            response_until = now.after(keep.response.unwrap_or(keep.record)).0;
            self.responses.insert(key, &**response).map_err(broken)?;
            self.expiry.insert((response_until, key, RESPONSE), ()).map_err(broken)?;
        }
        self.expiry.insert((until, key, RECORD), ()).map_err(broken)?;
        let row = (until, response_until, &*encoded.head);
        self.heads.insert(key, row).map_err(broken)?;
        Ok(())
    }

    /// Removes every trace of a record. Says whether there was one.
    pub(super) fn forget(&mut self, key: &StoreKey) -> Result<bool, Broken> {
        let key = key.as_bytes();
        let row = self.heads.remove(key).map_err(broken)?;
        let Some((until, response_until)) = row.map(|row| (row.value().0, row.value().1)) else {
            return Ok(false);
        };
        self.expiry.remove((until, key, RECORD)).map_err(broken)?;
        if response_until != 0 {
            self.expiry.remove((response_until, key, RESPONSE)).map_err(broken)?;
            self.responses.remove(key).map_err(broken)?;
        }
        Ok(true)
    }

    /// Removes up to `limit` of what has expired at `now`, and returns how many.
    pub(super) fn sweep(&mut self, now: Timestamp, limit: usize) -> Result<usize, Broken> {
        let mut over = Vec::new();
        let due = self.expiry.range(..=(now.0, &[0xff; 32], u8::MAX)).map_err(broken)?;
        for entry in due.take(limit) {
            let (entry, ()) = entry.map(|(key, _)| (key, ())).map_err(broken)?;
            let (when, key, kind) = entry.value();
            over.push((when, *key, kind));
        }
        for (when, key, kind) in &over {
            self.expiry.remove((*when, key, *kind)).map_err(broken)?;
            if *kind == RESPONSE {
                self.responses.remove(key).map_err(broken)?;
            } else {
                self.forget(&StoreKey::from_bytes(*key))?;
            }
        }
        Ok(over.len())
    }
}

fn record(
    heads: &impl ReadableTable<&'static [u8; 32], Head>,
    responses: &impl ReadableTable<&'static [u8; 32], &'static [u8]>,
    key: &StoreKey,
    now: Timestamp,
) -> Result<Decoded<Option<Record>>, Broken> {
    let row = heads.get(key.as_bytes()).map_err(broken)?;
    let Some(row) = row else { return Ok(Ok(None)) };
    let (until, response_until, head) = row.value();
    if now.0 >= until {
        return Ok(Ok(None));
    }
    let mut response = None;
    if now.0 < response_until {
        let bytes = responses.get(key.as_bytes()).map_err(broken)?;
        response = bytes.map(|bytes| Bytes::copy_from_slice(bytes.value()));
    }
    Ok(codec::decode(head, response).map(Some))
}

fn broken(error: impl Into<redb::Error>) -> Broken {
    Box::new(error.into())
}

/// An operation's error for trouble below it.
pub(super) fn unavailable(what: &str, error: impl std::fmt::Display) -> StoreError {
    let kind = crate::store::StoreErrorKind::Unavailable;
    StoreError::new(kind, what).because(error.to_string())
}
