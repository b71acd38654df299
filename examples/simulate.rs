//! Runs the simulation on many seeds, or shows what happens in one.
//!
//! ```console
//! $ cargo run --release --no-default-features --example simulate -- --seeds 1000000
//! $ cargo run --release --no-default-features --example simulate -- --seed 4711
//! $ cargo run --release --no-default-features --features mutants --example simulate -- \
//!       --seeds 10000 --mutant ReleaseOnReset
//! ```
//!
//! Exits with 1 when a seed breaks a promise, and says which seed.

#![allow(clippy::print_stdout, reason = "a program for a terminal")]

#[path = "../tests/simulation/mod.rs"]
#[allow(dead_code, unreachable_pub, missing_docs, reason = "shared with the tests")]
mod simulation;

use std::{process::ExitCode, thread, time::Instant};

use simulation::{Report, campaign::campaign};

const USAGE: &str = "simulate [--seeds N] [--from N] [--threads N] [--seed N] [--mutant NAME]";

struct Arguments {
    seeds: u64,
    from: u64,
    threads: usize,
    seed: Option<u64>,
    mutant: Option<String>,
}

fn main() -> ExitCode {
    let Some(arguments) = Arguments::read(std::env::args().skip(1)) else {
        println!("{USAGE}");
        return ExitCode::from(2);
    };
    if let Some(name) = &arguments.mutant
        && !activate(name)
    {
        println!("no mutant `{name}`, or built without `--features mutants`");
        return ExitCode::from(2);
    }
    match arguments.seed {
        Some(seed) => show(seed),
        None => run_many(&arguments),
    }
}

fn show(seed: u64) -> ExitCode {
    let report = simulation::run(seed, true);
    report.log.iter().for_each(|line| println!("{line}"));
    if !report.is_broken() {
        println!("seed {seed}: every promise was kept");
        return ExitCode::SUCCESS;
    }
    println!("seed {seed}: {:#?}", report.violations);
    ExitCode::FAILURE
}

fn run_many(arguments: &Arguments) -> ExitCode {
    let Arguments { seeds, from, threads, .. } = *arguments;
    let start = Instant::now();
    let every = (seeds / 20).max(1000);
    let campaign = campaign(from..from.saturating_add(seeds), threads, Report::is_broken, |ran| {
        if ran % every < 1000 {
            let rate = ran as f64 / start.elapsed().as_secs_f64();
            println!("{ran:>12} seeds, {rate:.0} a second");
        }
    });
    let seconds = start.elapsed().as_secs_f64();
    println!("\nfaults:\n{}", campaign.table());
    println!(
        "{} seeds, {} requests, {seconds:.1} s, {:.0} seeds a second on {threads} threads",
        campaign.seeds,
        campaign.requests,
        campaign.seeds as f64 / seconds,
    );
    match campaign.failed {
        None => {
            println!("every promise was kept");
            ExitCode::SUCCESS
        }
        Some((seed, violations)) => {
            println!("BROKEN by seed {seed}: {violations:#?}\nreplay it with --seed {seed}");
            ExitCode::FAILURE
        }
    }
}

impl Arguments {
    fn read(mut given: impl Iterator<Item = String>) -> Option<Self> {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let mut this = Self { seeds: 10_000, from: 0, threads, seed: None, mutant: None };
        while let Some(name) = given.next() {
            let value = given.next()?;
            match name.as_str() {
                "--seeds" => this.seeds = value.parse().ok()?,
                "--from" => this.from = value.parse().ok()?,
                "--threads" => this.threads = value.parse().ok()?,
                "--seed" => this.seed = Some(value.parse().ok()?),
                "--mutant" => this.mutant = Some(value),
                _ => return None,
            }
        }
        Some(this)
    }
}

#[cfg(feature = "mutants")]
fn activate(name: &str) -> bool {
    use oncegate::mutants::{Mutant, set};
    let mutant = Mutant::ALL.into_iter().find(|mutant| format!("{mutant:?}") == name);
    set(mutant);
    mutant.is_some()
}

#[cfg(not(feature = "mutants"))]
fn activate(_: &str) -> bool {
    false
}
