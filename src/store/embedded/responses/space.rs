//! Which parts of a file are free.

use std::{collections::BTreeMap, ops::Range};

/// Parts begin and end at multiples of this many bytes.
pub(super) const UNIT: u64 = 64 << 10;

/// The free parts of a file that can grow.
#[derive(Debug, Default)]
pub(super) struct Space {
    /// Where the free parts before `end` begin and end. No two of them touch.
    free: BTreeMap<u64, u64>,
    /// Everything from here on is free.
    end: u64,
}

impl Space {
    /// What is free beside `parts`. `None`: two of them overlap.
    pub(super) fn beside(mut parts: Vec<Range<u64>>) -> Option<Self> {
        parts.sort_unstable_by_key(|part| part.start);
        let mut space = Self::default();
        for Range { start, end } in parts {
            if start < space.end {
                return None;
            }
            if start > space.end {
                space.free.insert(space.end, start);
            }
            space.end = end;
        }
        Some(space)
    }

    /// How far the file is in use.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Takes the first free part that has `least` bytes, and of it `wanted` at the most.
    pub(super) fn take(&mut self, least: u64, wanted: u64) -> Range<u64> {
        let found = self.free.iter().find(|&(start, end)| end - start >= least);
        let Some((&start, &end)) = found else {
            let start = self.end;
            self.end += wanted;
            return start..self.end;
        };
        self.free.remove(&start);
        let part = start..end.min(start + wanted);
        if part.end < end {
            self.free.insert(part.end, end);
        }
        part
    }

    /// Gives back what was taken, or the rest of it.
    pub(super) fn give(&mut self, Range { mut start, mut end }: Range<u64>) {
        if start == end {
            return;
        }
        if let Some((&before, &touches)) = self.free.range(..start).next_back()
            && touches == start
        {
            self.free.remove(&before);
            start = before;
        }
        if let Some(after) = self.free.remove(&end) {
            end = after;
        }
        if end == self.end {
            self.end = start;
        } else {
            self.free.insert(start, end);
        }
    }
}

/// As many bytes as whole units have that hold `bytes`.
pub(super) fn units(bytes: u64) -> u64 {
    bytes.next_multiple_of(UNIT)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_part_that_is_large_enough_is_taken() {
        let mut space = Space::beside(vec![40..50, 10..20, 23..30]).unwrap();
        assert_eq!(space.end(), 50);
        assert_eq!(space.take(5, 8), 0..8);
        assert_eq!(space.take(2, 8), 8..10);
        assert_eq!(space.take(4, 20), 30..40);
        assert_eq!(space.take(4, 20), 50..70);
        space.give(60..70);
        assert_eq!((space.take(3, 3), space.end()), (20..23, 60));
    }

    #[test]
    fn parts_that_overlap_are_refused() {
        assert!(Space::beside(vec![0..10, 10..20]).is_some());
        assert!(Space::beside(vec![0..10, 9..20]).is_none());
    }

    proptest! {
        #[test]
        fn what_is_taken_is_nobody_elses(
            steps in prop::collection::vec((1..9_u64, 0..9_u64, any::<prop::sample::Index>()), 1..200)
        ) {
            let (mut space, mut taken): (_, Vec<Range<u64>>) = (Space::default(), Vec::new());
            for (least, more, give) in steps {
                let part = space.take(least, least + more);
                prop_assert!((least..=least + more).contains(&(part.end - part.start)));
                prop_assert!(taken.iter().all(|other| part.end <= other.start || other.end <= part.start));
                taken.push(part);
                if more > 3 {
                    space.give(taken.swap_remove(give.index(taken.len())));
                }
                prop_assert_eq!(space.end(), taken.iter().map(|part| part.end).max().unwrap_or(0));
                let again = Space::beside(taken.clone()).unwrap();
                prop_assert_eq!((space.end, &space.free), (again.end, &again.free));
            }
            taken.into_iter().for_each(|part| space.give(part));
            prop_assert_eq!((space.end, space.free.len()), (0, 0));
        }
    }
}
