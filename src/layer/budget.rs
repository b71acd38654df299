//! How much memory all buffered request bodies may take together.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// A process-wide number of bytes, shared by all routes.
#[derive(Clone, Debug)]
pub(crate) struct Budget(Arc<Account>);

#[derive(Debug)]
struct Account {
    limit: usize,
    used: AtomicUsize,
}

/// Bytes taken from a [`Budget`]; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    budget: Budget,
    bytes: usize,
}

/// The budget has no room.
#[derive(Debug)]
pub(crate) struct Exhausted;

impl Budget {
    pub(crate) fn new(limit: usize) -> Self {
        Self(Arc::new(Account { limit, used: AtomicUsize::new(0) }))
    }

    /// A permit for nothing yet.
    pub(crate) fn permit(&self) -> Permit {
        Permit { budget: self.clone(), bytes: 0 }
    }

    /// Bytes in use.
    pub(crate) fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }
}

impl Permit {
    /// Takes more, or changes nothing.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), Exhausted> {
        let Account { limit, used } = &*self.budget.0;
        let room = |used: usize| used.checked_add(bytes).filter(|used| used <= limit);
        used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).map_err(|_| Exhausted)?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.budget.0.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_changes_nothing_and_all_is_given_back() {
        let budget = Budget::new(10);
        let mut one = budget.permit();
        one.grow(6).unwrap();
        let mut two = budget.permit();
        assert!(two.grow(5).is_err());
        two.grow(4).unwrap();
        assert!(one.grow(1).is_err());
        drop(two);
        one.grow(4).unwrap();
        drop(one);
        assert_eq!(budget.used(), 0);
    }
}
