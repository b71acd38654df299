//! What a write transaction does with the index.

use std::sync::Arc;

use redb::{ReadableTableMetadata, Table, WriteTransaction};

use super::{FILTERS, GENERATIONS, Generation, Half, Index, Opened, PART, Place};
use crate::store::embedded::{
    filter::Filter,
    tables::{Broken, broken},
};

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
        let older = self.opened.0.len() - 1;
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
        self.remove_from(self.opened.0.len(), half)
    }

    /// Removes a key from one of the `oldest`.
    fn remove_from(&mut self, oldest: usize, half: &[u8; 16]) -> Result<Option<Place>, Broken> {
        for (generation, table) in self.opened.0.iter_mut().take(oldest) {
            if generation.filter.knows(half)
                && let Some(place) = table.remove(half).map_err(broken)?
            {
                return Ok(Some(place.value()));
            }
        }
        Ok(None)
    }

    /// Puts a key into the youngest, and returns what it had there.
    fn put(&mut self, half: &[u8; 16], place: Place) -> Result<Option<Place>, Broken> {
        let (generation, table) = self.opened.0.last_mut().expect("there is always a youngest");
        generation.filter.add(half);
        let before = table.insert(half, place).map_err(broken)?.map(|place| place.value());
        self.taken += u64::from(before.is_none());
        Ok(before)
    }

    /// Moves up to `limit` keys of a generation that has few left to the youngest, and
    /// returns how many.
    pub(in super::super) fn move_on(&mut self, limit: usize) -> Result<usize, Broken> {
        let Some(sparse) = self.opened.sparse()? else { return Ok(0) };
        let table = &mut self.opened.0[sparse].1;
        let mut moving = Vec::new();
        for entry in table.extract_if(|_, _| true).map_err(broken)?.take(limit) {
            let (half, place) = entry.map_err(broken)?;
            moving.push((*half.value(), place.value()));
        }
        for (half, place) in &moving {
            self.put(half, *place)?;
        }
        Ok(moving.len())
    }

    /// Removes the generations that are empty, begins the next if the youngest is full,
    /// and returns what there is when the transaction has been committed.
    pub(in super::super) fn close(self, transaction: &WriteTransaction) -> Result<Index, Broken> {
        let Self { opened, taken, fewest } = self;
        let all = opened.count()?;
        let mut table = transaction.open_table(GENERATIONS).map_err(broken)?;
        let mut filters = transaction.open_table(FILTERS).map_err(broken)?;
        let youngest = opened.0.len() - 1;
        let mut index = Index { generations: Vec::new(), taken, fewest };
        for (at, (generation, keys)) in opened.0.into_iter().enumerate() {
            if at < youngest && keys.is_empty().map_err(broken)? {
                drop(keys);
                transaction.delete_table(generation.table()).map_err(broken)?;
                table.remove(generation.number).map_err(broken)?;
                filters.remove(generation.number).map_err(broken)?;
            } else {
                index.generations.push(generation);
            }
        }
        let Generation { number, keys, filter, .. } =
            &**index.generations.last().expect("the youngest stays");
        table.insert(number, (*keys, taken)).map_err(broken)?;
        if taken >= *keys {
            let bytes = filter.to_bytes();
            let digest = blake3::hash(&bytes);
            filters.insert(number, (digest.as_bytes(), &*bytes)).map_err(broken)?;
            let (number, keys) = (number + 1, fewest.max(all / PART));
            table.insert(number, (keys, 0)).map_err(broken)?;
            let next = Generation::new(number, keys, Filter::new(keys));
            transaction.open_table(next.table()).map_err(broken)?;
            index.generations.push(Arc::new(next));
            index.taken = 0;
        }
        Ok(index)
    }
}
