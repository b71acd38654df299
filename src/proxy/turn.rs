//! Turns of a connection's task, and wakes within them.
//!
//! A task that serves a client drives the library on both sides of an exchange. When one
//! side takes what the other has for it, the library wakes the other: the very task that
//! is at work, which would be entered once more to find nothing to do.
//!
//! 1. A wake from outside a turn, or from another thread, reaches the task as ever.
//! 2. A wake within a turn counts at its end, unless who has caused it takes it back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake, Waker},
};

use super::pace::Pace;

/// Whether a task has its turn. Only the thread that has set a flag goes by it, so the
/// order in which others see it does not matter.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// The thread that is at work, or 0.
    thread: AtomicUsize,
    /// It has woken its own task.
    woken: AtomicBool,
}

impl Turn {
    /// Does some of the work of a turn. When that returns that it was the last of its kind,
    /// nothing is left to do for whomever it has woken.
    pub(super) fn work<T>(&self, work: impl FnOnce() -> (T, bool)) -> (T, bool) {
        let before = self.is_here().then(|| self.woken.load(Relaxed));
        let (done, is_last) = work();
        if let Some(before) = before
            && is_last
        {
            self.woken.store(before, Relaxed);
        }
        (done, is_last)
    }

    fn is_here(&self) -> bool {
        self.thread.load(Relaxed) == here()
    }
}

/// What stands for this thread; never 0.
fn here() -> usize {
    thread_local!(static HERE: u8 = const { 0 });
    HERE.with(|here| std::ptr::from_ref(here).addr())
}

/// The turns of one connection.
pub(super) struct Turns {
    pace: Pace,
    /// The task's own waker, and the one that notes.
    wakers: Option<(Waker, Waker)>,
}

/// Wakes the task, or notes that it was woken within its turn.
struct Noting {
    task: Waker,
    pace: Pace,
}

impl Turns {
    pub(super) fn new(pace: Pace) -> Self {
        Self { pace, wakers: None }
    }

    /// A turn, which `poll` takes.
    pub(super) fn take<T>(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let known = self.wakers.take().filter(|(task, _)| task.will_wake(cx.waker()));
        let (_, noting) = self.wakers.insert(known.unwrap_or_else(|| {
            let (task, pace) = (cx.waker().clone(), self.pace.clone());
            (task.clone(), Waker::from(Arc::new(Noting { task, pace })))
        }));
        let turn = self.pace.turn();
        turn.thread.store(here(), Relaxed);
        turn.woken.store(false, Relaxed);
        let polled = poll(&mut Context::from_waker(noting));
        turn.thread.store(0, Relaxed);
        if polled.is_pending() && turn.woken.load(Relaxed) {
            cx.waker().wake_by_ref();
        }
        polled
    }
}

impl Wake for Noting {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let turn = self.pace.turn();
        if turn.is_here() {
            turn.woken.store(true, Relaxed);
        } else {
            self.task.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    /// How often a turn of `work` has woken its task, and what woke it then.
    fn turn(work: impl FnOnce(&Turn, &Waker)) -> usize {
        let (count, pace) = (Arc::<Count>::default(), Pace::default());
        let task = Waker::from(Arc::clone(&count));
        let mut turns = Turns::new(pace.clone());
        let polled = turns.take(&mut Context::from_waker(&task), |cx| {
            work(pace.turn(), cx.waker());
            Poll::<()>::Pending
        });
        assert!(polled.is_pending());
        count.0.load(Relaxed)
    }

    #[test]
    fn a_wake_within_a_turn_counts_at_its_end_unless_it_is_taken_back() {
        assert_eq!(turn(|_, _| ()), 0);
        assert_eq!(turn(|_, waker| (0..3).for_each(|_| waker.wake_by_ref())), 1);
        let work = |turn: &Turn, waker: &Waker, is_last| {
            turn.work(|| (waker.wake_by_ref(), is_last));
        };
        assert_eq!(turn(|turn, waker| work(turn, waker, true)), 0);
        assert_eq!(turn(|turn, waker| work(turn, waker, false)), 1);
        let both = |turn: &Turn, waker: &Waker| {
            waker.wake_by_ref();
            work(turn, waker, true);
        };
        assert_eq!(turn(both), 1, "an earlier wake is not the work's to take back");
    }

    #[test]
    fn a_wake_from_elsewhere_reaches_the_task() {
        let elsewhere = |turn: &Turn, waker: &Waker| {
            thread::scope(|scope| {
                scope.spawn(|| turn.work(|| (waker.wake_by_ref(), true)));
            });
        };
        assert_eq!(turn(elsewhere), 1, "from another thread");
        let (count, pace) = (Arc::<Count>::default(), Pace::default());
        let task = Waker::from(Arc::clone(&count));
        let mut turns = Turns::new(pace.clone());
        let mut kept = None;
        let ended = turns.take(&mut Context::from_waker(&task), |cx| {
            kept = Some(cx.waker().clone());
            Poll::Ready(())
        });
        assert!(ended.is_ready());
        pace.turn().work(|| (kept.unwrap().wake(), true));
        assert_eq!(count.0.load(Relaxed), 1, "after its turn");
    }
}
