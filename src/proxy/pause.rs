//! How long a body may be silent, and how slowly one may come that is held until it is whole.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    mutants::{Mutant, is_active},
    timer::Timer,
};

/// How many bytes of a body that is held have to come in a second, after the first `limit` of
/// it. Apache asks for 500 and Kestrel for 240; a phone in a tunnel sends ten times as many.
const LEAST: u32 = 1 << 10;

/// How long the next piece of a body may take.
#[derive(Debug)]
pub(crate) struct Pause {
    limit: Duration,
    deadline: Option<Instant>,
    /// Set while nothing comes.
    until: Option<Instant>,
    /// It takes room until it is whole.
    is_held: bool,
    timer: Timer,
}

impl Pause {
    /// `limit` for each silence, `deadline` for all.
    pub(crate) fn new(limit: Duration, deadline: Option<Instant>) -> Self {
        Self { limit, deadline, until: None, is_held: false, timer: Timer::default() }
    }

    /// The same for a body that takes room until it is whole, so that it is not enough that it
    /// moves: from the first wait on it has `limit`, and a second for each KiB that comes.
    pub(crate) fn held(self) -> Self {
        Self { is_held: !is_active(Mutant::HoldTrickles), ..self }
    }

    /// Something came.
    pub(crate) fn end(&mut self) {
        self.until = None;
    }

    /// So many bytes came.
    pub(crate) fn came(&mut self, length: usize) {
        self.end();
        if self.is_held
            && let Some(deadline) = &mut self.deadline
        {
            *deadline += Duration::from_secs(1) * u32::try_from(length).unwrap_or(u32::MAX) / LEAST;
        }
    }

    /// Whether the time for all has passed.
    pub(crate) fn is_over(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
            && !is_active(Mutant::ReadPastTotal)
    }

    /// Ready when nothing has come for too long.
    pub(crate) fn poll_too_long(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let until = *self.until.get_or_insert_with(|| {
            let next = Instant::now() + self.limit;
            if self.is_held {
                self.deadline.get_or_insert(next);
            }
            self.deadline.map_or(next, |deadline| deadline.min(next))
        });
        self.timer.poll_until(until, cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::timeout;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    /// How many bytes come in time, `piece` of them each second and `most` in all.
    async fn come(mut pause: Pause, piece: usize, most: usize) -> usize {
        let mut came = 0;
        while came < most {
            let waits = poll_fn(|cx| pause.poll_too_long(cx));
            if timeout(Duration::from_secs(1), waits).await.is_ok() {
                break;
            }
            pause.came(piece);
            came += piece;
        }
        came
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_held_comes_at_a_rate() {
        const MIB: usize = 1 << 20;
        assert_eq!(come(Pause::new(LIMIT, None), 1, 10_000).await, 10_000);
        assert_eq!(come(Pause::new(LIMIT, None).held(), 1 << 10, MIB).await, MIB);
        let trickled = come(Pause::new(LIMIT, None).held(), 1, 10_000).await;
        assert!((29..=30).contains(&trickled), "{trickled}");
        // Half of what is asked for, so that its time is up after twice the limit.
        let trickled = come(Pause::new(LIMIT, None).held(), 512, MIB).await / 512;
        assert!((58..=60).contains(&trickled), "{trickled}");
    }
}
