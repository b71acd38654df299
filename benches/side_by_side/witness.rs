//! Whether the machine itself stood still while latencies were taken.
//!
//! Each core has a thread that does nothing but look at the clock once a millisecond. How
//! late it is by p99 is what a server that needs no time at all would have shown, so a
//! latency near it says nothing of a server. A virtual machine whose processor time is
//! rationed stands still in the middle of each of the host's periods, for instance, and
//! its own counters know nothing of that.

use std::{
    num::NonZeroU64,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle, available_parallelism},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use rustix::{
    process::nice,
    thread::{CpuSet, sched_setaffinity, set_current_timer_slack},
};

use crate::{Result, load::new_histogram};

const TICK: Duration = Duration::from_millis(1);

/// How much the threads go ahead of what is measured, where this is allowed. Where it is not
/// they also wait behind it.
const AHEAD: i32 = -15;

/// Threads that look at the clock until this is dropped.
pub(crate) struct Witness {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<Histogram<u64>>>>,
}

impl Witness {
    pub(crate) fn start() -> Result<Self> {
        let mut witness = Self { over: Arc::default(), threads: Vec::new() };
        for core in 0..available_parallelism()?.get() {
            let over = Arc::clone(&witness.over);
            let watch = move || watch(core, &over);
            witness
                .threads
                .push(thread::Builder::new().name(format!("clock-{core}")).spawn(watch)?);
        }
        Ok(witness)
    }

    /// How late the threads were, all of them together, in nanoseconds.
    pub(crate) fn end(mut self) -> Result<Histogram<u64>> {
        self.over.store(true, Relaxed);
        let mut late = new_histogram()?;
        for thread in self.threads.drain(..) {
            late.add(thread.join().map_err(|_| "a thread that looks at the clock panicked")??)?;
        }
        Ok(late)
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
    }
}

fn watch(core: usize, over: &AtomicBool) -> Result<Histogram<u64>> {
    let mut cores = CpuSet::new();
    cores.set(core);
    // A core that this process may not use leaves the thread where it is.
    let _ = sched_setaffinity(None, &cores);
    let _ = nice(AHEAD);
    set_current_timer_slack(NonZeroU64::new(1_000))?;
    let mut late = new_histogram()?;
    let mut due = Instant::now();
    while !over.load(Relaxed) {
        due += TICK;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        // After a standstill every tick in it counts, as every request that was due in it does.
        late.saturating_record(due.elapsed().as_nanos() as u64);
    }
    Ok(late)
}
