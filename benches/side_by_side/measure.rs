//! One measurement of one row, on servers that were started for it.

use std::{net::SocketAddr, time::Duration};

use crate::{
    Result,
    load::{Keys, Load, Outcome, Request},
    rows::{Row, Work},
    servers::{Server, nginx},
};

/// What a row cost under as much load as it bears.
#[derive(Clone, Debug)]
pub(crate) struct Cost {
    pub(crate) rate: f64,
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
    pub(crate) errors: Option<(u64, String)>,
}

pub(crate) fn cost(row: &Row, backend: SocketAddr, duration: Duration) -> Result<Cost> {
    let server = row.subject.start(backend)?;
    let mut load = warmed(row, &server, duration)?;
    let before = nginx::requests(backend)?;
    let (own, redis) = (server.process.cpu()?, redis_cpu(&server)?);
    let outcome = load.saturate(duration)?;
    let (own, redis) = (server.process.cpu()? - own, redis_cpu(&server)? - redis);
    let executed = nginx::requests(backend)? - before - 1;
    let per_request = |time: Duration| time.as_secs_f64() * 1e6 / outcome.answers.max(1) as f64;
    Ok(Cost {
        rate: outcome.rate(),
        cpu: per_request(own),
        redis: server.redis.is_some().then(|| per_request(redis)),
        errors: errors(row, &outcome, executed),
    })
}

pub(crate) fn wait(row: &Row, backend: SocketAddr, rate: f64, duration: Duration) -> Result<Wait> {
    let server = row.subject.start(backend)?;
    let mut load = warmed(row, &server, duration)?;
    let before = nginx::requests(backend)?;
    let outcome = load.pace(rate, duration)?;
    let executed = nginx::requests(backend)? - before - 1;
    let at = |quantile| outcome.latency.value_at_quantile(quantile) as f64 / 1e6;
    Ok(Wait {
        p50: at(0.5),
        p99: at(0.99),
        p999: at(0.999),
        errors: errors(row, &outcome, executed),
    })
}

/// A load whose connections are open and whose records, if it replays, are there.
fn warmed(row: &Row, server: &Server, duration: Duration) -> Result<Load> {
    if row.work == Work::Replay {
        // Each key once, on one connection, so that none is asked for twice at a time.
        let request = Request::new(server.path, Keys::InTurn(Work::REPLAYED));
        let outcome = Load::connect(server.address, request, 1)?.take(Work::REPLAYED)?;
        if let Some((_, error)) = outcome.errors {
            return Err(format!("{}: recording: {error}", row.label).into());
        }
    }
    let request = Request::new(server.path, row.work.keys());
    let mut load = Load::connect(server.address, request, row.connections)?;
    load.saturate((duration / 6).min(Duration::from_millis(500)))?;
    Ok(load)
}

fn redis_cpu(server: &Server) -> Result<Duration> {
    server.redis.as_ref().map_or(Ok(Duration::ZERO), |redis| redis.cpu())
}

/// Wrong answers, and right ones that came from the wrong place: a replay that was executed,
/// or a first request that was not.
fn errors(row: &Row, outcome: &Outcome, executed: u64) -> Option<(u64, String)> {
    let answers = outcome.answers;
    if outcome.errors.is_some() || !row.subject.forwards() {
        return outcome.errors.clone();
    }
    match row.work {
        Work::Replay if executed > 0 => Some((executed, "replays were executed".to_owned())),
        Work::Unkeyed | Work::First if executed < answers => {
            Some((answers - executed, "answers did not come from the backend".to_owned()))
        }
        Work::Unkeyed | Work::First | Work::Replay => None,
    }
}
