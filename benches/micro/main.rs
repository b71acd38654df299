//! Instructions per call of what every keyed request goes through in the library:
//! `cargo bench --no-default-features --features codec --bench micro`. With more features the
//! compiler inlines differently, and the counts are for orientation.
//!
//! Times on a shared machine differ by more than a careless change costs; instructions do
//! not. Each case runs under callgrind twice, with few and with many calls, and the
//! difference divided by the calls between is its count: whatever happens once, from the
//! dynamic linker to the first growth of a table, cancels out.
//!
//! The counts are compared with `benches/micro/baseline.toml`. A case that takes over 3 %
//! more fails; `-- --write` accepts what is, and the change to that file then shows in the
//! review what a change of the code costs. Counts belong to one compiler and one kind of
//! processor, which the file names: under others the comparison is printed, and nothing
//! fails however slow a change is, since the difference might not be the code's. The output
//! begins and ends with that.
//!
//! The cases are the engine, the codec, the cache and the layer on a store in memory. The
//! proxy, its pool of connections, and the stores outside the process are not among them.
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
    cases::{CASES, Case},
};

mod baseline;
mod callgrind;
mod cases;

/// How this program is built and run.
const COMMAND: &str = "cargo bench --no-default-features --features codec --bench micro";

type Result<T> = std::result::Result<T, oncegate::BoxError>;

/// Counts instructions and compares them with the baseline.
#[derive(Parser)]
#[command(name = "micro")]
struct Options {
    /// Makes what is counted now the baseline.
    #[arg(long)]
    write: bool,
    /// Only cases whose names contain this.
    #[arg(conflicts_with = "write", default_value = "")]
    part: String,
    /// Calls a case so many times and ends; this is what runs under callgrind.
    #[arg(long, hide = true, num_args = 2, value_names = ["CASE", "TIMES"])]
    run: Option<Vec<String>>,
    /// `cargo bench` says this to every benchmark, `cargo test --all-targets` does not.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    // With this reference comes the program's own allocator, which is the same code on every
    // machine; those of C libraries are not.
    std::hint::black_box(mimalloc::MiMalloc.version());
    match run(&Options::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("micro: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<ExitCode> {
    match options.run.as_deref() {
        Some([case, times]) => repeat(case, times.parse()?),
        _ if !options.bench => {
            eprintln!("nothing was counted: run `{COMMAND}`");
            Ok(ExitCode::SUCCESS)
        }
        _ if options.write => write(),
        _ => compare(&options.part),
    }
}

fn repeat(case: &str, times: u64) -> Result<ExitCode> {
    let known = CASES.iter().find(|known| known.name == case);
    let mut call = (known.ok_or("no such case")?.prepare)();
    (0..times).for_each(|_| call());
    Ok(ExitCode::SUCCESS)
}

fn write() -> Result<ExitCode> {
    let mut counted = Baseline::here()?;
    for case in CASES {
        let count = callgrind::count(case.name)?;
        println!("{:28}{count:>12}", case.name);
        counted.instructions.insert(case.name.to_owned(), count);
    }
    counted.write()?;
    Ok(ExitCode::SUCCESS)
}

fn compare(part: &str) -> Result<ExitCode> {
    let baseline = Baseline::read()?;
    let unlike = baseline.unlike(&Baseline::here()?);
    if let Some(unlike) = &unlike {
        println!("{unlike}\nCounts are shown for orientation; nothing is checked.\n");
    }
    println!("{:28}{:>12}{:>12}{:>10}", "case", "baseline", "now", "change");
    let (mut worse, mut better) = (Vec::new(), false);
    for case in CASES.iter().filter(|case| case.name.contains(part)) {
        let count = callgrind::count(case.name)?;
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
    if better {
        println!("\nBetter: `{COMMAND} -- --write` keeps it so.");
    }
    if let Some(unlike) = unlike {
        println!(
            "\nNOTHING WAS CHECKED. {unlike} {} of the cases take more than it allows, which may be \
             the compiler's doing or a change's. `{COMMAND} -- --write` before a \
             change makes a baseline to check it against.",
            worse.len()
        );
        return Ok(ExitCode::SUCCESS);
    }
    if worse.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    complain(&worse);
    Ok(ExitCode::FAILURE)
}

/// Which code it is, how to look into it, and how to accept it.
fn complain(worse: &[&Case]) {
    eprintln!();
    for case in worse {
        eprintln!(
            "micro: {} ({}) takes more instructions than the baseline allows; where they are: \
             callgrind_annotate {}",
            case.name,
            case.what,
            callgrind::profile(case.name).display()
        );
    }
    eprintln!(
        "micro: if it is worth it, accept it with `{COMMAND} -- --write` and \
         commit benches/micro/baseline.toml with the change"
    );
}
