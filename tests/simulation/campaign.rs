//! Many seeds, on several threads; each seed has a runtime of its own.

use std::{
    ops::Range,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use super::{
    Report,
    checker::Violation,
    faults::{Fault, Faults},
    run,
};

/// What many seeds showed.
#[derive(Debug, Default)]
pub struct Campaign {
    /// Seeds that ran.
    pub seeds: u64,
    /// Requests of clients.
    pub requests: u64,
    /// Faults by kind.
    pub faults: Faults,
    /// The lowest seed that failed, as far as they were run, with what it broke.
    pub failed: Option<(u64, Vec<Violation>)>,
}

/// Runs `seeds` on `threads` threads until one `has_failed`. `progress` hears of
/// every thousandth.
pub fn campaign(
    seeds: Range<u64>,
    threads: usize,
    has_failed: impl Fn(&Report) -> bool + Sync,
    progress: impl Fn(u64) + Sync,
) -> Campaign {
    let next = AtomicU64::new(seeds.start);
    let stop = AtomicBool::new(false);
    let total = Mutex::new(Campaign::default());
    let work = || {
        let mut mine = Campaign::default();
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                break;
            }
            let report = run(seed, false);
            mine.seeds += 1;
            mine.requests += report.requests as u64;
            mine.faults += &report.faults;
            if has_failed(&report) {
                stop.store(true, Ordering::Relaxed);
                mine.failed = Some((seed, report.violations));
            }
            let ran = seed + 1 - seeds.start;
            if ran.is_multiple_of(1000) {
                progress(ran);
            }
        }
        let mut total = total.lock().expect("nothing panics while it is held");
        total.seeds += mine.seeds;
        total.requests += mine.requests;
        total.faults += &mine.faults;
        let first = |failed: &Option<(u64, _)>| failed.as_ref().map_or(u64::MAX, |(seed, _)| *seed);
        if first(&mine.failed) < first(&total.failed) {
            total.failed = mine.failed;
        }
    };
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    total.into_inner().expect("nothing panics while it is held")
}

impl Campaign {
    /// The faults that happened, a line each.
    pub fn table(&self) -> String {
        let line = |fault: &Fault| format!("{:>12}  {}\n", self.faults[*fault], fault.as_str());
        Fault::ALL.iter().map(line).collect()
    }
}
