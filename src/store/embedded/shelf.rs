//! What one write transaction does with the [tables](super::tables).

use std::time::{Duration, Instant};

use redb::{Database, Durability, ReadableTable, Table, WriteTransaction};

use super::{
    index::{Index, Place, Writing},
    responses::{Responses, Spot},
    row::Changes,
    tables::{Broken, Head, Layout, META, RECORDS, Timed, broken, corrupted, halves, lost},
};
use crate::{
    engine::record::{StoreKey, Timestamp},
    mutants::{Mutant, is_active},
};

/// The tables within one write transaction.
struct Shelf<'t> {
    index: Writing<'t>,
    responses: &'t mut Responses,
    records: Table<'t, Timed, Head>,
}

/// How many keys of the index are merged for each change.
const MERGED: usize = 2;

/// Puts `changes`, which reach up to frame `last` of the journal, into the tables, and
/// removes up to `sweep` of what has expired at `now`. Returns how many were removed.
pub(super) fn store(
    database: &Database,
    layout: &mut Layout,
    changes: &Changes,
    last: u64,
    now: Timestamp,
    sweep: usize,
) -> Result<usize, Broken> {
    let transaction = begin(database)?;
    let mut shelf = Shelf::open(&transaction, layout)?;
    shelf.put(changes, now)?;
    // Each key is merged once, so this keeps up. It comes with what is put and at no other
    // time: few keys in each transaction would not share their pages, and nobody waits for it.
    shelf.index.merge(MERGED * changes.len())?;
    let swept = shelf.sweep(now, sweep, None)?;
    let next = shelf.close(&transaction)?;
    transaction.open_table(META).map_err(broken)?.insert("journal", last).map_err(broken)?;
    transaction.commit().map_err(broken)?;
    layout.index = next;
    Ok(swept)
}

/// Removes up to `limit` of what has expired at `now`, for no longer than `time`, and
/// returns how many.
pub(super) fn sweep(
    database: &Database,
    layout: &mut Layout,
    now: Timestamp,
    limit: usize,
    time: Duration,
) -> Result<usize, Broken> {
    let transaction = begin(database)?;
    let mut shelf = Shelf::open(&transaction, layout)?;
    let swept = shelf.sweep(now, limit, Some(Instant::now() + time))?;
    let next = shelf.close(&transaction)?;
    if swept == 0 {
        transaction.abort().map_err(broken)?;
    } else {
        transaction.commit().map_err(broken)?;
        layout.index = next;
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
    fn open(transaction: &'t WriteTransaction, layout: &'t mut Layout) -> Result<Self, Broken> {
        Ok(Self {
            index: layout.index.write(transaction)?,
            responses: &mut layout.responses,
            records: transaction.open_table(RECORDS).map_err(broken)?,
        })
    }

    /// Ends the work, and returns what the index is once the transaction was committed.
    fn close(self, transaction: &WriteTransaction) -> Result<Index, Broken> {
        self.responses.close(transaction)?;
        self.index.close(transaction)
    }

    /// Puts rows, or nothing, in the place of what is there.
    fn put(&mut self, changes: &Changes, now: Timestamp) -> Result<(), Broken> {
        let (mut bare, mut spots) = (Vec::new(), self.append(changes, now)?.into_iter());
        for (key, row) in changes {
            let (half, other) = halves(key);
            let old = match row {
                Some(row) => {
                    let spot = if row.response.is_some() {
                        spots.next().map(|(_, spot)| spot)
                    } else {
                        bare.push((row, half, other));
                        None
                    };
                    self.index.insert(half, Spot::place(spot, row.until))?
                }
                None => self.index.remove(half)?,
            };
            if let Some(place) = old {
                self.clear(place, half, other, now)?;
            }
        }
        // In the order of the table, neighbours share the way to their page.
        bare.sort_unstable_by_key(|&(row, half, _)| (row.until, half));
        for (row, half, other) in bare {
            let head = (row.response_until, other, &*row.head);
            self.records.insert((row.until, half), head).map_err(broken)?;
        }
        Ok(())
    }

    /// Writes the responses of `changes`, and says where they lie, in the order of keys. In the
    /// order of time, those that share an extent come together.
    fn append(
        &mut self,
        changes: &Changes,
        now: Timestamp,
    ) -> Result<Vec<(StoreKey, Spot)>, Broken> {
        let answered = changes.iter().filter_map(|(key, row)| {
            row.as_deref().filter(|row| row.response.is_some()).map(|row| (key, row))
        });
        let mut answered: Vec<_> = answered.collect();
        if !is_active(Mutant::AppendByKey) {
            answered.sort_by_key(|(_, row)| row.response_until);
        }
        let mut spots = Vec::with_capacity(answered.len());
        for (key, row) in answered {
            spots.push((*key, self.responses.append(key, row, now.0)?));
        }
        spots.sort_unstable_by_key(|(key, _)| *key);
        Ok(spots)
    }

    /// Removes what lies at `place` for a key, which must be the one with the half `other` unless
    /// it has expired `now`: then nobody has looked whose it was.
    fn clear(
        &mut self,
        place: Place,
        half: &[u8; 16],
        other: &[u8; 16],
        now: Timestamp,
    ) -> Result<(), Broken> {
        let is_over = place.0 <= now.0;
        let is_it = match Spot::of(place).filter(|spot| self.responses.is_here(*spot)) {
            Some(_) if is_over => true,
            // Nobody can say whose a row is that is damaged. It was looked at when this one was
            // claimed, and to stop here would stop everybody.
            Some(spot) => {
                let found = self.responses.key(spot)?;
                let unread = !is_active(Mutant::StopAtDamage);
                found.map_or(unread, |key| halves(&key) == (half, other))
            }
            None => {
                let old = self.records.remove((place.0, half)).map_err(broken)?;
                old.is_some_and(|old| old.value().1 == other)
            }
        };
        if is_it || is_over { Ok(()) } else { Err(lost()) }
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
            swept += self.index.thin_out(limit - swept)?;
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
        let (mut swept, mut bare) = (0, Vec::new());
        while swept < limit
            && !is_over()
            && let Some(extent) = self.responses.due(now.0)
        {
            let rows = self.responses.rows(extent, limit - swept)?;
            if rows.is_empty() {
                if is_active(Mutant::StopAtDamage) {
                    return Err(corrupted("a damaged response"));
                }
                self.responses.keep(extent);
            }
            for (spot, key, row) in rows {
                let (half, _) = halves(&key);
                // Rows that were replaced are left behind, and nothing else.
                if self.index.get(half)? == Some(Spot::place(Some(spot), row.until)) {
                    if row.until <= now.0 {
                        self.index.remove(half)?;
                    } else {
                        bare.push((key, row));
                    }
                }
                self.responses.leave(spot);
                swept += 1;
                if is_over() {
                    break;
                }
            }
        }
        // In the order of the table, some share a page.
        bare.sort_unstable_by_key(|(key, row)| (row.until, *key));
        for (key, row) in &bare {
            let (half, other) = halves(key);
            let head = (row.response_until, other, &*row.head);
            self.records.insert((row.until, half), head).map_err(broken)?;
        }
        Ok(swept)
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
