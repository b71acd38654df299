//! What a server takes of the machine.
//!
//! `/proc/PID/stat` counts processor time in hundredths of a second, user and system time
//! each rounded down, so that a second of a server that computes for a tenth of it would be
//! off by up to a fifth. `/proc/PID/task/TID/schedstat` has nanoseconds, but only of threads
//! that are there: what one has computed that ended since is lost. The larger of the two is
//! taken. While no thread ends that is always the second one, and what threads that did end
//! can take from it is less than the two hundredths that the first one is short of.

use std::{fs, time::Duration};

use rustix::param::{clock_ticks_per_second, page_size};

use crate::{
    Result,
    process::{Process, stat},
};

impl Process {
    /// Processor time of the process and what it has started, up to now.
    pub(crate) fn cpu(&self) -> Duration {
        self.family().into_iter().map(|id| of_threads(id).max(of_process(id))).sum()
    }

    /// Resident memory of the process, in bytes.
    pub(crate) fn resident(&self) -> Result<u64> {
        let statm = fs::read_to_string(format!("/proc/{}/statm", self.id()))?;
        let pages: u64 = statm.split(' ').nth(1).ok_or("statm has no second field")?.parse()?;
        Ok(pages * page_size() as u64)
    }
}

/// What all threads of a process have computed, those that have ended included. Nothing, where
/// the process has ended.
fn of_process(id: u32) -> Duration {
    let fields = stat(id).unwrap_or_default();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
    let ticks = ticks(11).unwrap_or(0) + ticks(12).unwrap_or(0);
    Duration::from_secs_f64(ticks as f64 / clock_ticks_per_second() as f64)
}

/// What the threads that a process has now have computed. Nothing, where the kernel does not
/// count it.
fn of_threads(id: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    let spent = threads.filter_map(|thread| {
        let line = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        line.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(spent.sum())
}
