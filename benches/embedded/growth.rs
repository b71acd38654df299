//! What a first request costs the store as records grow: its claim, and its response
//! of 256 bytes, counted from when it was due. And what a look for a record costs, or
//! for a key that is new.

use std::{
    num::NonZeroU64,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use oncegate::{
    ambient::System,
    store::{EmbeddedStore, Store},
};
use rustix::{
    thread::set_current_timer_slack,
    time::{ClockId, clock_gettime},
};
use tokio::runtime::Handle;

use crate::{Failure, sample};

/// First requests per second while they are timed.
const RATE: u64 = 4000;
/// In twenty seconds.
const REQUESTS: u64 = 20 * RATE;
const FILLERS: u64 = 1024;
const LOOKS: u64 = 200_000;

/// How long the recorded bodies are.
const BODY: usize = 256;

/// Prints a line for each size.
pub(crate) async fn run(sizes: &[String]) -> Result<(), Failure> {
    println!(
        "{:>10} {:>9} {:>9} {:>9} {:>11} {:>9} {:>9} {:>9} {:>8} {:>9} {:>9} {:>9}",
        "records",
        "fill/s",
        "bytes/rec",
        "rate/s",
        "CPU/request",
        "p50",
        "p99",
        "p99.9",
        "longest",
        "late p99",
        "CPU/look",
        "CPU/new"
    );
    for size in sizes {
        line(size.parse()?).await?;
    }
    Ok(())
}

async fn line(size: u64) -> Result<(), Failure> {
    let folder = crate::folder()?;
    let store = Arc::new(EmbeddedStore::open(folder.path(), Arc::new(System))?);
    let begun = Instant::now();
    let fillers = (0..FILLERS).map(|filler| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for number in (filler..size).step_by(FILLERS as usize) {
                request(&store, number).await?;
            }
            Ok::<(), Failure>(())
        })
    });
    for filler in fillers.collect::<Vec<_>>() {
        filler.await??;
    }
    let filled = size as f64 / begun.elapsed().as_secs_f64();
    // What the fill has left for later is done.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let bytes = bytes_in(folder.path())?;

    let (begun, cpu) = (Instant::now(), cpu());
    let timed = timed(&store, size).await?;
    let (cpu, took) = (self::cpu() - cpu - timed.cpu, begun.elapsed());
    drop(store);
    let store = EmbeddedStore::open(folder.path(), Arc::new(System))?;
    let old = look(&store, |number| number % size).await?;
    let new = look(&store, |number| number | 1 << 63).await?;
    let [p50, p99, p999, longest] = quantiles(timed.times, [0.5, 0.99, 0.999, 1.0]);
    let [late] = quantiles(timed.late, [0.99]);
    println!(
        "{size:>10} {filled:>9.0} {:>9} {:>9.0} {:>11.1?} {p50:>9.2?} {p99:>9.2?} {p999:>9.2?} \
         {longest:>8.1?} {late:>9.2?} {old:>9.2?} {new:>9.2?}",
        bytes / size,
        REQUESTS as f64 / took.as_secs_f64(),
        cpu / REQUESTS as u32,
    );
    Ok(())
}

/// What became of requests that were due at a fixed rate.
struct Timed {
    /// From when each was due to its end: a store that stalls is charged for all that came due
    /// meanwhile.
    times: Vec<Duration>,
    /// How much later than it was due each was begun, which is no fault of the store's.
    late: Vec<Duration>,
    /// What it took to begin them.
    cpu: Duration,
}

/// First requests for keys from `first` on, each in a task of its own. A thread begins them,
/// since timers of the runtime go by whole milliseconds.
async fn timed(store: &Arc<EmbeddedStore>, first: u64) -> Result<Timed, Failure> {
    let (store, runtime) = (Arc::clone(store), Handle::current());
    let pace = move || {
        // The kernel may put a wake-up off by this much; its default is 50 us.
        set_current_timer_slack(NonZeroU64::new(1_000))?;
        let (begun, cpu) = (Instant::now(), time(ClockId::ThreadCPUTime));
        let (mut tasks, mut late) = (Vec::new(), Vec::new());
        for number in 0..REQUESTS {
            let due = begun + Duration::from_nanos(number * 1_000_000_000 / RATE);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            late.push(due.elapsed());
            let store = Arc::clone(&store);
            tasks.push(runtime.spawn(async move {
                request(&store, first + number).await?;
                Ok::<_, Failure>(due.elapsed())
            }));
        }
        Ok::<_, Failure>((tasks, late, time(ClockId::ThreadCPUTime) - cpu))
    };
    let (tasks, late, cpu) = tokio::task::spawn_blocking(pace).await??;
    let mut times = Vec::with_capacity(tasks.len());
    for task in tasks {
        times.push(task.await??);
    }
    Ok(Timed { times, late, cpu })
}

fn quantiles<const N: usize>(mut times: Vec<Duration>, shares: [f64; N]) -> [Duration; N] {
    times.sort();
    shares.map(|share| times[((times.len() - 1) as f64 * share) as usize])
}

async fn request(store: &EmbeddedStore, number: u64) -> Result<(), Failure> {
    let (key, fence) = (sample::key(number), sample::fence());
    store.claim(&key, &sample::pending(fence), sample::KEEP).await?;
    store.swap(&key, fence, &sample::done(fence.next(), BODY), sample::KEEP).await?;
    Ok(())
}

/// What a look for keys all over the store costs, after as many looks.
async fn look(store: &EmbeddedStore, key: impl Fn(u64) -> u64) -> Result<Duration, Failure> {
    let mut begun = Duration::ZERO;
    for number in 0..2 * LOOKS {
        if number == LOOKS {
            begun = cpu();
        }
        // A multiplication by an odd number, so that no key comes twice soon.
        let key = sample::key(key(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1));
        std::hint::black_box(store.get(&key).await?);
    }
    Ok((cpu() - begun) / LOOKS as u32)
}

fn bytes_in(folder: &Path) -> Result<u64, Failure> {
    let mut bytes = 0;
    for file in std::fs::read_dir(folder)? {
        bytes += file?.metadata()?.len();
    }
    Ok(bytes)
}

/// The time that all threads of this process have computed.
fn cpu() -> Duration {
    time(ClockId::ProcessCPUTime)
}

fn time(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
