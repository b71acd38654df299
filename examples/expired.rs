//! Does a store with millions of expired records pause?
//!
//! Fills a store, lets everything expire at once by moving its clock, and times
//! each claim before and after, while the expired records are removed.
//!
//! ```console
//! $ cargo run --release --example expired -- 5000000 embedded
//! ```

#![allow(clippy::print_stdout, reason = "a program for people")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
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

const HOUR: Duration = Duration::from_secs(3600);
const WRITERS: u64 = 2048;
const TIMED: u64 = 20_000;

/// A clock that is moved by hand.
#[derive(Debug)]
struct Clock(AtomicU64);

impl Ambient for Clock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }

    fn token(&self) -> Token {
        System.token()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let records: u64 = arguments.next().as_deref().unwrap_or("5000000").parse()?;
    let kind = arguments.next().unwrap_or_else(|| "embedded".to_owned());
    let clock = Arc::new(Clock(AtomicU64::new(1_000_000)));
    let ambient: Arc<dyn Ambient> = clock.clone();
    let folder = tempfile::tempdir()?;
    let store: Arc<dyn Store> = match kind.as_str() {
        "embedded" => Arc::new(EmbeddedStore::open(folder.path(), ambient)?),
        "memory" => Arc::new(MemoryStore::new(ambient)),
        other => return Err(format!("no store `{other}`; use embedded or memory").into()),
    };

    let begun = Instant::now();
    let each = records / WRITERS;
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for number in writer * each..(writer + 1) * each {
                    claim(&*store, number).await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await?;
    }
    println!("{records} records in {:.0?}", begun.elapsed());

    report("before", &time(&*store, u64::MAX / 2).await);
    clock.0.fetch_add(2 * HOUR.as_millis() as u64, Ordering::Relaxed);
    report("while they are removed", &time(&*store, u64::MAX / 4).await);
    Ok(())
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

/// How long claims take, one after the other.
async fn time(store: &dyn Store, from: u64) -> Vec<Duration> {
    let mut times = Vec::new();
    let until = Instant::now() + Duration::from_secs(60);
    for number in from..from + TIMED {
        let begun = Instant::now();
        claim(store, number).await;
        times.push(begun.elapsed());
        if Instant::now() > until {
            break;
        }
    }
    times.sort();
    times
}

fn report(when: &str, times: &[Duration]) {
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!(
        "{when}: {} claims, p50 {:.2?}, p99 {:.2?}, p99.9 {:.2?}, longest {:.2?}",
        times.len(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0),
    );
}
