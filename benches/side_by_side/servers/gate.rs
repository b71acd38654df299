//! The gate, as `cargo bench` has built it or as `--gate` names it, with its default settings
//! but for `server.max_connections`, which is 20,000: the idle connections whose memory is
//! measured are more than the default lets in.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    rc::Rc,
    sync::OnceLock,
    time::Duration,
};

use tempfile::TempDir;

use super::{Server, redis};
use crate::{
    Result,
    process::{self, Process, free_address},
};

/// Where records are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Store {
    Memory,
    Embedded,
    Redis,
}

impl Store {
    /// How long the latencies of first requests are taken at the least.
    ///
    /// The embedded store moves what it has written to its tables when that is 16,384 keys or
    /// 16 MiB, or after four seconds, or in a pause of 50 ms. At some thousands of requests a
    /// second, two moves lie in ten seconds, and none in the first of them.
    pub(crate) fn patience(self) -> Duration {
        match self {
            Self::Embedded => Duration::from_secs(10),
            Self::Memory | Self::Redis => Duration::ZERO,
        }
    }
}

/// Which build of the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Build {
    /// The one that `--gate` names, or else what cargo has built.
    Given,
    /// What cargo has built, also beside another one.
    Plain,
}

/// How many threads serve connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Threads {
    /// One, to be compared with one worker of another server.
    One,
    /// One for each core, which is the default.
    PerCore,
}

/// What is not as it is by default.
pub(crate) struct Settings<'a> {
    pub(crate) build: Build,
    /// Whether responses are kept at hand.
    pub(crate) cache: bool,
    pub(crate) threads: Threads,
    pub(crate) page_cache: Option<&'a str>,
}

/// Another program than the one just built, to compare two versions.
static GIVEN: OnceLock<PathBuf> = OnceLock::new();
const PLAIN: &str = env!("CARGO_BIN_EXE_oncegate");

/// Makes a program the gate that is measured, in place of what cargo has built.
///
/// # Errors
/// When there is none.
pub(crate) fn name(program: &Path) -> Result<()> {
    // A server starts in a folder of its own.
    let found = program
        .canonicalize()
        .map_err(|error| format!("--gate: cannot find {}: {error}", program.display()))?;
    if found != Path::new(PLAIN) {
        // The first of its callers sets it; there is one.
        GIVEN.get_or_init(|| found);
    }
    Ok(())
}

/// Whether the gate that is measured is another one than cargo has built.
pub(crate) fn is_named() -> bool {
    GIVEN.get().is_some()
}

impl Build {
    fn program(self) -> &'static Path {
        match self {
            Self::Given => GIVEN.get().map_or(Path::new(PLAIN), PathBuf::as_path),
            Self::Plain => Path::new(PLAIN),
        }
    }
}

/// Starts a gate with records of its own.
pub(super) fn start(
    backend: SocketAddr,
    store: Store,
    cache: bool,
    threads: Threads,
    build: Build,
) -> Result<Server> {
    let folder = process::folder()?;
    let (url, redis) = match store {
        Store::Memory => ("memory:".to_owned(), None),
        Store::Embedded => (file_url(folder.path()), None),
        Store::Redis => {
            let (process, at) = redis::start()?;
            (format!("redis://{at}"), Some(process))
        }
    };
    let settings = Settings { build, cache, threads, page_cache: None };
    start_on(backend, &url, redis, folder, settings)
}

/// Where the embedded store lies in a server's folder.
pub(crate) const RECORDS: &str = "records";

/// The store in a folder.
pub(crate) fn file_url(folder: &Path) -> String {
    format!("file:{}", folder.join(RECORDS).display())
}

/// Starts a gate with the records of `url`.
pub(crate) fn start_on(
    backend: SocketAddr,
    url: &str,
    redis: Option<Rc<Process>>,
    folder: TempDir,
    settings: Settings<'_>,
) -> Result<Server> {
    let address = free_address()?;
    let mut command = Command::new(settings.build.program());
    // Settings of whoever calls would change what is measured.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ONCEGATE_") {
            command.env_remove(name);
        }
    }
    command.args(["serve", "--store", url, "--upstream", &format!("http://{backend}")]);
    command.args(["--listen", &address.to_string(), "--admin", "127.0.0.1:0"]);
    command.env("ONCEGATE_SERVER__MAX_CONNECTIONS", "20000");
    if !settings.cache {
        command.env("ONCEGATE_STORE__CACHE", "0");
    }
    if settings.threads == Threads::One {
        command.env("ONCEGATE_SERVER__THREADS", "1");
    }
    if let Some(size) = settings.page_cache {
        command.env("ONCEGATE_STORE__PAGE_CACHE", size);
    }
    let process = Process::start("oncegate", &mut command, folder, address)?;
    Ok(Server { address, path: "/payments", process, redis })
}
