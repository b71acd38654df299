//! How many outcomes have become unknown in this process, and why.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::engine::record::Reason;

/// One number for each reason.
#[derive(Debug, Default)]
pub(crate) struct Tally([AtomicU64; Reason::ALL.len()]);

impl Tally {
    pub(crate) fn add(&self, reason: Reason) {
        self.0[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn of(&self, reason: Reason) -> u64 {
        self.0[reason as usize].load(Ordering::Relaxed)
    }

    /// For whatever reason.
    pub(crate) fn all(&self) -> u64 {
        Reason::ALL.into_iter().map(|reason| self.of(reason)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_number() {
        let tally = Tally::default();
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            (0..=index).for_each(|_| tally.add(reason));
        }
        assert_eq!(Reason::ALL.map(|reason| tally.of(reason)), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(tally.all(), 45);
    }
}
