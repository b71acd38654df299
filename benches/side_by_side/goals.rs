//! What the gate is meant to cost, and whether it does.

use crate::{
    results::{Measured, Results},
    rows,
};

/// One goal with what was seen.
pub(crate) struct Goal {
    pub(crate) what: &'static str,
    pub(crate) limit: String,
    pub(crate) seen: String,
    pub(crate) reached: bool,
}

const MIB: f64 = (1 << 20) as f64;

/// All goals whose rows were measured.
pub(crate) fn check(results: &Results) -> Vec<Goal> {
    let row = |id| results.row(id);
    let cpu =
        |one, other| row(one)?.over(|cost| Some(cost.cpu), row(other)?, |cost| Some(cost.cpu));
    let rate =
        |one, other| row(one)?.over(|cost| Some(cost.rate), row(other)?, |cost| Some(cost.rate));
    let redis = |one, other| row(one)?.over(|cost| cost.redis, row(other)?, |cost| Some(cost.cpu));
    let more = |above: Option<f64>, below: Option<f64>| Some(above? - below?);
    let first = row(rows::FIRST_REDIS);
    let memory = results.memory.as_ref();
    let many = memory.filter(|memory| memory.connections == crate::memory::CONNECTIONS);
    let goals = [
        at_most(
            "no key, 1 thread: CPU / nginx pass-through, 1 worker",
            cpu(rows::UNKEYED, rows::PASS),
            1.0,
            "x",
        ),
        at_most(
            "no key, a thread per core: CPU / nginx pass-through, a worker per core",
            cpu(rows::UNKEYED_THREADS, rows::PASS_WORKERS),
            1.0,
            "x",
        ),
        at_most(
            "replay from the cache, 1 thread: CPU / nginx answering from its cache, 1 worker",
            cpu(rows::CACHED, rows::CACHE),
            0.75,
            "x",
        ),
        at_most(
            "replay from the cache, 1 thread: CPU / nginx with its files kept open, 1 worker",
            cpu(rows::CACHED, rows::CACHE_OPEN),
            0.75,
            "x",
        ),
        at_most(
            "first request, Redis: CPU / nginx pass-through",
            cpu(rows::FIRST_REDIS, rows::PASS),
            2.2,
            "x",
        ),
        at_most(
            "first request, Redis: CPU of Redis / nginx pass-through",
            redis(rows::FIRST_REDIS, rows::PASS),
            1.6,
            "x",
        ),
        at_most(
            "first request, Redis: p50 above nginx pass-through",
            more(first.and_then(Measured::p50), row(rows::PASS).and_then(Measured::p50)),
            0.25,
            " ms",
        ),
        at_most(
            "first request, Redis: p99 above nginx pass-through",
            more(first.and_then(Measured::p99), row(rows::PASS).and_then(Measured::p99)),
            1.0,
            " ms",
        ),
        at_least(
            "first request, embedded, on disk, 64 connections",
            row(rows::FIRST_EMBEDDED_64).and_then(Measured::rate),
            6000.0,
            "/s",
        ),
        at_least(
            "replays from the cache, 1 thread / those of idempotent-proxy",
            rate(rows::CACHED, rows::RIVAL_REPLAY),
            5.0,
            "x",
        ),
        at_least(
            "first requests, Redis / those of idempotent-proxy",
            rate(rows::FIRST_REDIS, rows::RIVAL_FIRST),
            3.0,
            "x",
        ),
        at_most("resident when idle", memory.map(|memory| memory.idle as f64 / MIB), 12.0, " MiB"),
        at_most(
            "resident with 10,000 idle connections",
            many.map(|memory| memory.connected as f64 / MIB),
            80.0,
            " MiB",
        ),
    ];
    goals.into_iter().flatten().collect()
}

fn at_most(what: &'static str, seen: Option<f64>, limit: f64, unit: &str) -> Option<Goal> {
    goal(what, seen?, limit, unit, "at most", |seen| seen <= limit)
}

fn at_least(what: &'static str, seen: Option<f64>, limit: f64, unit: &str) -> Option<Goal> {
    goal(what, seen?, limit, unit, "at least", |seen| seen >= limit)
}

fn goal(
    what: &'static str,
    seen: f64,
    limit: f64,
    unit: &str,
    word: &str,
    reached: impl Fn(f64) -> bool,
) -> Option<Goal> {
    let digits = if limit >= 1000.0 { 0 } else { 2 };
    Some(Goal {
        what,
        limit: format!("{word} {limit}{unit}"),
        seen: format!("{seen:.digits$}{unit}"),
        reached: reached(seen),
    })
}
