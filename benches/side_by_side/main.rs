//! The gate beside others, on this machine, in one run: `cargo bench --bench side_by_side`.
//!
//! Starts each server before the same backend (nginx, answering 48 bytes), puts the same
//! load on it (POST of 40 bytes), and prints one table: processor time per request of the
//! server and of the Redis that it uses, requests per second, latencies. Processor time
//! per request is the number to compare: requests per second depend on what else shares
//! the machine, the load and the backend not least.
//!
//! - Rows take turns, several times over, so that noise reaches all of them, and those that
//!   goals compare are measured one after the other; each line is the median of its runs.
//! - Processor time is what the kernel counts for the threads of all processes that
//!   belong to the server, while the load keeps every connection busy.
//! - Latencies come from a second measurement at a fixed rate, the same for all: half of
//!   what the slowest bears. It takes ten seconds where the embedded store is written to, so
//!   that its moves to the tables are among them.
//! - Every answer is checked, and the backend is asked how many requests it has had: a
//!   replay that was executed is an error, so is a first request that was executed twice,
//!   and a row with errors says so.
//!
//! A whole run writes what it has found to `docs/side-by-side.md` and `.svg`; one with
//! `--only`, `--quick`, `--no-latency` or `--rate`, and one that is shorter than it would be
//! by itself, writes nothing. What is not installed is named with the command that installs
//! it, and left out.
#![expect(clippy::print_stdout, reason = "a program of the command line")]
#![expect(clippy::print_stderr, reason = "its progress")]

use std::{process::ExitCode, time::Duration};

use clap::Parser as _;

use self::{
    disk::Beneath,
    options::Options,
    results::{Measured, Results},
    rows::{Builds, Row},
    servers::{Server, Store, Subject, gate, nginx},
};

mod balance;
mod command;
mod disk;
mod executed;
mod figure;
mod goals;
mod grow;
mod interrupt;
mod load;
mod machine;
mod measure;
mod memory;
mod options;
mod picture;
mod process;
mod publish;
mod results;
mod rival;
mod rows;
mod servers;
mod table;
mod usage;
mod verdict;
mod versions;
mod witness;

/// What `--only` calls the measurement of memory, which is no row.
const MEMORY: &str = "gate-memory";

type Result<T> = std::result::Result<T, oncegate::BoxError>;

