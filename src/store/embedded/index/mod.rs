//! Where the row of a key lies, in generations.
//!
//! | table | key | value |
//! |---|---|---|
//! | `generations` | number of the generation | keys it is made for, keys that were put into it, whether it is merged |
//! | `filters` | the same, of each that is full | digest of its filter, the filter |
//! | `index.N` | half of the store key | when the record expires, where its row lies: extent, offset, length (0: in `records`) |
//!
//! Keys are spread evenly, so a change of one key writes a page of its own again, however
//! many changes a transaction has: unless all of these keys lie on few pages. So new keys go
//! into a young generation of limited size, and what older ones hold is only looked for.
//!
//! 1. A key is in one generation at the most. One that is put again moves to the youngest.
//! 2. The [filter](Filter) of a generation knows each of its keys: whoever puts a key adds it
//!    to the filter before. A key that no filter knows is looked for nowhere.
//! 3. When as many keys were put into the youngest as it is made for, it stays as it is but
//!    for what is removed, and its filter is written beside it. The next is begun.
//! 4. When [`TOGETHER`] have become full, they are [merged](merging) into one, little by
//!    little with what is put, and in the order of keys, so that keys that move together
//!    share their pages. It is full when they are empty.
//! 5. A generation whose keys have become few moves on into the youngest, so that the filters
//!    of few keys do not add up. One that is empty is removed.

use std::sync::Arc;

use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, TableError,
    WriteTransaction,
};

use super::{
    filter::Filter,
    tables::{Broken, broken, corrupted},
};
use crate::mutants::{Mutant, is_active};

mod merging;
mod reading;
mod writing;

pub(super) use self::{reading::Reading, writing::Writing};

/// The fewest keys that a generation is made for: its pages take some 3 MiB. Where rules
/// can be broken, so few that each test of the store goes through many generations.
const KEYS: u64 = if cfg!(feature = "mutants") { 16 } else { 1 << 16 };

/// So many full generations become one.
const TOGETHER: usize = 8;

/// One that is merged has this part of all keys if that is more, so that there are not many
/// of them.
const PART: u64 = 16;

/// From this part of its keys on, what is left in a generation moves on.
const FEW: u64 = 8;

const GENERATIONS: TableDefinition<'_, u64, (u64, u64, bool)> = TableDefinition::new("generations");
const FILTERS: TableDefinition<'_, u64, (&[u8; 32], &[u8])> = TableDefinition::new("filters");

type Half = &'static [u8; 16];

/// When a record expires, and where among the [responses](super::responses) its row lies: the
/// extent, offset and length, or zeros. See [`tables`](super::tables).
pub(super) type Place = (u64, u32, u32, u32);

/// What is known of a generation without looking into it.
#[derive(Debug)]
struct Generation {
    number: u64,
    /// The name of its table.
    name: String,
    /// How many keys it is made for.
    keys: u64,
    /// It was not put key by key, but made of others.
    merged: bool,
    filter: Filter,
}

/// What the tables of the index have, as they were committed last.
#[derive(Clone, Debug)]
pub(super) struct Index {
    /// From old to young, and never empty.
    generations: Vec<Arc<Generation>>,
    /// The number of the one that others are being merged into.
    growing: Option<u64>,
    /// How many keys the youngest has taken.
    taken: u64,
    /// The fewest keys of a generation.
    fewest: u64,
}

/// The index within a transaction.
#[derive(Debug)]
struct Opened<T> {
    /// With their tables, from old to young.
    generations: Vec<(Arc<Generation>, T)>,
    growing: Option<u64>,
}

impl Generation {
    fn new(number: u64, keys: u64, merged: bool, filter: Filter) -> Self {
        Self { number, name: name(number), keys, merged, filter }
    }

    /// One without keys.
    fn empty(number: u64, keys: u64, merged: bool) -> Self {
        Self::new(number, keys, merged, Filter::new(keys))
    }

    /// Whether its keys move into the generation with the number `growing`.
    fn merges_into(&self, growing: Option<u64>) -> bool {
        !self.merged && growing.is_some_and(|growing| self.number < growing)
    }

    fn table(&self) -> TableDefinition<'_, Half, Place> {
        TableDefinition::new(&self.name)
    }
}

fn name(number: u64) -> String {
    format!("index.{number}")
}

/// Creates an index without keys.
pub(super) fn create(transaction: &WriteTransaction) -> Result<(), Broken> {
    transaction.open_table(FILTERS).map_err(broken)?;
    let mut generations = transaction.open_table(GENERATIONS).map_err(broken)?;
    generations.insert(0, (KEYS, 0, false)).map_err(broken)?;
    transaction.open_table(Generation::empty(0, 0, false).table()).map_err(broken)?;
    Ok(())
}

