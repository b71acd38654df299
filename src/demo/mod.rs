//! The story of the README in one command: `oncegate demo`.
//!
//! A naive payment service, a link that resets connections, a storm of clients,
//! and a table of what was paid. The figures come from the service's own ledger,
//! read over HTTP; the service, the link and the client share no memory with the
//! gate that they put to the test.
//!
//! | file | what it is |
//! |---|---|
//! | `ledger`, `payments` | the naive service: one redb file, an HTTP face |
//! | `link` | a TCP forwarder that resets connections |
//! | `storm` | the clients: one connection per attempt |
//! | `rounds` | which rounds there are, as data, and how one is played |
//! | `promise` | figures, and what must come out |
//! | `report` | the table |
//! | `story` | everything in one process |
//! | `remote` | the parts as processes of their own, for compose |
//! | `gate` | the one place that knows how a gate is started |
//!
//! The demo injects resets only. It does not crash the gate or the store; the
//! tests do.

use std::process::ExitCode;

mod cli;
mod console;
mod error;
mod gate;
mod http;
mod ledger;
mod link;
mod part;
mod payments;
mod promise;
mod remote;
mod report;
mod rounds;
mod storm;
mod story;
#[cfg(test)]
mod toy_gate;

pub use cli::DemoArgs;

use cli::Process;
use error::DemoError;

/// Runs the story, or one of its parts as a process of its own.
///
/// The exit code is 0 when every promise was kept (or, for a part that serves,
/// when it was told to stop), 2 for arguments that make no story, and 1 otherwise; what went
/// wrong is on stderr.
pub async fn run(args: DemoArgs) -> ExitCode {
    let result = match args.process {
        None => story::tell(args.story, gate::starter).await,
        Some(Process::Payments(payments)) => remote::payments(payments).await,
        Some(Process::Link(link)) => remote::link(link).await,
        Some(Process::Storm(storm)) => remote::storm(storm).await,
    };
    match result {
        Ok(verdict) => verdict.into(),
        Err(error) => {
            console::complain(&error);
            match error {
                DemoError::TooFew(_) => ExitCode::from(2),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// How a run ended that was able to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Every promise was kept, or there was none to keep.
    Kept,
    /// At least one was broken.
    Broken,
}

impl From<Verdict> for ExitCode {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Kept => Self::SUCCESS,
            Verdict::Broken => Self::FAILURE,
        }
    }
}

type Run = Result<Verdict, DemoError>;
