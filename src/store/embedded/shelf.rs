//! What one write transaction does with the [tables](super::tables).

use std::time::{Duration, Instant};

use redb::{Database, Durability, ReadableTable, Table, WriteTransaction};

use super::{
    index::{Index, Times, Writing},
    row::{Changes, Row},
    tables::{Broken, Head, META, RECORDS, RESPONSES, Response, Timed, broken, halves, lost},
};
use crate::engine::record::Timestamp;

/// The tables within one write transaction.
struct Shelf<'t> {
    index: Writing<'t>,
    records: Table<'t, Timed, Head>,
    responses: Table<'t, Timed, Response>,
}

/// Puts `changes`, which reach up to frame `last` of the journal, into the tables, and
/// removes up to `sweep` of what has expired at `now`. Returns how many were removed.
pub(super) fn store(
    database: &Database,
    index: &mut Index,
    changes: &Changes,
    last: u64,
    now: Timestamp,
    sweep: usize,
) -> Result<usize, Broken> {
    let transaction = begin(database)?;
    let mut shelf = Shelf::open(&transaction, index)?;
    shelf.put(changes)?;
    let swept = shelf.sweep(now, sweep, None)?;
    let next = shelf.close(&transaction)?;
    transaction.open_table(META).map_err(broken)?.insert("journal", last).map_err(broken)?;
    transaction.commit().map_err(broken)?;
    *index = next;
    Ok(swept)
}

/// Removes up to `limit` of what has expired at `now`, for no longer than `time`, and
/// returns how many.
pub(super) fn sweep(
    database: &Database,
    index: &mut Index,
    now: Timestamp,
    limit: usize,
    time: Duration,
) -> Result<usize, Broken> {
    let transaction = begin(database)?;
    let mut shelf = Shelf::open(&transaction, index)?;
    let swept = shelf.sweep(now, limit, Some(Instant::now() + time))?;
    let next = shelf.close(&transaction)?;
    if swept == 0 {
        transaction.abort().map_err(broken)?;
    } else {
        transaction.commit().map_err(broken)?;
        *index = next;
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
    fn open(transaction: &'t WriteTransaction, index: &Index) -> Result<Self, Broken> {
        Ok(Self {
            index: index.write(transaction)?,
            records: transaction.open_table(RECORDS).map_err(broken)?,
            responses: transaction.open_table(RESPONSES).map_err(broken)?,
        })
    }

    /// Ends the work, and returns what the index is once the transaction was committed.
    fn close(self, transaction: &WriteTransaction) -> Result<Index, Broken> {
        self.index.close(transaction)
    }

    /// Puts rows, or nothing, in the place of what is there.
    fn put(&mut self, changes: &Changes) -> Result<(), Broken> {
        let mut rows = Vec::with_capacity(changes.len());
        for (key, row) in changes {
            let (half, other) = halves(key);
            let old = match row {
                Some(row) => self.index.insert(half, (row.until, row.response_until))?,
                None => self.index.remove(half)?,
            };
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
        (until, response_until): Times,
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
    /// many. Responses go first: they take the most room, and the least time. When all of it
    /// is gone, as much of the index moves on.
    fn sweep(
        &mut self,
        now: Timestamp,
        limit: usize,
        end: Option<Instant>,
    ) -> Result<usize, Broken> {
        let is_over = || end.is_some_and(|end| Instant::now() > end);
        let mut swept = self.sweep_responses(now, limit, is_over)?;
        swept += self.sweep_records(now, limit - swept, is_over)?;
        if !is_over() {
            swept += self.index.move_on(limit - swept)?;
        }
        Ok(swept)
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
            self.index.remove(half)?;
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
            self.index.remove(&half)?;
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
