//! Load on several gates for as long as you like, while every second something goes
//! wrong: gates are killed, paused and cut off, Redis stands still, the service resets
//! connections. At the end the service's ledger is compared with what the clients saw.
//!
//! ```text
//! cargo build --release
//! cargo run --release --example soak -- --minutes 10 --gates 3 --clients 64
//! ```
//!
//! The first command builds the program that is tested, `oncegate`, beside the example;
//! `redis-server` must be installed. `--seed N` strikes in the same order again.
//! `--keep-alive 20000` counts false alarms instead: so many requests to a healthy
//! service that closes unused connections after a second.
//!
//! Prints a report. Exit code 1 when a promise was broken. All processes end with it.

#![expect(clippy::print_stdout, reason = "the report is what it is for")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use support::{
    keepalive,
    storm::{self, Plan, Report, fleet::Memory, nemesis::Faults, shop::Temper},
};
use tokio::signal::unix::{SignalKind, signal};

/// Breaks gates under load, and looks whether anything runs twice.
#[derive(Debug, Parser)]
struct Arguments {
    /// How long.
    #[arg(long, default_value_t = 2.0)]
    minutes: f64,
    /// How many gate processes on one Redis.
    #[arg(long, default_value_t = 3)]
    gates: usize,
    /// How many clients that retry.
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// Takes the same decisions again.
    #[arg(long)]
    seed: Option<u64>,
    /// Counts false alarms of this many requests instead.
    #[arg(long, value_name = "REQUESTS")]
    keep_alive: Option<usize>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(support::seed);
    if let Some(requests) = arguments.keep_alive {
        let report = keepalive::run(requests, seed).await;
        println!("{report:#?}");
        let alarms = report.unknown * 1000 > report.requests;
        return verdict(!alarms && report.unknown_and_never_received + report.doubled == 0);
    }
    let plan = Plan {
        seed,
        gates: arguments.gates.max(1),
        clients: arguments.clients,
        length: Duration::from_secs_f64(arguments.minutes * 60.0),
        temper: Temper { slowness: 40, resets: 2 },
        faults: Faults::Everything(Duration::from_secs(1)),
        speaks: true,
    };
    let mut terminate = signal(SignalKind::terminate()).expect("a handler for SIGTERM");
    // Whatever ends first: what was started ends with its owners, which are values here.
    tokio::select! {
        report = storm::run(&plan) => {
            print(seed, &report);
            verdict(report.violations.is_empty())
        }
        _ = tokio::signal::ctrl_c() => ExitCode::FAILURE,
        _ = terminate.recv() => ExitCode::FAILURE,
    }
}

fn verdict(kept: bool) -> ExitCode {
    println!("{}", if kept { "every promise was kept" } else { "A PROMISE WAS BROKEN" });
    if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print(seed: u64, report: &Report) {
    let tally = &report.tally;
    println!("seed {seed}, {} disasters", report.disasters);
    println!("keys         {:>9}", report.keys);
    println!("executions   {:>9}  by the service's ledger", report.executions);
    for (attempts, name) in [
        (tally.executed, "executed"),
        (tally.replayed, "replayed"),
        (tally.conflict, "conflict"),
        (tally.unknown, "unknown"),
        (tally.unavailable, "unavailable"),
        (tally.released, "released"),
        (tally.broken, "broken"),
    ] {
        println!("{name:<12} {attempts:>9}  attempts");
    }
    println!("unknown      {:>9}  keys in the end", tally.unknown_keys);
    for (gate, memory) in report.memory.iter().enumerate() {
        let (first, last) = (mean(memory, true), mean(memory, false));
        println!(
            "gate {gate}: resident {first} KiB in the first minute, {last} KiB in the last, \
             started {} times",
            memory.starts
        );
    }
    for violation in report.violations.iter().take(20) {
        println!("VIOLATION {violation}");
    }
    println!("{} violations", report.violations.len());
}

/// The mean of the first or the last sixty samples.
fn mean(memory: &Memory, first: bool) -> u64 {
    let samples = &memory.samples;
    let number = samples.len().min(60);
    let part = if first { &samples[..number] } else { &samples[samples.len() - number..] };
    part.iter().sum::<u64>() / part.len().max(1) as u64
}