impl Index {
    /// Reads the filters that were written, and makes that of the youngest generation.
    pub(super) fn open(database: &Database) -> Result<Self, Broken> {
        let transaction = database.begin_read().map_err(broken)?;
        let table = transaction.open_table(GENERATIONS).map_err(broken)?;
        let filters = transaction.open_table(FILTERS).map_err(broken)?;
        let (mut generations, mut growing, mut taken) = (Vec::new(), None, 0);
        for row in table.iter().map_err(broken)? {
            let (number, row) = row.map_err(broken)?;
            let (number, (keys, so_far, merged)) = (number.value(), row.value());
            let row = filters.get(number).map_err(broken)?;
            if merged && row.is_none() {
                growing = Some(number);
            }
            let filter = match row.and_then(|row| written(number, row.value())) {
                Some(filter) => filter,
                None => gathered(&transaction, number, keys)?,
            };
            generations.push(Arc::new(Generation::new(number, keys, merged, filter)));
            taken = so_far;
        }
        if generations.is_empty() {
            return Err(corrupted("an index without generations"));
        }
        Ok(Self { generations, growing, taken, fewest: KEYS })
    }

    /// An empty index with smaller generations than usual.
    #[cfg(test)]
    pub(super) fn of(database: &Database, keys: u64) -> Self {
        let mut index = Self::open(database).unwrap();
        index.generations = vec![Arc::new(Generation::empty(0, keys, false))];
        index.fewest = keys;
        index
    }

    pub(super) fn read(&self, transaction: &ReadTransaction) -> Result<Reading, Broken> {
        Ok(Reading(self.opened(|table| transaction.open_table(table))?))
    }

    pub(super) fn write<'t>(
        &self,
        transaction: &'t WriteTransaction,
    ) -> Result<Writing<'t>, Broken> {
        let opened = self.opened(|table| transaction.open_table(table))?;
        Ok(Writing { opened, taken: self.taken, fewest: self.fewest })
    }

    fn opened<T>(
        &self,
        open: impl Fn(TableDefinition<'_, Half, Place>) -> Result<T, TableError>,
    ) -> Result<Opened<T>, Broken> {
        let tables = self.generations.iter().map(|generation| {
            Ok((Arc::clone(generation), open(generation.table()).map_err(broken)?))
        });
        let generations = tables.collect::<Result<_, Broken>>()?;
        Ok(Opened { generations, growing: self.growing })
    }
}

/// The filter of a generation as it was written, if it is whole.
fn written(generation: u64, (digest, bytes): (&[u8; 32], &[u8])) -> Option<Filter> {
    if blake3::hash(bytes) != *digest && !is_active(Mutant::TrustFilters) {
        tracing::warn!(generation, "a filter of the index is damaged and is made anew");
        return None;
    }
    Filter::from_bytes(bytes)
}

/// A filter of what a generation for `keys` keys holds.
fn gathered(transaction: &ReadTransaction, number: u64, keys: u64) -> Result<Filter, Broken> {
    let filter = Filter::new(keys);
    let name = name(number);
    let table: TableDefinition<'_, Half, Place> = TableDefinition::new(&name);
    let table = transaction.open_table(table).map_err(broken)?;
    for row in table.iter().map_err(broken)? {
        filter.add(row.map_err(broken)?.0.value());
    }
    Ok(filter)
}

impl<T: ReadableTable<Half, Place>> Opened<T> {
    fn get(&self, half: &[u8; 16]) -> Result<Option<Place>, Broken> {
        // Who asks for a key again does so soon.
        for (generation, table) in self.generations.iter().rev() {
            if generation.filter.knows(half)
                && let Some(place) = table.get(half).map_err(broken)?
            {
                return Ok(Some(place.value()));
            }
        }
        Ok(None)
    }

    fn count(&self) -> Result<u64, Broken> {
        self.generations.iter().map(|(_, table)| table.len().map_err(broken)).sum()
    }

    /// A full generation with few keys left, unless they move anyway.
    fn sparse(&self) -> Result<Option<usize>, Broken> {
        let full = self.generations.iter().take(self.generations.len() - 1);
        for (at, (generation, table)) in full.enumerate() {
            let moves =
                self.growing == Some(generation.number) || generation.merges_into(self.growing);
            if !moves && table.len().map_err(broken)? < generation.keys / FEW {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
