//! The rows that have a response, in a file of their own.
//!
//! | table | key | value |
//! |---|---|---|
//! | `extents` | number of the extent | where it begins in the file, its bytes in use, those that were left behind, when its last response expires |
//! | `meta` | `"extents"` | how many extents there ever were (absent: 0) |
//!
//! The file holds [rows](row), each with the CRC-32 of its bytes behind it, in extents. A row is
//! written once and never changed, and read in one piece without a way to it: the
//! [index](super::index) says where it lies.
//!
//! 1. What a transaction writes here is forced to the disk before the transaction is committed,
//!    and lies where nothing was by the transaction before.
//! 2. The rows of one extent lose their responses at nearly the same time: within a
//!    [window](Window) of about a thirtieth of what they are kept for, or of seconds. When the last one has, the
//!    extent is left behind row by row, and then its room is free.
//! 3. Room that was freed is written again only when nobody holds tables any more in which it
//!    was in use.
//! 4. No number of an extent comes again. So one that is missing, and an offset in what was left
//!    behind, say that the row's head is in `records` by now.
//! 5. A row that was replaced stays where it is until its extent is left. No key leads to it.
//! 6. Where a row is damaged nobody knows where the next one begins. So an extent is not left
//!    beyond it: what is behind it is found by the index as ever, and its room is lost.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Range,
    sync::{Arc, Weak},
};

use bytes::{Buf, Bytes};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use self::space::{Space, UNIT, units};
use super::{
    index::Place,
    peeking::File,
    row::{self, Row},
    tables::{Broken, META, broken, corrupted},
};
use crate::{
    engine::record::StoreKey,
    mutants::{Mutant, is_active},
};

mod reading;
mod space;
mod writing;

pub(super) use self::reading::{Haste, Reading};

const EXTENTS: TableDefinition<'_, u32, (u64, u32, u32, u64)> = TableDefinition::new("extents");

/// The usual size of an extent is this part of the file, so that there are not many of them,
const PART: u64 = 1024;

/// within these bounds.
const LEAST: u64 = UNIT;
const MOST: u64 = 1 << 20;

/// Windows have as many milliseconds at the least, which is about how long changes gather: of
/// responses that are kept for seconds, each transaction would have thousands of windows.
const LEAST_SPAN: u64 = 4096;

/// How many extents are written to at a time; what is left of the others is free.
const GROWING: usize = 16;

/// Where a row lies in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    /// The number of its extent, from 1 on.
    pub(super) extent: u32,
    pub(super) offset: u32,
    pub(super) length: u32,
}

impl Spot {
    /// Where the row of a key lies. `None`: in `records`.
    pub(super) fn of((_, extent, offset, length): Place) -> Option<Self> {
        (length > 0).then_some(Self { extent, offset, length })
    }

    /// What the index says of a key whose record expires at `until`.
    pub(super) fn place(spot: Option<Self>, until: u64) -> Place {
        spot.map_or((until, 0, 0, 0), |spot| (until, spot.extent, spot.offset, spot.length))
    }
}

#[derive(Clone, Copy, Debug)]
struct Extent {
    start: u64,
    /// How many bytes it may grow to; what is not in use is known to this process only.
    room: u64,
    used: u32,
    /// Rows before this offset were left behind.
    left: u32,
    /// When the last of its responses expires.
    latest: u64,
}

/// Responses that share extents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    /// How many milliseconds it has.
    span: u64,
    number: u64,
}

impl Window {
    fn of(response_until: u64, now: u64) -> Self {
        let kept = response_until.saturating_sub(now);
        let span = 1 << (kept / 32).max(LEAST_SPAN).ilog2();
        Self { span, number: response_until / span }
    }
}

