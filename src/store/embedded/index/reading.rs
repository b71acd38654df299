//! The index as readers see it.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    ops::Bound::{Excluded, Unbounded},
};

use redb::{Range, ReadOnlyTable};

use super::{Half, Opened, Place};
use crate::store::embedded::tables::{Broken, broken};

/// The index as it was at one moment.
#[derive(Debug)]
pub(in super::super) struct Reading(pub(super) Opened<ReadOnlyTable<Half, Place>>);

impl Reading {
    pub(in super::super) fn get(&self, half: &[u8; 16]) -> Result<Option<Place>, Broken> {
        self.0.get(half)
    }

    /// How many keys there are.
    pub(in super::super) fn count(&self) -> Result<u64, Broken> {
        self.0.count()
    }

    /// Whether there are keys that [move](super::Writing::thin_out) although nothing is put.
    pub(in super::super) fn is_due(&self) -> Result<bool, Broken> {
        Ok(self.0.sparse()?.is_some())
    }

    /// The first `limit` keys after `after`, in their order.
    pub(in super::super) fn list(
        &self,
        after: Option<&[u8; 16]>,
        limit: usize,
    ) -> Result<Vec<([u8; 16], Place)>, Broken> {
        let start = after.map_or(Unbounded, Excluded);
        let (mut ranges, mut heads) = (Vec::new(), BinaryHeap::new());
        for (_, table) in &self.0.generations {
            ranges.push(table.range::<&[u8; 16]>((start, Unbounded)).map_err(broken)?);
        }
        for from in 0..ranges.len() {
            heads.extend(head(&mut ranges, from)?);
        }
        let mut keys = Vec::new();
        while keys.len() < limit
            && let Some(Reverse((half, place, from))) = heads.pop()
        {
            keys.push((half, place));
            heads.extend(head(&mut ranges, from)?);
        }
        Ok(keys)
    }
}

type Head = Reverse<([u8; 16], Place, usize)>;

/// The next key of one generation.
fn head(ranges: &mut [Range<'_, Half, Place>], from: usize) -> Result<Option<Head>, Broken> {
    let Some(entry) = ranges[from].next() else { return Ok(None) };
    let (half, place) = entry.map_err(broken)?;
    Ok(Some(Reverse((*half.value(), place.value(), from))))
}
