//! Who else was late when a claim was.

use std::{
    fs::File,
    io::{self, Seek, SeekFrom, Write},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// How often the witnesses look.
const TICK: Duration = Duration::from_millis(1);
/// How often one of them forces a write to the disk.
const WRITE: Duration = Duration::from_millis(5);

/// Something that took its time.
pub(crate) struct Late {
    pub(crate) begun: Instant,
    pub(crate) took: Duration,
}

impl Late {
    /// How long both went on at the same time.
    fn overlap(&self, other: &Self) -> Duration {
        let end = (self.begun + self.took).min(other.begun + other.took);
        end.saturating_duration_since(self.begun.max(other.begun))
    }
}

/// Two threads that watch the disk and the machine.
pub(crate) struct Witnesses {
    over: Arc<AtomicBool>,
    disk: JoinHandle<io::Result<Vec<Late>>>,
    machine: JoinHandle<Vec<Late>>,
}

/// What they have seen.
pub(crate) struct Heard {
    disk: Vec<Late>,
    machine: Vec<Late>,
}

/// Who made a claim wait.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Blame {
    /// A forced write to a file of its own took as long.
    Disk,
    /// A thread that wanted to run for a moment did not get to it.
    Machine,
}

impl Witnesses {
    /// They watch from now on; `folder` is on the disk in question.
    pub(crate) fn call(folder: &Path) -> io::Result<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let mut file = File::create(folder.join("witness"))?;
        file.write_all(&[1; 4096])?;
        file.sync_all()?;
        let end = Arc::clone(&over);
        let disk = thread::spawn(move || {
            let mut seen = Vec::new();
            while !end.load(Relaxed) {
                let begun = Instant::now();
                file.seek(SeekFrom::Start(0))?;
                file.write_all(&[2; 4096])?;
                file.sync_data()?;
                seen.push(Late { begun, took: begun.elapsed() });
                thread::sleep(WRITE);
            }
            Ok(seen)
        });
        let end = Arc::clone(&over);
        let machine = thread::spawn(move || {
            let mut seen = Vec::new();
            while !end.load(Relaxed) {
                let begun = Instant::now();
                thread::sleep(TICK);
                seen.push(Late { begun, took: begun.elapsed() });
            }
            seen
        });
        Ok(Self { over, disk, machine })
    }

    /// Ends the watch.
    pub(crate) fn hear(self) -> Heard {
        self.over.store(true, Relaxed);
        let disk = self.disk.join().expect("it does not panic").expect("its disk works");
        Heard { disk, machine: self.machine.join().expect("it does not panic") }
    }
}

impl Heard {
    /// The longest of the disk's own forced writes.
    pub(crate) fn longest_write(&self) -> Duration {
        longest(&self.disk)
    }

    /// Who made `claim` wait, if not the store: half of the time or more. A disk that
    /// was slower than `calm` was made so.
    pub(crate) fn blame(&self, claim: &Late, calm: Duration) -> Option<Blame> {
        let late = |seen: &[Late]| {
            let late = seen.iter().filter(|seen| seen.took > 4 * TICK);
            late.map(|seen| seen.overlap(claim)).sum::<Duration>() * 2 >= claim.took
        };
        if late(&self.machine) {
            Some(Blame::Machine)
        } else if late(&self.disk) && claim.took <= 2 * calm {
            Some(Blame::Disk)
        } else {
            None
        }
    }
}

/// Prints how long claims took, and what the witnesses saw.
pub(crate) fn report(when: &str, claims: &[Late], heard: &Heard) {
    println!("{when}:");
    line("claims", claims);
    line("forced writes beside them", &heard.disk);
    line("sleeps of 1 ms beside them", &heard.machine);
}

fn line(what: &str, seen: &[Late]) {
    let mut times: Vec<Duration> = seen.iter().map(|seen| seen.took).collect();
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!(
        "  {what:<27} {:>8}  p50 {:>8.2?}  p99 {:>8.2?}  p99.9 {:>8.2?}  longest {:>8.2?}",
        times.len(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0),
    );
}

fn longest(seen: &[Late]) -> Duration {
    seen.iter().map(|seen| seen.took).max().unwrap_or_default()
}
