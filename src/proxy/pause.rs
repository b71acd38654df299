//! How long a body may be silent.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Instant;

use crate::timer::Timer;

/// How long the next piece of a body may take.
#[derive(Debug)]
pub(crate) struct Pause {
    limit: Duration,
    deadline: Option<Instant>,
    /// Set while nothing comes.
    until: Option<Instant>,
    timer: Timer,
}

impl Pause {
    /// `limit` for each silence, `deadline` for all.
    pub(crate) fn new(limit: Duration, deadline: Option<Instant>) -> Self {
        Self { limit, deadline, until: None, timer: Timer::default() }
    }

    /// Something came.
    pub(crate) fn end(&mut self) {
        self.until = None;
    }

    /// Ready when nothing has come for too long.
    pub(crate) fn poll_too_long(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let until = *self.until.get_or_insert_with(|| {
            let next = Instant::now() + self.limit;
            self.deadline.map_or(next, |deadline| deadline.min(next))
        });
        self.timer.poll_until(until, cx)
    }
}
