//! One measurement of one row, on servers that were started for it.

use std::{fmt, net::SocketAddr, time::Duration};

use hdrhistogram::Histogram;

use crate::{
    Result,
    executed::{Promise, astray},
    load::{Keys, Load, Outcome, Request},
    process::Process,
    rows::{Row, Work},
    servers::{self, Server, asgi, nginx},
    verdict::Quantile,
    witness::Witness,
};

/// What a row cost while every connection was kept busy: under as much load as it bears,
/// or as the one thread of the load is able to give.
#[derive(Clone, Debug)]
pub(crate) struct Cost {
    pub(crate) rate: f64,
    /// Which part of the time the load's thread computed. Near one the load was the limit.
    pub(crate) load_share: f64,
    /// Microseconds of processor time per request that the load and the backend took.
    pub(crate) around: f64,
    /// Microseconds of processor time per request: the server with all that it started.
    pub(crate) cpu: f64,
    /// The same for the Redis that it uses.
    pub(crate) redis: Option<f64>,
    pub(crate) errors: Option<(u64, String)>,
}

/// What a row's clients waited, in milliseconds.
#[derive(Clone, Debug)]
pub(crate) struct Wait {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    /// By how much the load was late at p99.
    pub(crate) load: f64,
    /// By how much the machine itself was late meanwhile.
    pub(crate) machine: Machine,
    pub(crate) errors: Option<(u64, String)>,
}

/// How late the machine itself was, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

impl Wait {
    pub(crate) fn at(&self, quantile: Quantile) -> f64 {
        match quantile {
            Quantile::P50 => self.p50,
            Quantile::P99 => self.p99,
        }
    }
}

impl Machine {
    pub(crate) fn at(self, quantile: Quantile) -> f64 {
        match quantile {
            Quantile::P50 => self.p50,
            Quantile::P99 => self.p99,
        }
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { p50, p99, machine: Machine { p99: machine, .. }, .. } = self;
        write!(f, "p50 {p50:.2} ms, p99 {p99:.2} ms, the machine itself {machine:.2} ms")
    }
}

/// What a measurement needs to know of what it measures.
pub(crate) struct Subject<'a> {
    pub(crate) server: &'a Server,
    pub(crate) work: Work,
    pub(crate) ledger: Ledger<'a>,
}

/// Who counts how many requests are executed.
#[derive(Clone, Copy)]
pub(crate) enum Ledger<'a> {
    /// nginx, which counts the question as well.
    Backend(&'a Server),
    /// A service that has the middleware in it, beside that.
    Service(SocketAddr),
    /// There is nothing in between that could answer for the backend.
    Nobody,
}

impl Ledger<'_> {
    /// How many there were up to now, or nothing where nobody counts.
    fn executed(self) -> Result<Option<u64>> {
        match self {
            Self::Backend(backend) => Ok(Some(nginx::requests(backend.address)?)),
            Self::Service(service) => Ok(Some(asgi::executed(service)?)),
            Self::Nobody => Ok(None),
        }
    }

    /// How many of those between two questions are the second question itself.
    fn questions(self) -> u64 {
        match self {
            Self::Backend(_) => 1,
            Self::Service(_) | Self::Nobody => 0,
        }
    }
}

/// Processor time up to now.
struct Cpu {
    server: Duration,
    redis: Duration,
    backend: Duration,
}

pub(crate) fn cost(row: &Row, backend: &Server, duration: Duration) -> Result<Cost> {
    let server = row.subject.start(backend.address)?;
    let mut load = warmed(row, &server, duration)?;
    Subject::of(row, &server, backend).cost(&mut load, duration)
}

pub(crate) fn wait(row: &Row, backend: &Server, rate: f64, duration: Duration) -> Result<Wait> {
    let server = row.subject.start(backend.address)?;
    let mut load = warmed(row, &server, duration)?;
    let mut duration = duration;
    if let servers::Subject::Gate { store, .. } = row.subject
        && row.work == Work::First
    {
        duration = duration.max(store.patience());
    }
    Subject::of(row, &server, backend).wait(&mut load, rate, duration)
}

impl<'a> Subject<'a> {
    fn of(row: &Row, server: &'a Server, backend: &'a Server) -> Self {
        Self { server, work: row.work, ledger: row.subject.ledger(server, backend) }
    }

    pub(crate) fn cost(&self, load: &mut Load, duration: Duration) -> Result<Cost> {
        let before = self.ledger.executed()?;
        let begin = self.cpu();
        let outcome = load.saturate(duration)?;
        let end = self.cpu();
        let answers = outcome.answers.max(1) as f64;
        let each = |time: Duration| time.as_secs_f64() * 1e6 / answers;
        Ok(Cost {
            rate: outcome.rate(),
            load_share: outcome.share(),
            around: each(outcome.cpu + end.backend - begin.backend),
            cpu: each(end.server - begin.server),
            redis: self.server.redis.is_some().then(|| each(end.redis - begin.redis)),
            errors: self.errors(&outcome, before)?,
        })
    }

    pub(crate) fn wait(&self, load: &mut Load, rate: f64, duration: Duration) -> Result<Wait> {
        let before = self.ledger.executed()?;
        let witness = Witness::start()?;
        let outcome = load.pace(rate, duration)?;
        let late = witness.end()?;
        let of = |waits: &Histogram<u64>, quantile| waits.value_at_quantile(quantile) as f64 / 1e6;
        let at = |quantile| of(&outcome.latency, quantile);
        let errors = self.errors(&outcome, before)?;
        let machine = Machine { p50: of(&late, 0.5), p99: of(&late, 0.99) };
        let load = of(&outcome.lag, 0.99);
        Ok(Wait { p50: at(0.5), p99: at(0.99), p999: at(0.999), load, machine, errors })
    }

    fn cpu(&self) -> Cpu {
        let of = |process: Option<&Process>| process.map_or(Duration::ZERO, Process::cpu);
        let backend = match self.ledger {
            Ledger::Backend(backend) => Some(&backend.process),
            Ledger::Service(_) | Ledger::Nobody => None,
        };
        Cpu {
            server: self.server.process.cpu(),
            redis: of(self.server.redis.as_deref()),
            backend: of(backend),
        }
    }

    /// Wrong answers, and right ones that came from the wrong place: a replay that was
    /// executed, or a first request that was not, or was twice.
    fn errors(&self, outcome: &Outcome, before: Option<u64>) -> Result<Option<(u64, String)>> {
        if outcome.errors.is_some() {
            return Ok(outcome.errors.clone());
        }
        let (Some(before), Some(after)) = (before, self.ledger.executed()?) else {
            return Ok(None);
        };
        let (executed, answers) = (after - before - self.ledger.questions(), outcome.answers);
        let promise = match self.work {
            Work::Unkeyed | Work::First => Promise::Once,
            Work::Replay => Promise::Never,
        };
        Ok(astray(promise, executed, answers, outcome.connections as u64))
    }
}

/// A load whose connections are open and whose records, if it replays, are there.
fn warmed(row: &Row, server: &Server, duration: Duration) -> Result<Load> {
    if row.work == Work::Replay {
        // Each key once, on one connection, so that none is asked for twice at a time.
        let request = Request::new(server.path, Keys::InTurn(Work::REPLAYED));
        let outcome = Load::connect(server.address, request, 1)?.take(Work::REPLAYED)?;
        outcome.faultless(&format!("{}: recording", row.label))?;
    }
    let request = Request::new(server.path, row.work.keys());
    let mut load = Load::connect(server.address, request, row.connections)?;
    load.saturate((duration / 6).min(Duration::from_millis(500)))?;
    Ok(load)
}
