//! The file as readers see it.

use std::sync::Arc;

use bytes::Bytes;

use super::{Spot, checked};
use crate::{
    engine::record::{StoreKey, Timestamp},
    mutants::{Mutant, is_active},
    store::embedded::{
        peeking::File,
        row::{self, Row},
        tables::{Broken, broken, corrupted},
    },
};

/// As much of a row as is read for its head.
const FRONT: usize = 512;

/// Whether somebody may wait for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Haste {
    /// What would have to be waited for is an error.
    Now,
    /// He may.
    Wait,
}

/// The extents as they were at one moment.
#[derive(Debug)]
pub(in super::super) struct Reading {
    file: Arc<File>,
    /// Number, bytes that were left behind, beginning.
    extents: Vec<(u32, u32, u64)>,
    /// When the first of them can be left.
    first_end: Option<u64>,
}

impl Reading {
    pub(super) fn new(
        file: Arc<File>,
        extents: Vec<(u32, u32, u64)>,
        first_end: Option<u64>,
    ) -> Self {
        Self { file, extents, first_end }
    }

    /// Whether an extent can be left at `now`.
    pub(in super::super) fn is_due(&self, now: Timestamp) -> bool {
        self.first_end.is_some_and(|end| end <= now.0)
    }

    /// The row at `spot` and its key. `None`: its head is in `records`.
    pub(in super::super) fn row(&self, spot: Spot) -> Result<Option<(StoreKey, Row)>, Broken> {
        let Some(start) = self.start(spot) else { return Ok(None) };
        self.whole(start, spot, Haste::Wait).map(Some)
    }

    /// The same, but for one that would have to be waited for.
    pub(in super::super) fn row_now(&self, spot: Spot) -> Result<Option<(StoreKey, Row)>, Broken> {
        let Some(start) = self.start(spot) else { return Ok(None) };
        self.whole(start, spot, Haste::Now).map(Some)
    }

    /// The same without the response.
    pub(in super::super) fn bare(&self, spot: Spot) -> Result<Option<(StoreKey, Row)>, Broken> {
        let Some(start) = self.start(spot) else { return Ok(None) };
        let mut front = self.bytes(start, FRONT.min(spot.length as usize), Haste::Wait)?;
        if let Some(found) = row::take_bare(&mut front) {
            return Ok(Some(found));
        }
        let (key, row) = self.whole(start, spot, Haste::Wait)?;
        Ok(Some((key, Row { response: None, ..row })))
    }

    fn whole(&self, start: u64, spot: Spot, haste: Haste) -> Result<(StoreKey, Row), Broken> {
        let mut bytes = self.bytes(start, spot.length as usize, haste)?;
        checked(&mut bytes).ok_or_else(|| corrupted("a damaged response"))
    }

    /// Where a row begins, unless it was left behind.
    fn start(&self, spot: Spot) -> Option<u64> {
        let at = self.extents.binary_search_by_key(&spot.extent, |extent| extent.0).ok()?;
        let (_, left, start) = self.extents[at];
        (spot.offset >= left).then_some(start + u64::from(spot.offset))
    }

    fn bytes(&self, start: u64, length: usize, haste: Haste) -> Result<Bytes, Broken> {
        let mut bytes = vec![0; length];
        match haste {
            Haste::Now if !is_active(Mutant::WaitInPlace) => self.file.read_now(start, &mut bytes),
            Haste::Now | Haste::Wait => self.file.read(start, &mut bytes),
        }
        .map_err(broken)?;
        Ok(bytes.into())
    }
}
