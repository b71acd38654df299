//! The load: POST requests over a few connections, from one thread, with every answer
//! checked.
//!
//! It shares the machine with what it measures, so it does as little as it can: request
//! bytes that were built before, one `write` and one `read` for an exchange, epoll in
//! between. It is a client that trusts nothing: an answer with another status or another
//! length counts as an error, and so does one that does not come.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
    fd::OwnedFd,
    time::{ClockId, clock_gettime},
};

mod closed;
mod connection;
mod open;
mod request;

use self::connection::Connection;
pub(crate) use self::connection::exchange;
pub(crate) use self::request::{ANSWER, BODY, Keys, Request, key};
use crate::Result;

/// How long answers may take after the last request was due.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a load led to.
pub(crate) struct Outcome {
    /// Right answers within the time.
    pub(crate) answers: u64,
    /// The first of the errors, and how many there were.
    pub(crate) errors: Option<(u64, String)>,
    /// How many connections there were.
    pub(crate) connections: usize,
    /// From the first request to the end.
    pub(crate) elapsed: Duration,
    /// Processor time that the load itself took.
    pub(crate) cpu: Duration,
    /// How much later a request was sent than it was due, or than there was a connection for
    /// it, in nanoseconds: the load's own lateness.
    pub(crate) lag: Histogram<u64>,
    /// From the moment when a request was due to its answer, in nanoseconds. Only an open
    /// loop has due times.
    pub(crate) latency: Histogram<u64>,
}

impl Outcome {
    pub(crate) fn rate(&self) -> f64 {
        self.answers as f64 / self.elapsed.as_secs_f64()
    }

    /// Which part of the time the load's thread computed.
    pub(crate) fn share(&self) -> f64 {
        self.cpu.as_secs_f64() / self.elapsed.as_secs_f64()
    }

    /// For a load that only prepares a measurement.
    ///
    /// # Errors
    /// The first answer that was not right, after `what` it was to do.
    pub(crate) fn faultless(self, what: &str) -> Result<()> {
        match self.errors {
            None => Ok(()),
            Some((_, error)) => Err(format!("{what}: {error}").into()),
        }
    }
}

/// Connections to one server, and what is sent over them.
pub(crate) struct Load {
    address: SocketAddr,
    request: Request,
    connections: Vec<Connection>,
    epoll: OwnedFd,
    ready: Vec<epoll::Event>,
    answers: u64,
    failures: u64,
    first_failure: Option<String>,
    /// What this thread had computed when the load began.
    cpu: Duration,
}

impl Load {
    pub(crate) fn connect(address: SocketAddr, request: Request, count: usize) -> Result<Self> {
        let mut load = Self {
            address,
            request,
            connections: Vec::with_capacity(count),
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            ready: Vec::with_capacity(count),
            answers: 0,
            failures: 0,
            first_failure: None,
            cpu: Duration::ZERO,
        };
        for index in 0..count {
            let connection = load.open(index)?;
            load.connections.push(connection);
        }
        Ok(load)
    }

    fn begin(&mut self) -> Instant {
        (self.answers, self.failures, self.first_failure) = (0, 0, None);
        self.cpu = thread_cpu();
        Instant::now()
    }

    fn outcome(
        &mut self,
        elapsed: Duration,
        lag: Histogram<u64>,
        latency: Histogram<u64>,
    ) -> Outcome {
        let cpu = thread_cpu() - self.cpu;
        let errors = self.first_failure.take().map(|first| (self.failures, first));
        let connections = self.connections.len();
        Outcome { answers: self.answers, errors, connections, elapsed, cpu, lag, latency }
    }

    /// Fills `ready`.
    fn wait(&mut self, limit: Duration) -> Result<()> {
        let limit = Timespec::try_from(limit)?;
        match epoll::wait(&self.epoll, spare_capacity(&mut self.ready), Some(&limit)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn send(&mut self, index: usize) {
        if let Err(error) = self.connections[index].send(self.request.next()) {
            // The broken connection is found again when its end is read.
            self.fail(1, format!("a request was not taken: {error}"));
        }
    }

    /// Whether the exchange on a connection is over, well or badly.
    fn receive(&mut self, index: usize) -> bool {
        match self.connections[index].receive() {
            Ok(false) => false,
            Ok(true) => {
                self.answers += 1;
                true
            }
            Err(error) => {
                self.fail(1, error.to_string());
                match self.open(index) {
                    Ok(connection) => {
                        self.connections[index] = connection;
                        true
                    }
                    // The closed socket has left epoll; the others go on.
                    Err(error) => {
                        self.fail(1, format!("no new connection: {error}"));
                        false
                    }
                }
            }
        }
    }

    fn fail(&mut self, count: u64, why: String) {
        self.failures += count;
        self.first_failure.get_or_insert(why);
    }

    fn open(&self, index: usize) -> io::Result<Connection> {
        let connection = Connection::open(self.address)?;
        let data = epoll::EventData::new_u64(index as u64);
        epoll::add(&self.epoll, &connection, data, epoll::EventFlags::IN)?;
        Ok(connection)
    }

    fn reconnect_busy(&mut self) -> Result<()> {
        for index in 0..self.connections.len() {
            if self.connections[index].is_busy() {
                self.connections[index] = self.open(index)?;
            }
        }
        Ok(())
    }
}

/// The time that this thread has computed.
fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Three digits from a microsecond to a minute.
pub(crate) fn new_histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1_000, 60_000_000_000, 3)?)
}
