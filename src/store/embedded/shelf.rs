//! What one write transaction does with the [tables](super::tables).

use std::time::{Duration, Instant};

use redb::{Database, Durability, ReadableTable, Table, WriteTransaction};

use super::{
    row::{Changes, Row},
    tables::{
        Broken, Half, Head, INDEX, META, RECORDS, RESPONSES, Response, Timed, Times, broken,
        halves, lost,
    },
};
use crate::engine::record::Timestamp;

/// The tables within one write transaction.
pub(super) struct Shelf<'t> {
    index: Table<'t, Half, Times>,
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
            let (half, other) = halves(key);
            let old = match row {
                Some(row) => self.index.insert(half, (row.until, row.response_until)),
                None => self.index.remove(half),
            };
            let old = old.map_err(broken)?.map(|old| old.value());
            if let Some(times) = old {
                self.clear(times, half, other)?;
            }
            rows.extend(row.as_deref().map(|row| (row, half, other)));
        }
        // In the order of the tables, neighbours share the way to their page.
        rows.sort_unstable_by_key(|&(row, half, _)| (row.place(), half));
        for (row, half, other) in rows {
            let Row { until, response_until, head, response } = row;
            match response {
                Some(response) => {
                    let row = (*until, other, &**head, &**response);
                    self.responses.insert((*response_until, half), row).map_err(broken)?;
                }
                None => {
                    self.records.insert((*until, half), (other, &**head)).map_err(broken)?;
                }
            }
        }
        Ok(())
    }

    /// Removes what lies in the order of time for a key, which must be the one with the
    /// half `other`.
    fn clear(
        &mut self,
        (until, response_until): (u64, u64),
        half: &[u8; 16],
        other: &[u8; 16],
    ) -> Result<(), Broken> {
        if response_until != 0
            && let Some(old) = self.responses.remove((response_until, half)).map_err(broken)?
        {
            return if old.value().1 == other { Ok(()) } else { Err(lost()) };
        }
        let old = self.records.remove((until, half)).map_err(broken)?;
        let is_it = old.is_some_and(|old| old.value().0 == other);
        if is_it { Ok(()) } else { Err(lost()) }
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
        let swept = self.sweep_responses(now, limit, is_over)?;
        Ok(swept + self.sweep_records(now, limit - swept, is_over)?)
    }

    /// Leaves the heads of those whose record lasts longer to `records`.
    fn sweep_responses(
        &mut self,
        now: Timestamp,
        limit: usize,
        is_over: impl Fn() -> bool,
    ) -> Result<usize, Broken> {
        let due = ..=(now.0, &[0xff; 16]);
        let (mut bare, mut gone) = (Vec::new(), Vec::new());
        let responses = self.responses.extract_from_if(due, |_, _| true).map_err(broken)?;
        for entry in responses.take(limit) {
            let (place, row) = entry.map_err(broken)?;
            let (half, (until, other, head, _)) = (*place.value().1, row.value());
            if until <= now.0 {
                gone.push(half);
            } else {
                bare.push((until, half, *other, head.to_vec()));
            }
            if is_over() {
                break;
            }
        }
        // In the order of the tables, some share a page.
        bare.sort_unstable_by_key(|&(until, half, ..)| (until, half));
        gone.sort_unstable();
        for (until, half, other, head) in &bare {
            self.records.insert((*until, half), (other, &**head)).map_err(broken)?;
        }
        for half in &gone {
            self.index.remove(half).map_err(broken)?;
        }
        Ok(bare.len() + gone.len())
    }

    fn sweep_records(
        &mut self,
        now: Timestamp,
        limit: usize,
        is_over: impl Fn() -> bool,
    ) -> Result<usize, Broken> {
        let due = ..=(now.0, &[0xff; 16]);
        let mut records = Vec::new();
        for entry in self.records.range(due).map_err(broken)?.take(limit) {
            let (place, _) = entry.map_err(broken)?;
            let (until, half) = place.value();
            records.push((*half, until));
        }
        // In the order of the index, some share its pages.
        records.sort_unstable();
        let mut swept = 0;
        for (half, until) in records {
            self.index.remove(&half).map_err(broken)?;
            self.records.remove((until, &half)).map_err(broken)?;
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
