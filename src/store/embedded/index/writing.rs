//! What a write transaction does with the index.

use std::sync::Arc;

use redb::{ReadableTableMetadata, Table, WriteTransaction};

use super::{FILTERS, GENERATIONS, Generation, Half, Index, Opened, PART, Place, TOGETHER};
use crate::store::embedded::tables::{Broken, broken};

/// The index within a write transaction.
pub(in super::super) struct Writing<'t> {
    pub(super) opened: Opened<Table<'t, Half, Place>>,
    pub(super) taken: u64,
    pub(super) fewest: u64,
}

impl Writing<'_> {
    /// Puts a key, and returns what it had before.
    pub(in super::super) fn insert(
        &mut self,
        half: &[u8; 16],
        place: Place,
    ) -> Result<Option<Place>, Broken> {
        let older = self.opened.generations.len() - 1;
        let before = self.remove_from(older, half)?;
        let replaced = self.put(half, place)?;
        Ok(before.or(replaced))
    }

    /// What a key has.
    pub(in super::super) fn get(&self, half: &[u8; 16]) -> Result<Option<Place>, Broken> {
        self.opened.get(half)
    }

    /// Removes a key, and returns what it had.
    pub(in super::super) fn remove(&mut self, half: &[u8; 16]) -> Result<Option<Place>, Broken> {
        self.remove_from(self.opened.generations.len(), half)
    }

    /// Removes a key from one of the `oldest`.
    fn remove_from(&mut self, oldest: usize, half: &[u8; 16]) -> Result<Option<Place>, Broken> {
        for (generation, table) in self.opened.generations.iter_mut().take(oldest) {
            if generation.filter.knows(half)
                && let Some(place) = table.remove(half).map_err(broken)?
            {
                return Ok(Some(place.value()));
            }
        }
        Ok(None)
    }

    /// Puts a key into the youngest, and returns what it had there.
    pub(super) fn put(&mut self, half: &[u8; 16], place: Place) -> Result<Option<Place>, Broken> {
        let (generation, table) =
            self.opened.generations.last_mut().expect("there is always a youngest");
        generation.filter.add(half);
        let before = table.insert(half, place).map_err(broken)?.map(|place| place.value());
        self.taken += u64::from(before.is_none());
        Ok(before)
    }

    /// Removes the generations that are empty, begins the next if the youngest is full,
    /// and returns what there is when the transaction has been committed.
    pub(in super::super) fn close(self, transaction: &WriteTransaction) -> Result<Index, Broken> {
        let Self { opened: Opened { generations, growing }, taken, fewest } = self;
        let youngest = generations.len() - 1;
        let mut counted = Vec::with_capacity(generations.len());
        for (generation, keys) in generations {
            counted.push((keys.len().map_err(broken)?, generation, keys));
        }
        // The generation that grows is full when nothing is left to merge into it.
        let merges =
            counted.iter().any(|(count, other, _)| *count > 0 && other.merges_into(growing));
        let (growing, full) = if merges { (growing, None) } else { (None, growing) };
        let mut next = Next {
            all: 0,
            table: transaction.open_table(GENERATIONS).map_err(broken)?,
            filters: transaction.open_table(FILTERS).map_err(broken)?,
            index: Index { generations: Vec::new(), growing, taken, fewest },
        };
        for (at, (count, generation, keys)) in counted.into_iter().enumerate() {
            next.all += count;
            if at < youngest && count == 0 && growing != Some(generation.number) {
                drop(keys);
                transaction.delete_table(generation.table()).map_err(broken)?;
                next.table.remove(generation.number).map_err(broken)?;
                next.filters.remove(generation.number).map_err(broken)?;
            } else {
                if full == Some(generation.number) {
                    write(&mut next.filters, &generation)?;
                }
                next.index.generations.push(generation);
            }
        }
        next.turn_over(transaction)?;
        Ok(next.index)
    }
}

type Filters<'t> = Table<'t, u64, (&'static [u8; 32], &'static [u8])>;

/// The index as it is becoming, and where that is written.
struct Next<'t> {
    /// How many keys there are.
    all: u64,
    table: Table<'t, u64, (u64, u64, bool)>,
    filters: Filters<'t>,
    index: Index,
}

impl Next<'_> {
    /// When the youngest is full, begins the next, and before it one to merge into if there
    /// are enough to be merged.
    fn turn_over(&mut self, transaction: &WriteTransaction) -> Result<(), Broken> {
        let Index { generations, growing, taken, fewest } = &mut self.index;
        let youngest = Arc::clone(generations.last().expect("the youngest stays"));
        self.table.insert(youngest.number, (youngest.keys, *taken, false)).map_err(broken)?;
        if *taken < youngest.keys {
            return Ok(());
        }
        write(&mut self.filters, &youngest)?;
        *taken = 0;
        let mut number = youngest.number + 1;
        let full: Vec<_> = generations.iter().filter(|other| !other.merged).collect();
        let mut begun = Vec::new();
        if growing.is_none() && full.len() >= TOGETHER {
            let keys = full.iter().map(|other| other.keys).sum();
            begun.push(Generation::empty(number, keys, true));
            *growing = Some(number);
            number += 1;
        }
        let keys = self.all / (PART * TOGETHER as u64);
        begun.push(Generation::empty(number, keys.max(*fewest), false));
        for generation in begun {
            let Generation { number, keys, merged, .. } = generation;
            self.table.insert(number, (keys, 0, merged)).map_err(broken)?;
            transaction.open_table(generation.table()).map_err(broken)?;
            generations.push(Arc::new(generation));
        }
        Ok(())
    }
}

/// Writes the filter of a generation that is full.
fn write(filters: &mut Filters<'_>, generation: &Generation) -> Result<(), Broken> {
    let bytes = generation.filter.to_bytes();
    let digest = blake3::hash(&bytes);
    filters.insert(generation.number, (digest.as_bytes(), &*bytes)).map_err(broken)?;
    Ok(())
}
