//! What is known of the disk: how much room it has, and whether it answers.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// Says how much room there is; `None`: nobody knows.
pub(super) struct Room(Box<dyn Fn() -> Option<Space> + Send + Sync>);

/// How many bytes there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Space {
    /// Left on the disk.
    pub(super) left: u64,
    /// In the tables.
    pub(super) tables: u64,
}

impl Room {
    pub(super) fn new(ask: impl Fn() -> Option<Space> + Send + Sync + 'static) -> Self {
        Self(Box::new(ask))
    }

    pub(super) fn unknown() -> Self {
        Self::new(|| None)
    }

    /// How much there is, as far as that is known.
    pub(super) fn space(&self) -> Space {
        (self.0)().unwrap_or(Space { left: u64::MAX, tables: 0 })
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Room(..)")
    }
}

/// Since when the committer has had a batch in hand.
#[derive(Debug)]
pub(super) struct Hand {
    opened: Instant,
    /// In milliseconds since then, and one more; 0: it waits for work.
    since: AtomicU64,
}

impl Hand {
    pub(super) fn empty() -> Self {
        Self { opened: Instant::now(), since: AtomicU64::new(0) }
    }

    pub(super) fn take(&self) {
        self.since.store(self.now(), Relaxed);
    }

    pub(super) fn lay_down(&self) {
        self.since.store(0, Relaxed);
    }

    /// Whether it is the same batch since so long.
    pub(super) fn is_busy_for(&self, limit: Duration) -> bool {
        let since = self.since.load(Relaxed);
        since != 0 && u128::from(self.now().saturating_sub(since)) > limit.as_millis()
    }

    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }
}
