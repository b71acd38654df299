//! Does a store with millions of expired records pause?
//!
//! Fills a store, lets everything expire at once by moving its clock, and times
//! claims before that and until the last expired record has been removed.
//!
//! ```console
//! $ cargo run --release --example expired -- 5000000 embedded
//! $ TMPDIR=/dev/shm cargo run --release --example expired -- 5000000 embedded
//! $ cargo run --release --example expired -- 5000000 memory
//! ```
//!
//! Beside the claims a witness forces a write of its own to the same disk, and another
//! one waits for a millisecond again and again: who is late at the same moment as a
//! claim says whether the disk or the machine stood still. In memory (`/dev/shm`)
//! there is no disk to wait for.
//!
//! Exit code 1 when the removal made claims wait for more than 20 ms: neither witness
//! was late, or the disk was later than it ever was before anything expired. A machine
//! that does this to claims before anything expires is no witness; there the removal
//! must not make it worse.

#![allow(clippy::print_stdout, reason = "a program for people")]

#[path = "expired/witness.rs"]
mod witness;

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use oncegate::{
    ambient::{Ambient, System},
    engine::{
        fingerprint::Fingerprint,
        policy::Keep,
        record::{Fence, Pending, Record, StoreKey, Timestamp, Token},
    },
    store::{EmbeddedStore, MemoryStore, Store},
};
use witness::{Late, Witnesses, report};

const HOUR: Duration = Duration::from_secs(3600);
const FILLERS: u64 = 1024;
/// How long claims are timed before anything expires.
const BEFORE: Duration = Duration::from_secs(20);
/// More than this is a pause.
const PAUSE: Duration = Duration::from_millis(20);

/// A clock that is moved by hand.
#[derive(Debug)]
struct Clock(AtomicU64);

impl Ambient for Clock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Relaxed))
    }

    fn token(&self) -> Token {
        System.token()
    }
}

#[derive(Clone)]
enum Kind {
    Embedded(Arc<EmbeddedStore>),
    Memory(Arc<MemoryStore>),
}

impl Kind {
    fn store(&self) -> &dyn Store {
        match self {
            Self::Embedded(store) => &**store,
            Self::Memory(store) => &**store,
        }
    }

    fn count(&self) -> u64 {
        match self {
            Self::Embedded(store) => store.count().expect("the store works"),
            Self::Memory(store) => store.len() as u64,
        }
    }

    /// Between two claims. The memory store removes when it is written to.
    fn rest(&self) -> Duration {
        match self {
            Self::Embedded(_) => Duration::from_micros(500),
            Self::Memory(_) => Duration::ZERO,
        }
    }
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let records: u64 = arguments.next().as_deref().unwrap_or("5000000").parse()?;
    let kind = arguments.next().unwrap_or_else(|| "embedded".to_owned());
    let clock = Arc::new(Clock(AtomicU64::new(1_000_000)));
    let ambient: Arc<dyn Ambient> = clock.clone();
    let folder = tempfile::tempdir()?;
    let store = match kind.as_str() {
        "embedded" => Kind::Embedded(Arc::new(EmbeddedStore::open(folder.path(), ambient)?)),
        "memory" => Kind::Memory(Arc::new(MemoryStore::new(ambient))),
        other => return Err(format!("no store `{other}`; use embedded or memory").into()),
    };

    let begun = Instant::now();
    let filling = (0..FILLERS).map(|filler| {
        let store = store.clone();
        tokio::spawn(async move {
            for number in (filler..records).step_by(FILLERS as usize) {
                claim(store.store(), number).await;
            }
        })
    });
    for filler in filling.collect::<Vec<_>>() {
        filler.await?;
    }
    let took = begun.elapsed();
    println!("{kind}: {records} records in {took:.0?}, {:.0}/s", per_second(records, took));

    let over = Arc::new(AtomicBool::new(false));
    let timing = time(store.clone(), u64::MAX / 2, Arc::clone(&over));
    let witnesses = Witnesses::call(folder.path())?;
    tokio::time::sleep(BEFORE).await;
    over.store(true, Relaxed);
    let before = timing.await?;
    let heard = witnesses.hear();
    report("before anything expires", &before, &heard);
    let calm = heard.longest_write().max(PAUSE);
    let usual = heard.pauses(&before, PAUSE, calm);

    let expired = store.count();
    let over = Arc::new(AtomicBool::new(false));
    let witnesses = Witnesses::call(folder.path())?;
    clock.0.fetch_add(2 * HOUR.as_millis() as u64, Relaxed);
    let begun = Instant::now();
    let timing = time(store.clone(), u64::MAX / 4, Arc::clone(&over));
    let new = || claims_since(u64::MAX / 4);
    while store.count() > new() + 1 {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let took = begun.elapsed();
    over.store(true, Relaxed);
    let during = timing.await?;
    let heard = witnesses.hear();
    report("while the expired ones are removed", &during, &heard);
    println!("{expired} removed in {took:.1?}, {:.0}/s", per_second(expired, took));

    let pauses = heard.pauses(&during, PAUSE, calm);
    println!("above {PAUSE:?} before anything expired: {usual}");
    println!("above {PAUSE:?} during the removal: {pauses}");
    Ok(if pauses.are_more_than(&usual) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn per_second(number: u64, took: Duration) -> f64 {
    number as f64 / took.as_secs_f64()
}

/// The number of the next claim that is timed.
static NEXT: AtomicU64 = AtomicU64::new(0);

fn claims_since(from: u64) -> u64 {
    NEXT.load(Relaxed).saturating_sub(from)
}

/// Times claims, one after the other, until it is over.
fn time(store: Kind, from: u64, over: Arc<AtomicBool>) -> tokio::task::JoinHandle<Vec<Late>> {
    NEXT.store(from, Relaxed);
    tokio::spawn(async move {
        let mut times = Vec::new();
        while !over.load(Relaxed) {
            let begun = Instant::now();
            claim(store.store(), NEXT.fetch_add(1, Relaxed)).await;
            times.push(Late { begun, took: begun.elapsed() });
            match store.rest() {
                Duration::ZERO => tokio::task::yield_now().await,
                rest => tokio::time::sleep(rest).await,
            }
        }
        times
    })
}

async fn claim(store: &dyn Store, number: u64) {
    let mut key = [0; 32];
    // Spread like the hashes that real keys are.
    key[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    key[8..16].copy_from_slice(&number.to_be_bytes());
    let record = Record::Pending(Pending {
        fence: Fence::new(Token([7; 16])),
        fingerprint: Fingerprint::from_bytes([1; 32]),
        node: "example".into(),
        started: Timestamp(0),
        lease_until: Timestamp(0),
    });
    let keep = Keep { record: HOUR, response: None };
    store.claim(&StoreKey::from_bytes(key), &record, keep).await.expect("the store works");
}
