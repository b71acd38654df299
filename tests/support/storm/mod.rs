//! Load on several gates while a seeded nemesis kills, pauses and cuts, and a
//! checker that knows only what clients saw and what the backend's ledger says.
//!
//! 1. The ledger has every key at most once.
//! 2. All recorded answers to a key are the same bytes, and of its execution.
//! 3. Every attempt ends within [`client::LIMIT`].
//! 4. When the faults are over, every key is answered for good: recorded, or
//!    unknown.

pub mod client;
pub mod fleet;
pub mod nemesis;
pub mod shop;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use client::{History, Tally};
use fleet::{Fleet, Memory};
use nemesis::Faults;
use shop::{Shop, Temper};

use super::redis::Server;

/// What happens.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub gates: usize,
    pub clients: usize,
    pub length: Duration,
    pub temper: Temper,
    pub faults: Faults,
    /// A line a minute on standard error.
    pub speaks: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    pub tally: Tally,
    pub keys: usize,
    pub executions: usize,
    pub disasters: usize,
    pub exit_codes: Vec<i32>,
    pub memory: Vec<Memory>,
    pub violations: Vec<String>,
}

/// The settings of every gate: limits short, so that a minute sees many of them, and a gate that
/// is paused for long has slept through its leases, but
/// what is recorded outlives the run. Keys whose client gave up are asked for once
/// more at its end.
const SETTINGS: &str = r#"
[server]
drain = "10s"
[upstream]
response_timeout = "3s"
[store]
timeout = "500ms"
cache = "8MiB"
[idempotency]
lease = "1s"
retention = "2h"
tombstone = "1h"
unknown_retention = "3h"
[telemetry]
log = "error"
"#;

/// Runs a plan.
pub async fn run(plan: &Plan) -> Report {
    let redis = Server::start(&[]);
    let shop = Shop::open(plan.temper, plan.seed).await;
    let fleet = Arc::new(Fleet::start(&redis, &shop.url(), SETTINGS, plan.gates).await);
    let (stop, history) = (Arc::new(AtomicBool::new(false)), Arc::new(History::default()));
    let clients: Vec<_> = (0..plan.clients)
        .map(|number| {
            let seed = plan.seed.wrapping_mul(1000).wrapping_add(number as u64);
            let client = client::Client::new(number, seed, &fleet, &history, &stop);
            tokio::spawn(client.shop())
        })
        .collect();
    let watch = tokio::spawn(fleet::watch(Arc::clone(&fleet), plan.speaks));

    let until = Instant::now() + plan.length;
    let struck = nemesis::strike(plan.faults, plan.seed, &fleet, &redis, until).await;
    stop.store(true, Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    client::settle(&fleet, &history).await;
    watch.abort();

    let mut violations = history.violations();
    let ledger = shop.ledger();
    let doubled = ledger.iter().filter(|(_, times)| **times > 1);
    violations.extend(doubled.map(|(key, times)| format!("{key}: executed {times} times")));
    violations.extend(history.recorded_but_not_in(&ledger));
    Report {
        tally: history.tally(),
        keys: history.keys(),
        executions: ledger.values().sum(),
        disasters: struck.disasters,
        exit_codes: struck.exit_codes,
        memory: fleet.memory(),
        violations,
    }
}
