//! What a first request costs the store as records grow: its claim, and its response
//! of 256 bytes. And what a look for a record costs, or for a key that is new.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use oncegate::{
    ambient::System,
    store::{EmbeddedStore, Store},
};
use rustix::time::{ClockId, clock_gettime};

use crate::{Failure, sample};

/// First requests per second while they are timed.
const RATE: u64 = 4000;
const TIME: Duration = Duration::from_secs(20);
const CLAIMANTS: u64 = 64;
const FILLERS: u64 = 1024;
const LOOKS: u64 = 200_000;

/// How long the recorded bodies are.
const BODY: usize = 256;

/// Prints a line for each size.
pub(crate) async fn run(sizes: &[String]) -> Result<(), Failure> {
    println!(
        "{:>10} {:>9} {:>9} {:>9} {:>11} {:>9} {:>9} {:>9} {:>8} {:>9} {:>9}",
        "records",
        "fill/s",
        "bytes/rec",
        "rate/s",
        "CPU/request",
        "p50",
        "p99",
        "p99.9",
        "longest",
        "CPU/look",
        "CPU/new"
    );
    for size in sizes {
        line(size.parse()?).await?;
    }
    Ok(())
}

async fn line(size: u64) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
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
    let next = Arc::new(AtomicU64::new(0));
    let claimants = (0..CLAIMANTS).map(|_| {
        let (store, next) = (Arc::clone(&store), Arc::clone(&next));
        tokio::spawn(async move {
            let mut times = Vec::new();
            loop {
                let number = next.fetch_add(1, Relaxed);
                let due = begun + Duration::from_nanos(number * 1_000_000_000 / RATE);
                if due > begun + TIME {
                    return Ok::<_, Failure>(times);
                }
                tokio::time::sleep_until(due.into()).await;
                let begun = Instant::now();
                request(&store, size + number).await?;
                times.push(begun.elapsed());
            }
        })
    });
    let mut times = Vec::new();
    for claimant in claimants.collect::<Vec<_>>() {
        times.append(&mut claimant.await??);
    }
    let (cpu, took) = (self::cpu() - cpu, begun.elapsed());
    drop(store);
    let store = EmbeddedStore::open(folder.path(), Arc::new(System))?;
    let old = look(&store, |number| number % size).await?;
    let new = look(&store, |number| number | 1 << 63).await?;
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!(
        "{size:>10} {filled:>9.0} {:>9} {:>9.0} {:>11.1?} {:>9.2?} {:>9.2?} {:>9.2?} {:>8.1?} {old:>9.2?} {new:>9.2?}",
        bytes / size,
        times.len() as f64 / took.as_secs_f64(),
        cpu / times.len() as u32,
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0),
    );
    Ok(())
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
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
