//! Who else was late when a claim was.

use std::{
    fmt,
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

    /// Whether `claim` waited for the disk or the machine: for half of the time or more
    /// these were late too. A disk that was slower than `calm` was made so.
    fn explains(&self, claim: &Late, calm: Duration) -> bool {
        let late = |seen: &[Late]| {
            let late = seen.iter().filter(|seen| seen.took > 4 * TICK);
            late.map(|seen| seen.overlap(claim)).sum::<Duration>()
        };
        let disk = if claim.took <= 2 * calm { late(&self.disk) } else { Duration::ZERO };
        2 * (late(&self.machine) + disk) >= claim.took
    }

    /// How many `claims` took more than `limit`, and how many of these nothing explains.
    pub(crate) fn pauses(&self, claims: &[Late], limit: Duration, calm: Duration) -> Pauses {
        let pauses: Vec<&Late> = claims.iter().filter(|claim| claim.took > limit).collect();
        let unexplained = pauses.iter().filter(|pause| !self.explains(pause, calm)).count();
        Pauses { claims: claims.len(), all: pauses.len(), unexplained }
    }
}

/// Claims that took too long.
pub(crate) struct Pauses {
    claims: usize,
    all: usize,
    unexplained: usize,
}

impl Pauses {
    /// Whether there are more that nothing explains than there were `before`.
    pub(crate) fn are_more_than(&self, before: &Self) -> bool {
        let share = |pauses: &Self| pauses.unexplained as f64 / pauses.claims.max(1) as f64;
        share(self) > share(before)
    }
}

impl fmt::Display for Pauses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { claims, all, unexplained } = self;
        write!(f, "{all} of {claims} claims, {unexplained} without the disk or the machine")
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
