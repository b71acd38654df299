//! Nothing runs twice: thousands of small worlds, each from one seed.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

#[path = "simulation/mod.rs"]
#[allow(dead_code, unreachable_pub, missing_docs, reason = "shared with the example")]
mod simulation;

use simulation::{Report, campaign::campaign, faults::Fault, run};

/// As many as a debug build does in well under two minutes on two cores.
const SEEDS: u64 = 12_000;

#[test]
fn no_seed_breaks_a_promise() {
    let campaign = campaign(0..SEEDS, 2, Report::is_broken, |_| {});
    if let Some((seed, violations)) = &campaign.failed {
        panic!(
            "{violations:#?}\nreplay with: cargo run --release --no-default-features \
             --example simulate -- --seed {seed}"
        );
    }
    for fault in Fault::ALL {
        assert!(campaign.faults[fault] > 0, "{fault:?} never happened");
    }
}

#[test]
fn a_seed_decides_everything() {
    for seed in 0..50 {
        let (first, second) = (run(seed, true).log, run(seed, true).log);
        assert!(first.len() > 2, "seed {seed} does something");
        for (one, other) in first.iter().zip(&second) {
            assert_eq!(one, other, "seed {seed}");
        }
        assert_eq!(first.len(), second.len(), "seed {seed}");
    }
}
