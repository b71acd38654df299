//! What a write transaction does with the file.

use std::io;

use bytes::BufMut;
use redb::WriteTransaction;

use super::{EXTENTS, Extent, GROWING, LEAST, MOST, PART, Responses, Spot, Window, checked, units};
use crate::{
    engine::record::StoreKey,
    mutants::{Mutant, is_active},
    store::embedded::{
        RESPONSES,
        row::{self, Row},
        tables::{Broken, META, broken, corrupted},
    },
};

/// So many bytes of an extent wait in memory at the most before they are written.
const PIECE: usize = 256 << 10;

/// The file grows by as much.
const GROWTH: u64 = 1 << 20;

/// A row that has not been left behind, and its key.
pub(in super::super) type Found = (Spot, StoreKey, Row);

impl Responses {
    /// Writes a row, and says where it lies from now on.
    pub(in super::super) fn append(
        &mut self,
        key: &StoreKey,
        row: &Row,
        now: u64,
    ) -> Result<Spot, Broken> {
        let mut bytes = Vec::new();
        row::put(&mut bytes, key, Some(row));
        bytes.put_u32(crc32fast::hash(&bytes));
        let length = u32::try_from(bytes.len()).expect("a policy records 256 MiB at the most");
        let number = self.with_room(Window::of(row.response_until, now), length)?;
        let extent = self.extents.get_mut(&number).expect("it has room");
        let offset = extent.used;
        extent.used += length;
        if extent.latest < row.response_until {
            self.by_time.remove(&(extent.latest, number));
            extent.latest = row.response_until;
            self.by_time.insert((extent.latest, number));
        }
        self.changed.insert(number);
        let pending = self.pending.entry(number).or_default();
        pending.append(&mut bytes);
        if pending.len() >= PIECE {
            self.write(number).map_err(broken)?;
        }
        Ok(Spot { extent: number, offset, length })
    }

    /// An extent of the window that has room for so many bytes.
    fn with_room(&mut self, window: Window, length: u32) -> Result<u32, Broken> {
        if let Some(at) = self.growing.iter().position(|(other, _)| *other == window) {
            let number = self.growing[at].1;
            let Extent { room, used, .. } = self.extents[&number];
            if u64::from(used) + u64::from(length) <= room {
                return Ok(number);
            }
            self.growing.remove(at);
            self.close_extent(number);
        } else if self.growing.len() == GROWING {
            let (_, oldest) = self.growing.remove(0);
            self.close_extent(oldest);
        }
        self.reclaim();
        let least = units(length.into());
        let usual = units(self.space.end() / PART).clamp(LEAST, MOST);
        let part = self.space.take(least, usual.max(least));
        // Some 280 TB of responses; a number that comes again would lead to another's.
        self.last = self.last.checked_add(1).ok_or_else(|| corrupted("too many extents"))?;
        let number = self.last;
        let (start, room) = (part.start, part.end - part.start);
        self.extents.insert(number, Extent { start, room, used: 0, left: 0, latest: 0 });
        self.by_time.insert((0, number));
        self.growing.push((window, number));
        Ok(number)
    }

    /// Frees what is left of an extent that does not grow any more: nothing was ever there.
    fn close_extent(&mut self, number: u32) {
        let extent = self.extents.get_mut(&number).expect("growing extents are there");
        let before = extent.part().end;
        extent.room = units(extent.used.into());
        self.space.give(extent.part().end..before);
    }

    /// Frees what was left behind and cannot be looked at any more.
    pub(super) fn reclaim(&mut self) {
        while self.readers.front().is_some_and(|(_, reader)| reader.strong_count() == 0) {
            self.readers.pop_front();
        }
        let eldest = self.readers.front().map_or(self.transactions, |(since, _)| *since);
        let forgotten = |left: u64| left <= eldest || is_active(Mutant::ReuseWhileRead);
        while let Some((_, part)) = self.leaving.pop_front_if(|(left, _)| forgotten(*left)) {
            self.space.give(part);
        }
    }

    /// Whether a row has not been left behind.
    pub(in super::super) fn is_here(&self, spot: Spot) -> bool {
        self.extents.get(&spot.extent).is_some_and(|extent| spot.offset >= extent.left)
    }

