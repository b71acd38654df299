//! Where the row of a key lies, in generations.
//!
//! | table | key | value |
//! |---|---|---|
//! | `generations` | number of the generation | keys it is made for, keys that were put into it |
//! | `filters` | the same, of each but the youngest | digest of its filter, the filter |
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
//! 4. A generation whose keys have become few moves on, little by little, so that the filters
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

mod reading;
mod writing;

pub(super) use self::{reading::Reading, writing::Writing};

/// The fewest keys that a generation is made for: its pages take some 3 MiB. Where rules
/// can be broken, so few that each test of the store goes through many generations.
const KEYS: u64 = if cfg!(feature = "mutants") { 64 } else { 1 << 16 };

/// A generation is made for this part of all keys if that is more, so that there are not
/// many of them.
const PART: u64 = 16;

/// From this part of its keys on, what is left in a generation moves on.
const FEW: u64 = 8;

const GENERATIONS: TableDefinition<'_, u64, (u64, u64)> = TableDefinition::new("generations");
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
    filter: Filter,
}

/// What the tables of the index have, as they were committed last.
#[derive(Clone, Debug)]
pub(super) struct Index {
    /// From old to young, and never empty.
    generations: Vec<Arc<Generation>>,
    /// How many keys the youngest has taken.
    taken: u64,
    /// The fewest keys of a generation.
    fewest: u64,
}

/// The index within a transaction: the tables of all generations.
#[derive(Debug)]
struct Opened<T>(Vec<(Arc<Generation>, T)>);

impl Generation {
    fn new(number: u64, keys: u64, filter: Filter) -> Self {
        Self { number, name: name(number), keys, filter }
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
    generations.insert(0, (KEYS, 0)).map_err(broken)?;
    transaction.open_table(Generation::new(0, KEYS, Filter::new(0)).table()).map_err(broken)?;
    Ok(())
}

impl Index {
    /// Reads the filters that were written, and makes that of the youngest generation.
    pub(super) fn open(database: &Database) -> Result<Self, Broken> {
        let transaction = database.begin_read().map_err(broken)?;
        let table = transaction.open_table(GENERATIONS).map_err(broken)?;
        let (mut generations, mut taken) = (Vec::new(), 0);
        for row in table.iter().map_err(broken)? {
            let (number, row) = row.map_err(broken)?;
            let (number, (keys, so_far)) = (number.value(), row.value());
            let filter = match written(&transaction, number)? {
                Some(filter) => filter,
                None => gathered(&transaction, number, keys)?,
            };
            generations.push(Arc::new(Generation::new(number, keys, filter)));
            taken = so_far;
        }
        if generations.is_empty() {
            return Err(corrupted("an index without generations"));
        }
        Ok(Self { generations, taken, fewest: KEYS })
    }

    /// An empty index with smaller generations than usual.
    #[cfg(test)]
    pub(super) fn of(database: &Database, keys: u64) -> Self {
        let mut index = Self::open(database).unwrap();
        index.generations = vec![Arc::new(Generation::new(0, keys, Filter::new(keys)))];
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
        Ok(Opened(tables.collect::<Result<_, Broken>>()?))
    }
}

/// The filter of a generation as it was written, if it was, and is whole.
fn written(transaction: &ReadTransaction, number: u64) -> Result<Option<Filter>, Broken> {
    let filters = transaction.open_table(FILTERS).map_err(broken)?;
    let Some(row) = filters.get(number).map_err(broken)? else { return Ok(None) };
    let (digest, bytes) = row.value();
    if blake3::hash(bytes) != *digest && !is_active(Mutant::TrustFilters) {
        tracing::warn!(generation = number, "a filter of the index is damaged and is made anew");
        return Ok(None);
    }
    Ok(Filter::from_bytes(bytes))
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
        for (generation, table) in self.0.iter().rev() {
            if generation.filter.knows(half)
                && let Some(place) = table.get(half).map_err(broken)?
            {
                return Ok(Some(place.value()));
            }
        }
        Ok(None)
    }

    fn count(&self) -> Result<u64, Broken> {
        self.0.iter().map(|(_, table)| table.len().map_err(broken)).sum()
    }

    /// An older generation with few keys left.
    fn sparse(&self) -> Result<Option<usize>, Broken> {
        let older = self.0.iter().take(self.0.len() - 1);
        for (at, (generation, table)) in older.enumerate() {
            if table.len().map_err(broken)? < generation.keys / FEW {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
