//! A limit on silence: how long the next piece of a body may take.

use std::{
    future::Future as _,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep};

/// A timer that runs only while nothing comes.
#[derive(Debug)]
pub(crate) struct Pause {
    limit: Duration,
    deadline: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Pause {
    /// `limit` for each silence, `deadline` for all.
    pub(crate) const fn new(limit: Duration, deadline: Option<Instant>) -> Self {
        Self { limit, deadline, timer: None }
    }

    /// Something came.
    pub(crate) fn end(&mut self) {
        self.timer = None;
    }

    /// Ready when nothing has come for too long.
    pub(crate) fn poll_too_long(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| {
            let next = Instant::now() + self.limit;
            let until = self.deadline.map_or(next, |deadline| deadline.min(next));
            Box::pin(tokio::time::sleep_until(until))
        });
        timer.as_mut().poll(cx)
    }
}
