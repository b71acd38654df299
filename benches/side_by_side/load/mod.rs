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
};

mod connection;
mod request;

use self::connection::Connection;
pub(crate) use self::connection::exchange;
pub(crate) use self::request::{ANSWER, BODY, Keys, Request, key};
use crate::{Result, interrupt};

/// How long answers may take after the last request was due.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a load led to.
pub(crate) struct Outcome {
    /// Right answers within the time.
    pub(crate) answers: u64,
    /// The first of the errors, and how many there were.
    pub(crate) errors: Option<(u64, String)>,
    /// From the first request to the end.
    pub(crate) elapsed: Duration,
    /// From the moment when a request was due to its answer, in nanoseconds. Only an open
    /// loop has due times.
    pub(crate) latency: Histogram<u64>,
}

impl Outcome {
    pub(crate) fn rate(&self) -> f64 {
        self.answers as f64 / self.elapsed.as_secs_f64()
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
        };
        for index in 0..count {
            let connection = load.open(index)?;
            load.connections.push(connection);
        }
        Ok(load)
    }

    /// Closed loop: each connection sends its next request when it has its answer. Finds
    /// out how much a server bears; says nothing about latency.
    pub(crate) fn saturate(&mut self, duration: Duration) -> Result<Outcome> {
        self.run_closed(u64::MAX, duration)
    }

    /// The same until there are `count` answers.
    pub(crate) fn take(&mut self, count: u64) -> Result<Outcome> {
        self.run_closed(count, PATIENCE * 12)
    }

    fn run_closed(&mut self, count: u64, duration: Duration) -> Result<Outcome> {
        let start = self.begin();
        let end = start + duration;
        for index in 0..self.connections.len() {
            self.send(index);
        }
        let mut now = start;
        while now < end && self.answers < count {
            interrupt::check()?;
            self.wait(end - now)?;
            while let Some(event) = self.ready.pop() {
                let index = event.data.u64() as usize;
                if self.receive(index) && self.answers < count {
                    self.send(index);
                }
            }
            now = Instant::now();
        }
        let outcome = self.outcome(start.elapsed(), new_histogram()?);
        // What is still on its way belongs to no measurement.
        self.reconnect_busy()?;
        Ok(outcome)
    }

    /// One exchange on each connection, one after the other.
    ///
    /// # Errors
    /// At the first answer that is not right.
    pub(crate) fn each_once(&mut self) -> Result<()> {
        for index in 0..self.connections.len() {
            self.begin();
            self.send(index);
            let until = Instant::now() + PATIENCE;
            while self.answers == 0 && self.failures == 0 && Instant::now() < until {
                interrupt::check()?;
                self.wait(PATIENCE)?;
                while let Some(event) = self.ready.pop() {
                    self.receive(event.data.u64() as usize);
                }
            }
            if self.answers == 0 {
                let why = self.first_failure.take().unwrap_or_else(|| "no answer".to_owned());
                return Err(format!("connection {index}: {why}").into());
            }
        }
        Ok(())
    }

    /// Open loop: requests are due at a fixed rate, whether the server keeps up or not, and
    /// a latency begins when the request was due, not when it could be sent. A server that
    /// stalls is charged for everything that came due meanwhile (no coordinated omission).
    pub(crate) fn pace(&mut self, rate: f64, duration: Duration) -> Result<Outcome> {
        // The kernel may put a wake-up off by this much; its default is 50 us.
        rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1_000))?;
        let mut latency = new_histogram()?;
        let total = (rate * duration.as_secs_f64()) as u64;
        let start = self.begin();
        let due = |number: u64| start + Duration::from_secs_f64(number as f64 / rate);
        let mut due_of = vec![start; self.connections.len()];
        let mut free: std::collections::VecDeque<_> = (0..self.connections.len()).collect();
        let (mut sent, give_up) = (0, due(total) + PATIENCE);
        while sent < total || free.len() < self.connections.len() {
            let now = Instant::now();
            if now > give_up {
                self.fail(total - sent, "the server did not keep up".to_owned());
                break;
            }
            while sent < total && due(sent) <= now {
                let Some(index) = free.pop_front() else { break };
                due_of[index] = due(sent);
                self.send(index);
                sent += 1;
            }
            interrupt::check()?;
            let next = if sent < total && !free.is_empty() { due(sent) } else { give_up };
            self.wait(next.saturating_duration_since(Instant::now()))?;
            let now = Instant::now();
            while let Some(event) = self.ready.pop() {
                let index = event.data.u64() as usize;
                if self.receive(index) {
                    latency.saturating_record((now - due_of[index]).as_nanos() as u64);
                    free.push_back(index);
                }
            }
        }
        let outcome = self.outcome(start.elapsed(), latency);
        self.reconnect_busy()?;
        Ok(outcome)
    }

    fn begin(&mut self) -> Instant {
        (self.answers, self.failures, self.first_failure) = (0, 0, None);
        Instant::now()
    }

    fn outcome(&mut self, elapsed: Duration, latency: Histogram<u64>) -> Outcome {
        let errors = self.first_failure.take().map(|first| (self.failures, first));
        Outcome { answers: self.answers, errors, elapsed, latency }
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

/// Three digits from a microsecond to a minute.
fn new_histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1_000, 60_000_000_000, 3)?)
}
