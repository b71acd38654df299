//! How keys come from one generation into another.

use redb::Table;

use super::{Half, Place, Writing};
use crate::{
    mutants::{Mutant, is_active},
    store::embedded::tables::{Broken, broken, corrupted},
};

impl Writing<'_> {
    /// Moves up to `limit` keys into the generation that is growing, and returns how many: as
    /// many of each other, and each from its least key on. Since keys are spread evenly, these
    /// are the same part of all.
    pub(in super::super) fn merge(&mut self, limit: usize) -> Result<usize, Broken> {
        let Some(number) = self.opened.growing else { return Ok(0) };
        let (mut others, mut target) = (Vec::new(), None);
        for (generation, table) in &mut self.opened.generations {
            if generation.merges_into(Some(number)) {
                others.push(table);
            } else if generation.number == number {
                target = Some((&generation.filter, table));
            }
        }
        let Some((filter, target)) = target else {
            return Err(corrupted("generations that become one which is not there"));
        };
        let (mut left, mut moving) = (others.len(), Vec::new());
        for table in others {
            take((limit - moving.len()).div_ceil(left), table, &mut moving)?;
            left -= 1;
        }
        // In the order of keys, neighbours share the way to their page.
        moving.sort_unstable_by_key(|(half, _)| *half);
        for (half, place) in &moving {
            if !is_active(Mutant::MoveUnnoticed) {
                filter.add(half);
            }
            target.insert(half, *place).map_err(broken)?;
        }
        Ok(moving.len())
    }

    /// Moves up to `limit` keys of a generation that has few left into the youngest, and
    /// returns how many.
    pub(in super::super) fn thin_out(&mut self, limit: usize) -> Result<usize, Broken> {
        let Some(sparse) = self.opened.sparse()? else { return Ok(0) };
        let mut moving = Vec::new();
        take(limit, &mut self.opened.generations[sparse].1, &mut moving)?;
        for (half, place) in &moving {
            self.put(half, *place)?;
        }
        Ok(moving.len())
    }
}

/// Takes up to `limit` keys out of a table, from the least on.
fn take(
    limit: usize,
    table: &mut Table<'_, Half, Place>,
    taken: &mut Vec<([u8; 16], Place)>,
) -> Result<(), Broken> {
    for entry in table.extract_if(|_, _| true).map_err(broken)?.take(limit) {
        let (half, place) = entry.map_err(broken)?;
        taken.push((*half.value(), place.value()));
    }
    Ok(())
}
