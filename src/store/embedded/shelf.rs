//! What one write transaction does with the [tables](super::tables).

use std::time::{Duration, Instant};

use redb::{Database, Durability, ReadableTable, Table, WriteTransaction};

use super::{
    row::{Changes, Row},
    tables::{Broken, Head, INDEX, Key, META, RECORDS, RESPONSES, Response, Timed, broken},
};
use crate::engine::record::Timestamp;

/// The tables within one write transaction.
pub(super) struct Shelf<'t> {
    index: Table<'t, Key, u64>,
    records: Table<'t, Timed, Head>,
    responses: Table<'t, Timed, Response>,
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
    shelf.put(changes)?;
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

fn begin(database: &Database) -> Result<WriteTransaction, Broken> {
    let mut transaction = database.begin_write().map_err(broken)?;
    transaction.set_durability(Durability::Immediate).map_err(broken)?;
    // To open the file after a crash takes no longer than after a shutdown. It costs a
    // second forced write and a map of the file's pages, once for thousands of changes.
    transaction.set_quick_repair(true);
    Ok(transaction)
}

impl<'t> Shelf<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, Broken> {
        Ok(Self {
            index: transaction.open_table(INDEX).map_err(broken)?,
            records: transaction.open_table(RECORDS).map_err(broken)?,
            responses: transaction.open_table(RESPONSES).map_err(broken)?,
        })
    }

    /// Puts rows, or nothing, in the place of what is there.
    fn put(&mut self, changes: &Changes) -> Result<(), Broken> {
        let mut rows = Vec::with_capacity(changes.len());
        for (key, row) in changes {
            let key = key.as_bytes();
            let old = match row {
                Some(row) => self.index.insert(key, row.until),
                None => self.index.remove(key),
            };
            let old = old.map_err(broken)?.map(|old| old.value());
            if let Some(until) = old {
                self.clear(until, key)?;
            }
            rows.extend(row.as_deref().map(|row| (row.until, key, row)));
        }
        // In the order of the tables, neighbours share the way to their page.
        rows.sort_unstable_by_key(|&(until, key, _)| (until, key));
        for (until, key, Row { response_until, head, .. }) in &rows {
            self.records.insert((*until, *key), (*response_until, &**head)).map_err(broken)?;
        }
        rows.retain(|(_, _, row)| row.response.is_some());
        rows.sort_unstable_by_key(|&(_, key, row)| (row.response_until, key));
        for (_, key, row) in rows {
            if let Some(response) = &row.response {
                self.responses.insert((row.response_until, key), &**response).map_err(broken)?;
            }
        }
        Ok(())
    }

    /// Removes what lies in the order of time for a key, whose record expires at `until`.
    fn clear(&mut self, until: u64, key: &[u8; 32]) -> Result<(), Broken> {
        let old = self.records.remove((until, key)).map_err(broken)?;
        let response_until = old.map_or(0, |old| old.value().0);
        if response_until != 0 {
            self.responses.remove((response_until, key)).map_err(broken)?;
        }
        Ok(())
    }

    /// Removes up to `limit` of what has expired at `now`, until `end`, and returns how
    /// many. Responses go first: they take the most room, and the least time.
    fn sweep(
        &mut self,
        now: Timestamp,
        limit: usize,
        end: Option<Instant>,
    ) -> Result<usize, Broken> {
        let is_over = || end.is_some_and(|end| Instant::now() > end);
        let due = ..=(now.0, &[0xff; 32]);
        let mut swept = 0;
        let responses = self.responses.extract_from_if(due, |_, _| true).map_err(broken)?;
        for response in responses.take(limit) {
            response.map_err(broken)?;
            swept += 1;
            if is_over() {
                return Ok(swept);
            }
        }
        let mut records = Vec::new();
        for entry in self.records.range(due).map_err(broken)?.take(limit - swept) {
            let (entry, _) = entry.map_err(broken)?;
            let (until, key) = entry.value();
            records.push((*key, until));
        }
        // In the order of the index, some share its pages.
        records.sort_unstable();
        for (key, until) in records {
            self.index.remove(&key).map_err(broken)?;
            self.clear(until, &key)?;
            swept += 1;
            if is_over() {
                break;
            }
        }
        Ok(swept)
    }
}

#[cfg(test)]
#[path = "shelf_tests.rs"]
mod tests;
