//! What becomes of a key before oncegate and before others, on this machine, in one run:
//! `cargo bench --bench rivals`.
//!
//! Puts the same cases to each of them, from outside: duplicates at once, another body,
//! another caller, a client that hangs up, a service that is slow or breaks off, a header that
//! is there several times. Each case has a server, a store and a service of its own. What is
//! shown is counted: statuses as clients got them, and executions as the service's own ledger
//! has them, which nobody in between can touch.
//!
//! - A proxy stands before a service in this program ([`backend`]). Middleware has the same
//!   service around it (`service.py`, `axum/`), whose ledger it has no part in.
//! - oncegate goes through it like the others, as cargo has built it for this bench, with its
//!   store in memory. What the cases need to be over within seconds is set for all alike, and
//!   the page says what.
//! - Who is not installed is named with the command that installs it. What was only read is
//!   on the page by itself, with where ([`read`]).
//!
//! A whole run writes `docs/rivals.md`; one with `--only` writes nothing.
#![expect(clippy::print_stdout, reason = "a program of the command line")]
#![expect(clippy::print_stderr, reason = "its progress")]

use std::process::ExitCode;

use clap::Parser;

use self::{
    cases::{CASES, Finding},
    subjects::{SUBJECTS, Subject},
};

mod axum_service;
mod backend;
mod cases;
mod client;
#[path = "../side_by_side/command.rs"]
mod command;
#[path = "../side_by_side/interrupt.rs"]
mod interrupt;
mod page;
#[path = "../side_by_side/process.rs"]
mod process;
mod read;
mod servers;
mod subjects;
#[path = "../side_by_side/versions.rs"]
mod versions;

type Result<T, E = oncegate::BoxError> = std::result::Result<T, E>;

/// Shows what becomes of a key before oncegate and before others.
#[derive(Parser)]
#[command(name = "cargo bench --bench rivals --")]
struct Options {
    /// Those whose names contain one of these, separated by commas; nothing is written.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// `cargo bench` says this to every benchmark, `cargo test --all-targets` does not.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if !options.bench {
        eprintln!("nothing was tried: run `cargo bench --bench rivals`");
        return ExitCode::SUCCESS;
    }
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rivals: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let wanted = |subject: &Subject| {
        options.only.is_empty() || options.only.iter().any(|part| subject.name().contains(part))
    };
    let mut subjects: Vec<Subject> = SUBJECTS.into_iter().filter(wanted).collect();
    if subjects.is_empty() {
        let names = SUBJECTS.map(Subject::name).join("; ");
        return Err(format!("--only: nobody has such a name; there are: {names}").into());
    }
    interrupt::watch()?;
    let mut missing: Vec<String> =
        subjects.iter().filter_map(|subject| subject.missing()).collect();
    missing.dedup();
    missing.iter().for_each(|what| eprintln!("left out: {what}"));
    subjects.retain(|subject| subject.missing().is_none());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut findings = Vec::new();
    for case in CASES {
        for &subject in &subjects {
            eprintln!("{}: {}", case.title(), subject.name());
            let cells = runtime.block_on(case.put_to(subject));
            interrupt::check()?;
            findings.push(Finding { case, subject, cells: cells.map_err(|why| why.to_string()) });
        }
    }
    println!("{}", page::terminal(&findings));
    if options.only.is_empty() {
        page::write(&findings, &missing)
    } else {
        eprintln!("nothing is written: --only was given");
        Ok(())
    }
}
