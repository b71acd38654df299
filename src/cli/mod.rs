//! The command line.
//!
//! Exit codes: 0, 2 for a wrong command line or configuration, 1 for what fails
//! at run time.

mod check;
mod health;
mod serve;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, ConfigError, Overrides, Sources, UpstreamUrl};

/// An idempotency gate: each keyed request is executed at most once.
#[derive(Debug, Parser)]
#[command(name = "oncegate", version, about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Stand in front of a service.
    Serve(Settings),
    /// Print the configuration in force, or where it is wrong (exit 2).
    Check(Settings),
    /// Ask a running gate whether it is ready; exit 0 if so.
    Health(health::Arguments),
    /// 1000 payments through a broken link: without the gate, and behind it.
    #[cfg(feature = "demo")]
    Demo(crate::demo::DemoArgs),
}

/// Where settings come from: the file, then `ONCEGATE_...` variables, then flags.
#[derive(Args, Debug)]
struct Settings {
    /// The configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where clients connect [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDR")]
    listen: Option<std::net::SocketAddr>,
    /// The service behind the gate [default: http://127.0.0.1:9000].
    #[arg(long, value_name = "URL")]
    upstream: Option<UpstreamUrl>,
    /// memory:, file:FOLDER or redis://HOST:PORT [default: file:./oncegate-data].
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Where operators connect [default: 127.0.0.1:9901].
    #[arg(long, value_name = "ADDR")]
    admin: Option<std::net::SocketAddr>,
}

impl Settings {
    fn load(self) -> Result<Config, ConfigError> {
        let Self { config, listen, upstream, store, admin } = self;
        let sources = config.map_or_else(|| Ok(Sources::default()), Sources::file)?;
        let overrides = Overrides { listen, upstream, store, admin };
        Config::load(&sources.os_environment(std::env::vars_os())?.overrides(overrides))
    }
}

/// Runs the program with the process's arguments.
#[must_use]
pub fn main() -> ExitCode {
    let Arguments { command } = Arguments::parse();
    let mut runtime = match &command {
        // The threads that serve have runtimes of their own.
        Command::Serve(_) | Command::Check(_) | Command::Health(_) => {
            tokio::runtime::Builder::new_current_thread()
        }
        #[cfg(feature = "demo")]
        Command::Demo(_) => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = match runtime.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(ExitCode::FAILURE, &error),
    };
    let code = match command {
        Command::Serve(settings) => match settings.load() {
            Ok(config) => runtime.block_on(serve::run(config)),
            Err(error) => complain(ExitCode::from(2), &error),
        },
        Command::Check(settings) => match settings.load() {
            Ok(config) => check::run(&config),
            Err(error) => complain(ExitCode::from(2), &error),
        },
        Command::Health(arguments) => runtime.block_on(health::run(arguments)),
        #[cfg(feature = "demo")]
        Command::Demo(arguments) => runtime.block_on(crate::demo::run(arguments)),
    };
    // What is still blocked in a system call must not hold up the exit.
    runtime.shutdown_background();
    code
}

/// One line on the error output.
#[expect(clippy::print_stderr, reason = "the command line's own voice")]
fn complain(code: ExitCode, error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("oncegate: {error}");
    code
}
