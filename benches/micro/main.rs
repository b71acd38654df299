//! Instructions per call of what every keyed request goes through:
//! `cargo bench --bench micro`.
//!
//! Times on a shared machine differ by more than a careless change costs; instructions do
//! not. Each case runs under callgrind twice, with few and with many calls, and the
//! difference divided by the calls between is its count: whatever happens once, from the
//! dynamic linker to the first growth of a table, cancels out.
//!
//! The counts are compared with `benches/micro/baseline.toml`. A case that takes over 3 %
//! more fails; `-- --write` accepts what is, and the change to that file then shows in the
//! review what a change of the code costs. Counts belong to one compiler and one kind of
//! processor, which the file names: under others the comparison is printed and nothing
//! fails, since the difference would not be the code's.
//!
//! callgrind is run directly. The frameworks around it (gungraun, formerly iai-callgrind)
//! want a runner of exactly their version to be installed, and keep their baselines in
//! the target folder, where no review sees them.
#![expect(clippy::print_stdout, reason = "a program of the command line")]
#![expect(clippy::print_stderr, reason = "what is wrong")]

use std::process::ExitCode;

use clap::Parser;

use self::{
    baseline::{Baseline, Verdict},
    cases::CASES,
};

mod baseline;
mod callgrind;
mod cases;

/// The program's own, and the same code on every machine, which the allocators of C
/// libraries are not.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T> = std::result::Result<T, oncegate::BoxError>;

/// Counts instructions and compares them with the baseline.
#[derive(Parser)]
#[command(name = "cargo bench --bench micro --")]
struct Options {
    /// Makes what is counted now the baseline.
    #[arg(long)]
    write: bool,
    /// Cases whose names contain this.
    #[arg(conflicts_with = "write")]
    filter: Option<String>,
    /// Runs a case so many times and ends; this is what runs under callgrind.
    #[arg(long, hide = true, num_args = 2, value_names = ["CASE", "TIMES"])]
    run: Option<Vec<String>>,
    /// `cargo bench` says this to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("micro: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<ExitCode> {
    if let Some([case, times]) = options.run.as_deref() {
        let case = CASES.iter().find(|known| known.name == case).ok_or("no such case")?;
        let mut call = (case.prepare)();
        (0..times.parse::<u64>()?).for_each(|_| call());
        return Ok(ExitCode::SUCCESS);
    }
    let here = Baseline::here()?;
    let baseline = if options.write { None } else { Some(Baseline::read()?) };
    if let Some(other) = baseline.as_ref().and_then(|baseline| baseline.unlike(&here)) {
        println!("{other}\nCounts are shown for orientation; nothing fails.\n");
    }
    println!("{:28}{:>12}{:>12}{:>10}", "case", "baseline", "now", "change");
    let (mut counted, mut worse, mut better) = (here, Vec::new(), false);
    for case in CASES {
        if options.filter.as_ref().is_some_and(|part| !case.name.contains(part.as_str())) {
            continue;
        }
        let count = callgrind::count(case.name)?;
        counted.instructions.insert(case.name.to_owned(), count);
        let Some(baseline) = &baseline else {
            println!("{:28}{:>12}{count:>12}", case.name, "");
            continue;
        };
        let (before, verdict) = baseline.judge(case.name, count);
        let change = before.map_or_else(String::new, |before| {
            format!("{:+.1} %", (count as f64 / before as f64 - 1.0) * 100.0)
        });
        let before = before.map_or_else(String::new, |before| before.to_string());
        println!("{:28}{before:>12}{count:>12}{change:>10}{}", case.name, verdict.word());
        match verdict {
            Verdict::Same => {}
            Verdict::Better => better = true,
            Verdict::Worse | Verdict::New => worse.push(case),
        }
    }
    if options.write {
        counted.write()?;
        return Ok(ExitCode::SUCCESS);
    }
    if better {
        println!("\nBetter: `cargo bench --bench micro -- --write` keeps it so.");
    }
    if worse.is_empty() || baseline.is_some_and(|baseline| baseline.unlike(&counted).is_some()) {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!();
    for case in worse {
        let profile = callgrind::profile(case.name);
        eprintln!(
            "micro: {} ({}) takes more instructions than the baseline allows; where they are: \
             callgrind_annotate {}",
            case.name,
            case.what,
            profile.display()
        );
    }
    eprintln!(
        "micro: if it is worth it, accept it with `cargo bench --bench micro -- --write` and \
         commit benches/micro/baseline.toml with the change"
    );
    Ok(ExitCode::FAILURE)
}
