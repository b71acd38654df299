//! How much memory the gate takes when it has nothing to do.

use std::{net::SocketAddr, thread, time::Duration};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    Result, interrupt,
    load::{Keys, Load, Request},
    servers::{Build, Store, Subject, Threads},
};

/// How many idle connections the goal is stated for.
pub(crate) const CONNECTIONS: usize = 10_000;
/// Files that this process needs besides.
const SPARE: u64 = 100;

pub(crate) struct Memory {
    /// After the start, in bytes.
    pub(crate) idle: u64,
    /// How many connections there were, each of which has had an answer.
    pub(crate) connections: usize,
    /// With these connections.
    pub(crate) connected: u64,
}

/// Measures a gate on the embedded store, which is its default.
pub(crate) fn measure(backend: SocketAddr) -> Result<Memory> {
    let connections = allowed();
    let subject = Subject::Gate {
        store: Store::Embedded,
        cache: true,
        threads: Threads::PerCore,
        build: Build::Given,
    };
    let server = subject.start(backend)?;
    settle()?;
    let idle = server.process.resident()?;
    let request = Request::new(server.path, Keys::None);
    let mut load = Load::connect(server.address, request, connections)?;
    load.each_once()?;
    settle()?;
    let connected = server.process.resident()?;
    Ok(Memory { idle, connections, connected })
}

/// What starts and ends by itself has done so: a connection rests after a second without
/// use, and what it needed goes back to the system up to two seconds later.
fn settle() -> Result<()> {
    for _ in 0..40 {
        interrupt::check()?;
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// As many of the connections as the limit on open files lets this process and the gate
/// have; the gate inherits the limit.
fn allowed() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // What cannot be raised stays, and counts below.
    let _ = setrlimit(Resource::Nofile, raised);
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    CONNECTIONS.min(files.saturating_sub(SPARE) as usize)
}

/// The reason for fewer connections than the goal names.
pub(crate) fn shortfall(memory: &Memory) -> Option<String> {
    (memory.connections < CONNECTIONS).then(|| {
        format!(
            "only {} idle connections: the limit on open files forbids more; \
             try: ulimit -n 20000, or LimitNOFILE of the service manager",
            memory.connections
        )
    })
}
