//! How long the head of a response may take.
//!
//! 1. `upstream.response_timeout` counts from the request. While the body of a request without
//!    a key is on its way, it counts from the last byte of it that has left, give or take an
//!    eighth: an upload may take as long as it moves.
//! 2. `upstream.total_timeout` is for everything, and moves for nothing.

use std::time::Duration;

use tokio::time::Instant;

/// How often it is looked whether a body moves, while the time for a response runs.
const LOOKS: u32 = 8;

/// How long a response may be waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    limit: Duration,
    /// Nobody waits beyond it.
    deadline: Option<Instant>,
    until: Instant,
    /// What is known of a body that is on its way.
    moving: Option<Moving>,
}

#[derive(Clone, Copy, Debug)]
struct Moving {
    /// How many bytes the connection had written at the last look.
    written: u64,
    look: Instant,
}

impl Patience {
    /// For a request that goes `now`.
    pub(crate) fn new(limit: Duration, deadline: Option<Instant>, now: Instant) -> Self {
        let until = earliest(now + limit, deadline);
        Self { limit, deadline, until, moving: None }
    }

    /// The same for a request whose body may still be on its way to the gate.
    pub(crate) fn while_it_moves(mut self, now: Instant) -> Self {
        self.moving = Some(Moving { written: 0, look: now + self.limit / LOOKS });
        self
    }

    /// How much has been written already, since that is nothing that moves from now on.
    pub(crate) fn begin(&mut self, written: impl FnOnce() -> u64) {
        if let Some(moving) = &mut self.moving {
            moving.written = written();
        }
    }

    /// When it is to be asked whether there is patience left.
    pub(crate) fn next(&self) -> Instant {
        self.moving.map_or(self.until, |moving| moving.look.min(self.until))
    }

    /// Whether there is patience left `now`.
    pub(crate) fn is_left(&mut self, written: u64, now: Instant) -> bool {
        let Some(moving) = &mut self.moving else { return false };
        if moving.written != written {
            moving.written = written;
            self.until = earliest(now + self.limit, self.deadline);
        }
        moving.look = now + self.limit / LOOKS;
        now < self.until
    }
}

fn earliest(at: Instant, deadline: Option<Instant>) -> Instant {
    deadline.map_or(at, |deadline| deadline.min(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// After how many seconds patience ends, if `written` says how much there is by then.
    fn ends(mut patience: Patience, start: Instant, written: impl Fn(u64) -> u64) -> u64 {
        loop {
            let now = patience.next();
            let seconds = (now - start).as_secs();
            if !patience.is_left(written(seconds), now) {
                return seconds;
            }
        }
    }

    #[test]
    fn a_body_that_moves_is_waited_for() {
        let start = Instant::now();
        let patience = |deadline: Option<u64>| {
            let deadline = deadline.map(|seconds| start + seconds as u32 * SECOND);
            let mut patience = Patience::new(80 * SECOND, deadline, start);
            patience.begin(|| 100);
            patience
        };
        let moving = |deadline| {
            let mut patience = patience(deadline).while_it_moves(start);
            patience.begin(|| 100);
            patience
        };
        assert_eq!(ends(patience(None), start, |seconds| 100 + seconds), 80, "it has no body");
        assert_eq!(ends(moving(None), start, |_| 100), 80, "all has left");
        assert_eq!(ends(moving(None), start, |seconds| 100 + seconds.min(500)), 580);
        assert_eq!(ends(moving(None), start, |seconds| 100 + seconds.min(503)), 590);
        assert_eq!(ends(moving(Some(300)), start, |seconds| 100 + seconds), 300);
        assert_eq!(ends(moving(Some(30)), start, |_| 100), 30);
    }
}
