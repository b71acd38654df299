//! `oncegate check`.

use std::{io::Write as _, process::ExitCode};

use crate::config::Config;

/// Prints the configuration in force, as a file that would give the same.
pub(super) fn run(config: &Config) -> ExitCode {
    match std::io::stdout().write_all(config.effective().as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => super::complain(ExitCode::FAILURE, &error),
    }
}
