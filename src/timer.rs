//! Limits on silence, which hardly ever end it.

use std::{
    future::Future as _,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use tokio::{
    task::coop::unconstrained,
    time::{Instant, Sleep},
};

/// A timer for limits that are set often and hardly ever reached.
///
/// Setting one is free while an earlier one still waits: that rings too early at
/// worst, and is wound up anew.
#[derive(Debug, Default)]
pub(crate) struct Timer(Option<Box<Set>>);

#[derive(Debug)]
struct Set {
    sleep: Pin<Box<Sleep>>,
    /// Whom it wakes.
    waker: Option<Waker>,
}

impl Timer {
    /// Ready when it is later than `until`, else wakes the task then.
    pub(crate) fn poll_until(&mut self, until: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let Set { sleep, waker } = &mut **self.0.get_or_insert_with(|| {
            let sleep = Box::pin(tokio::time::sleep_until(until));
            Box::new(Set { sleep, waker: None })
        });
        if sleep.deadline() > until {
            sleep.as_mut().reset(until);
        } else if waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()))
            && !sleep.is_elapsed()
        {
            return Poll::Pending;
        }
        *waker = Some(cx.waker().clone());
        // A task whose turn is over must be entered, too: it is not asked for its waker again.
        while pin!(unconstrained(sleep.as_mut())).poll(cx).is_ready() {
            if sleep.deadline() >= until {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(until);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use tokio::task::coop::{consume_budget, has_budget_remaining};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_timer_rings_when_it_was_last_set_to() {
        let mut timer = Timer::default();
        let start = Instant::now();
        for seconds in [5, 9, 2, 30] {
            let set = timer.poll_until(start + seconds * SECOND, &mut noop());
            assert!(set.is_pending());
        }
        poll_fn(|cx| timer.poll_until(start + 20 * SECOND, cx)).await;
        assert_eq!(start.elapsed(), 20 * SECOND);
        poll_fn(|cx| timer.poll_until(start + 21 * SECOND, cx)).await;
        assert_eq!(start.elapsed(), 21 * SECOND);
        poll_fn(|cx| timer.poll_until(start, cx)).await;
        assert_eq!(start.elapsed(), 21 * SECOND, "what has passed has passed");
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_rings_for_a_task_whose_turn_was_over() {
        let mut timer = Timer::default();
        let start = Instant::now();
        let mut polls = 0;
        let rings = poll_fn(|cx| {
            polls += 1;
            while polls == 1 && has_budget_remaining() {
                let _ = pin!(consume_budget()).poll(cx);
            }
            timer.poll_until(start + 5 * SECOND, cx)
        });
        tokio::time::timeout(60 * SECOND, rings).await.unwrap();
        assert_eq!(start.elapsed(), 5 * SECOND);
    }

    fn noop() -> Context<'static> {
        Context::from_waker(std::task::Waker::noop())
    }
}