fn main() -> ExitCode {
    let options = Options::parse();
    if !options.bench {
        eprintln!("nothing was measured: run `cargo bench --bench side_by_side`");
        return ExitCode::SUCCESS;
    }
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("side_by_side: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<()> {
    let duration = options.duration()?;
    if let Some(program) = &options.gate {
        gate::name(program)?;
    }
    let builds = if gate::is_named() { Builds::GivenAndPlain } else { Builds::Given };
    let mut rows = rows::all(std::thread::available_parallelism()?.get(), builds);
    rows.retain(|row| options.wants(row.id));
    if options.list {
        rows.iter().for_each(|row| println!("{:32}{}", row.id, row.label));
        println!("{MEMORY:32}oncegate, resident memory, idle and with idle connections");
        return Ok(());
    }
    if rows.is_empty() && !options.wants(MEMORY) {
        return Err("--only: no row has such an id; --list names them".into());
    }
    interrupt::watch()?;
    let backend = nginx::backend()?;
    if !options.grow.is_empty() {
        let stores = [(Store::Redis, "redis"), (Store::Embedded, "embedded")];
        let stores = stores.into_iter().filter(|(_, name)| options.wants(name));
        let stores: Vec<Store> = stores.map(|(store, _)| store).collect();
        let plan = grow::Plan {
            stores: &stores,
            sizes: &options.grow,
            page_cache: options.page_cache.as_deref(),
            duration,
            runs: options.runs(),
            rate: options.rate,
        };
        let disk = match beneath_embedded(plan.stores.contains(&Store::Embedded))? {
            Some(Beneath::Memory) => return Err(disk::MEMORY.into()),
            Some(Beneath::Disk(remark)) => Some(remark),
            None => None,
        };
        let notes: Vec<String> = rested(&options)?.into_iter().chain(disk).collect();
        let lines = grow::measure(&plan, &backend)?;
        println!("{}", grow::report::terminal(&lines, &notes));
        return match options.unfit() {
            None => grow::report::publish(&lines, &notes, &options.how()),
            Some(why) => not_written(&why),
        };
    }
    let results = measure_all(rows, &backend, duration, &options)?;
    let goals = goals::check(&results);
    println!("{}", table::terminal(&results, &goals));
    match options.unfit() {
        None => publish::write(&results, &goals, &options.how()),
        Some(why) => not_written(&why),
    }
}

/// What is beneath the embedded store, where that takes part.
fn beneath_embedded(takes_part: bool) -> Result<Option<Beneath>> {
    Ok(if takes_part { Some(Beneath::of(process::folder()?.path())?) } else { None })
}

fn not_written(why: &str) -> Result<()> {
    eprintln!("nothing is written: {why}");
    Ok(())
}

/// What else goes on, after some time to come to rest where the figures will be published.
fn rested(options: &Options) -> Result<Option<String>> {
    let patience = if options.unfit().is_none() { machine::PATIENCE } else { Duration::ZERO };
    let busy = machine::rest(patience)?;
    busy.iter().for_each(|busy| eprintln!("{busy}"));
    Ok(busy)
}

fn measure_all(
    mut rows: Vec<Row>,
    backend: &Server,
    duration: Duration,
    options: &Options,
) -> Result<Results> {
    let mut left_out: Vec<String> = rows.iter().filter_map(|row| row.subject.missing()).collect();
    left_out.dedup();
    left_out.iter().for_each(|what| eprintln!("left out: {what}"));
    rows.retain(|row| row.subject.missing().is_none());
    let disk = match beneath_embedded(rows.iter().any(|row| row.subject.forces_writes()))? {
        Some(Beneath::Memory) => {
            let without = rows.iter().filter(|row| row.subject.forces_writes());
            left_out.extend(without.map(|row| format!("{}: {}", row.label, disk::MEMORY)));
            rows.retain(|row| !row.subject.forces_writes());
            None
        }
        Some(Beneath::Disk(remark)) => Some(remark),
        None => None,
    };
    let slower =
        rows.iter().any(|row| row.subject == Subject::Asgi).then(servers::asgi::slower).flatten();
    slower.iter().for_each(|what| eprintln!("{what}"));
    let mut results = Results {
        rows: rows.into_iter().map(Measured::new).collect(),
        pace: None,
        memory: None,
        left_out,
        slower,
        disk,
        builds: options.builds(),
        busy: rested(options)?,
    };
    let runs = options.runs();
    for run in 1..=runs {
        for at in results.turns(run) {
            let measured = &mut results.rows[at];
            let cost = attempt(measured, |row| measure::cost(row, backend, duration))?;
            if let Some(cost) = cost {
                let (label, rate, cpu) = (measured.row.label, cost.rate, cost.cpu);
                eprintln!("{run}/{runs} {label}: {cpu:.1} us/request, {rate:.0}/s");
                measured.costs.push(cost);
            }
        }
    }
    if !options.no_latency {
        results.pace = options.rate.or_else(|| results.half_of_the_slowest());
        for run in 1..=runs {
            let pace = results.pace;
            for at in results.turns(run) {
                let measured = &mut results.rows[at];
                // At its own pace the Python service would leave the others idle.
                let own = measured.rate().filter(|_| measured.row.subject == Subject::Asgi);
                let Some(rate) = own.map(|rate| rate / 2.0).or(pace) else { continue };
                let wait = attempt(measured, |row| measure::wait(row, backend, rate, duration))?;
                if let Some(wait) = wait {
                    eprintln!("{run}/{runs} {}: {wait}", measured.row.label);
                    measured.waits.push(wait);
                }
            }
        }
    }
    if options.wants(MEMORY) {
        results.memory = Some(memory::measure(backend.address)?);
    }
    Ok(results)
}

/// A row that cannot be measured says why in the table, and the others go on.
///
/// # Errors
/// When somebody wants the program to end.
fn attempt<T>(measured: &mut Measured, measure: impl Fn(&Row) -> Result<T>) -> Result<Option<T>> {
    match measure(&measured.row) {
        Ok(value) => Ok(Some(value)),
        Err(error) => {
            interrupt::check()?;
            eprintln!("{}: {error}", measured.row.label);
            measured.trouble = Some(error.to_string());
            Ok(None)
        }
    }
}