    /// The key of a row that is [here](Self::is_here). `None`: it is damaged, or cannot be read.
    pub(in super::super) fn key(&mut self, spot: Spot) -> Result<Option<StoreKey>, Broken> {
        self.write(spot.extent).map_err(broken)?;
        let start = self.extents[&spot.extent].start + u64::from(spot.offset);
        let mut bytes = vec![0; spot.length as usize];
        if let Err(error) = self.file.read(start, &mut bytes) {
            tracing::error!(%error, "the file `{RESPONSES}` cannot be read");
            return Ok(None);
        }
        Ok(checked(&mut bytes.into()).map(|(key, _)| key))
    }

    /// An extent all of whose responses have expired at `now`.
    pub(in super::super) fn due(&self, now: u64) -> Option<u32> {
        self.by_time.first().filter(|(latest, _)| *latest <= now).map(|(_, number)| *number)
    }

    /// The first `limit` rows of an extent that have not been left behind, in their order, and
    /// none from one on that is damaged or cannot be read.
    pub(in super::super) fn rows(
        &mut self,
        number: u32,
        limit: usize,
    ) -> Result<Vec<Found>, Broken> {
        self.write(number).map_err(broken)?;
        let Extent { start, used, left, .. } = self.extents[&number];
        let mut bytes = vec![0; (used - left) as usize];
        if let Err(error) = self.file.read(start + u64::from(left), &mut bytes) {
            // A disk says so of a damaged sector.
            tracing::error!(%error, "the file `{RESPONSES}` cannot be read");
            return Ok(Vec::new());
        }
        let (mut bytes, mut rows) = (bytes::Bytes::from(bytes), Vec::new());
        let mut offset = left;
        while offset < used && rows.len() < limit {
            let before = bytes.len();
            let Some((key, row)) = checked(&mut bytes) else { break };
            let length = u32::try_from(before - bytes.len()).expect("part of an extent");
            rows.push((Spot { extent: number, offset, length }, key, row));
            offset += length;
        }
        Ok(rows)
    }

    /// Leaves a row and those before it behind.
    pub(in super::super) fn leave(&mut self, last: Spot) {
        let number = last.extent;
        let extent = self.extents.get_mut(&number).expect("it has rows");
        extent.left = last.offset + last.length;
        self.changed.insert(number);
        if extent.left == extent.used {
            self.leaving.push_back((self.transactions + 1, extent.part()));
            self.by_time.remove(&(extent.latest, number));
            self.growing.retain(|(_, growing)| *growing != number);
            self.extents.remove(&number);
        }
    }

    /// Keeps an extent as it is, whose next row is damaged. Whoever opens the file anew comes
    /// upon it once more.
    pub(in super::super) fn keep(&mut self, number: u32) {
        let Extent { start, left, latest, .. } = self.extents[&number];
        tracing::error!(
            extent = number,
            offset = start + u64::from(left),
            "a recorded response in the file `{RESPONSES}` is damaged: its key is refused, and \
             the room of what has expired behind it stays in use; look after the disk"
        );
        self.by_time.remove(&(latest, number));
        if let Some(at) = self.growing.iter().position(|(_, growing)| *growing == number) {
            self.growing.remove(at);
            self.close_extent(number);
        }
    }

    /// Makes everything last that was appended, as soon as `transaction` is committed.
    pub(in super::super) fn close(&mut self, transaction: &WriteTransaction) -> Result<(), Broken> {
        while let Some((&number, _)) = self.pending.first_key_value() {
            self.write(number).map_err(broken)?;
        }
        if self.unforced && !is_active(Mutant::CommitBeforeResponses) {
            self.file.sync_data().map_err(broken)?;
        }
        self.unforced = false;
        if !self.changed.is_empty() {
            let mut meta = transaction.open_table(META).map_err(broken)?;
            meta.insert("extents", u64::from(self.last)).map_err(broken)?;
        }
        let mut table = transaction.open_table(EXTENTS).map_err(broken)?;
        for number in std::mem::take(&mut self.changed) {
            match self.extents.get(&number) {
                Some(Extent { start, used, left, latest, .. }) => {
                    table.insert(number, (*start, *used, *left, *latest)).map_err(broken)?;
                }
                None => drop(table.remove(number).map_err(broken)?),
            }
        }
        self.transactions += 1;
        Ok(())
    }

    /// Puts what is pending of an extent into the file.
    fn write(&mut self, number: u32) -> io::Result<()> {
        let Some(bytes) = self.pending.remove(&number) else { return Ok(()) };
        let Extent { start, used, .. } = self.extents[&number];
        let end = start + u64::from(used);
        if end > self.length {
            self.length = end.next_multiple_of(GROWTH);
            self.file.set_len(self.length)?;
        }
        self.unforced = true;
        self.file.write(end - bytes.len() as u64, &bytes)
    }
}