/// The file and its extents, as the last transaction left them or the present one has them.
///
/// After a transaction that failed it is of no use any more.
#[derive(Debug)]
pub(super) struct Responses {
    file: Arc<File>,
    length: u64,
    extents: BTreeMap<u32, Extent>,
    /// When each extent's last response expires.
    by_time: BTreeSet<(u64, u32)>,
    space: Space,
    growing: Vec<(Window, u32)>,
    /// The number of the last extent.
    last: u32,
    /// The end of an extent that is not in the file yet.
    pending: BTreeMap<u32, Vec<u8>>,
    /// Whether the file was written and not forced since.
    unforced: bool,
    /// What the table has to be told.
    changed: BTreeSet<u32>,
    /// How many transactions there were.
    transactions: u64,
    /// Who may still look, and after which transaction he began.
    readers: VecDeque<(u64, Weak<Reading>)>,
    /// Room on its way to be free, and in which transaction it was left.
    leaving: VecDeque<(u64, Range<u64>)>,
}

/// Creates the table of a new file.
pub(super) fn create(transaction: &WriteTransaction) -> Result<(), Broken> {
    transaction.open_table(EXTENTS).map_err(broken)?;
    Ok(())
}

impl Extent {
    fn part(&self) -> Range<u64> {
        self.start..self.start + self.room
    }
}

impl Responses {
    /// `None`: this is not the file that the tables were written with.
    pub(super) fn open(database: &Database, file: File) -> Result<Option<Self>, Broken> {
        let transaction = database.begin_read().map_err(broken)?;
        let table = transaction.open_table(EXTENTS).map_err(broken)?;
        let mut extents = BTreeMap::new();
        for row in table.iter().map_err(broken)? {
            let (number, row) = row.map_err(broken)?;
            let (start, used, left, latest) = row.value();
            let room = units(used.into());
            extents.insert(number.value(), Extent { start, room, used, left, latest });
        }
        let length = file.len().map_err(broken)?;
        let end = extents.values().map(|extent| extent.start + u64::from(extent.used)).max();
        let space = Space::beside(extents.values().map(Extent::part).collect());
        let Some(space) = space.filter(|_| end.unwrap_or(0) <= length) else { return Ok(None) };
        let meta = transaction.open_table(META).map_err(broken)?;
        let so_far = meta.get("extents").map_err(broken)?.map_or(0, |number| number.value());
        let last = u32::try_from(so_far).map_err(|_| corrupted("too many extents"))?;
        Ok(Some(Self {
            file: Arc::new(file),
            length,
            by_time: extents.iter().map(|(number, extent)| (extent.latest, *number)).collect(),
            extents,
            space,
            growing: Vec::new(),
            last,
            pending: BTreeMap::new(),
            unforced: false,
            changed: BTreeSet::new(),
            transactions: 0,
            readers: VecDeque::new(),
            leaving: VecDeque::new(),
        }))
    }

    /// What readers see after the last transaction.
    pub(super) fn read(&mut self) -> Arc<Reading> {
        self.reclaim();
        let extents =
            self.extents.iter().map(|(number, extent)| (*number, extent.left, extent.start));
        let first_end = self.by_time.first().map(|(latest, _)| *latest);
        let reading = Arc::new(Reading::new(Arc::clone(&self.file), extents.collect(), first_end));
        self.readers.push_back((self.transactions, Arc::downgrade(&reading)));
        reading
    }
}

/// Takes a row off the front. `None`: it is not as it was written.
fn checked(bytes: &mut Bytes) -> Option<(StoreKey, Row)> {
    let whole = bytes.clone();
    let (key, row) = row::take(bytes)?;
    let sum = crc32fast::hash(&whole[..whole.len() - bytes.len()]);
    let kept = bytes.try_get_u32().ok()?;
    let is_whole = sum == kept || is_active(Mutant::TrustResponses);
    Some((key, row.filter(|_| is_whole)?))
}

#[cfg(test)]
impl Responses {
    /// All rows, those that were replaced among them.
    pub(super) fn all(&mut self) -> Vec<writing::Found> {
        let numbers: Vec<u32> = self.extents.keys().copied().collect();
        numbers.into_iter().flat_map(|number| self.rows(number, usize::MAX).unwrap()).collect()
    }
}

#[cfg(test)]
mod tests;
