//! The rows of the table.

use crate::{
    load::Keys,
    servers::{Build, OpenFiles, Store, Subject, Threads},
};

/// Connections of the load, as many as wrk is often given.
const CONNECTIONS: usize = 32;
/// With more, idempotent-proxy runs out of its own connections to Redis and answers 502; its store
/// in memory has no such limit.
const FEW: usize = 8;
/// What the goal for durable claims is stated for.
const MANY: usize = 64;

/// What requests ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// No key.
    Unkeyed,
    /// A key that was never there.
    First,
    /// One of a thousand keys that are there.
    Replay,
}

impl Work {
    pub(crate) const REPLAYED: u64 = 1000;

    pub(crate) fn keys(self) -> Keys {
        match self {
            Self::Unkeyed => Keys::None,
            Self::First => Keys::From(Self::REPLAYED),
            Self::Replay => Keys::InTurn(Self::REPLAYED),
        }
    }
}

/// A row: one server doing one kind of work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// For `--only`, and for the goals.
    pub(crate) id: &'static str,
    pub(crate) label: &'static str,
    pub(crate) subject: Subject,
    pub(crate) work: Work,
    pub(crate) connections: usize,
}

pub(crate) const BACKEND: &str = "backend";
pub(crate) const PASS: &str = "nginx-pass";
pub(crate) const PASS_WORKERS: &str = "nginx-workers";
pub(crate) const CACHE: &str = "nginx-cache";
pub(crate) const CACHE_OPEN: &str = "nginx-cache-open";
pub(crate) const UNKEYED: &str = "gate-unkeyed";
pub(crate) const UNKEYED_THREADS: &str = "gate-unkeyed-threads";
pub(crate) const CACHED: &str = "gate-cached";
pub(crate) const REPLAY_REDIS: &str = "gate-replay-redis";
pub(crate) const FIRST_MEMORY: &str = "gate-first-memory";
pub(crate) const FIRST_REDIS: &str = "gate-first-redis";
pub(crate) const FIRST_EMBEDDED_64: &str = "gate-first-embedded-64";
pub(crate) const PLAIN_UNKEYED: &str = "plain-unkeyed";
pub(crate) const PLAIN_CACHED: &str = "plain-cached";
pub(crate) const PLAIN_FIRST_REDIS: &str = "plain-first-redis";
pub(crate) const RIVAL_FIRST: &str = "idempotent-proxy-first-redis";
pub(crate) const RIVAL_REPLAY: &str = "idempotent-proxy-replay-redis";
pub(crate) const RIVAL_FIRST_MEMORY: &str = "idempotent-proxy-first-memory";
pub(crate) const RIVAL_REPLAY_MEMORY: &str = "idempotent-proxy-replay-memory";

/// The same work as a row's, done by the gate as cargo builds it.
pub(crate) fn plain(id: &str) -> Option<&'static str> {
    let pairs =
        [(UNKEYED, PLAIN_UNKEYED), (CACHED, PLAIN_CACHED), (FIRST_REDIS, PLAIN_FIRST_REDIS)];
    pairs.into_iter().find(|(given, _)| *given == id).map(|(_, plain)| plain)
}

/// What is measured first in a run, in this order: rows that are compared with each other
/// are neighbours, or three apart where one is compared with several. The others follow as
/// they stand in the table.
pub(crate) const TURNS: [&str; 17] = [
    FIRST_MEMORY,
    RIVAL_FIRST_MEMORY,
    RIVAL_FIRST,
    PLAIN_FIRST_REDIS,
    FIRST_REDIS,
    PASS,
    UNKEYED,
    PLAIN_UNKEYED,
    PASS_WORKERS,
    UNKEYED_THREADS,
    CACHE,
    CACHED,
    PLAIN_CACHED,
    CACHE_OPEN,
    RIVAL_REPLAY,
    RIVAL_REPLAY_MEMORY,
    REPLAY_REDIS,
];

/// What a row is called, also where it is not measured.
pub(crate) fn label(id: &str) -> &str {
    // These are all that there can be.
    let all = all(2, Builds::GivenAndPlain);
    all.iter().find(|row| row.id == id).map_or(id, |row| row.label)
}

/// Which builds of the gate there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Builds {
    /// One, whichever it is.
    Given,
    /// The one that `--gate` names, and that of cargo.
    GivenAndPlain,
}

/// All rows, as they stand in the table.
pub(crate) fn all(cores: usize, builds: Builds) -> Vec<Row> {
    use Work::{First, Replay, Unkeyed};
    let (threads, build) = (Threads::PerCore, Build::Given);
    let gate = |store, cache| Subject::Gate { store, cache, threads, build };
    let single = |store| Subject::Gate { store, cache: true, threads: Threads::One, build };
    let cache = Subject::NginxCache;
    let rival = |redis| Subject::IdempotentProxy { redis };
    let row = |id, label, subject, work| Row { id, label, subject, work, connections: CONNECTIONS };
    let few = |row| Row { connections: FEW, ..row };
    let mut rows = vec![
        row(BACKEND, "no proxy: the backend alone", Subject::Backend, Unkeyed),
        row(PASS, "nginx, pass-through, 1 worker", Subject::Nginx { workers: 1 }, Unkeyed),
        row(CACHE, "nginx, answer from its cache", cache(OpenFiles::ForEach), Replay),
        row(CACHE_OPEN, "nginx, from its cache of open files", cache(OpenFiles::Kept), Replay),
        row(UNKEYED, "oncegate, no key, 1 thread", single(Store::Memory), Unkeyed),
        row(CACHED, "oncegate, replay from its cache, 1 thread", single(Store::Redis), Replay),
        row(REPLAY_REDIS, "oncegate, replay from Redis", gate(Store::Redis, false), Replay),
        row(FIRST_MEMORY, "oncegate, first, memory", gate(Store::Memory, true), First),
        row(FIRST_REDIS, "oncegate, first, Redis", gate(Store::Redis, true), First),
        row("gate-first-embedded", "oncegate, first, embedded", gate(Store::Embedded, true), First),
        Row {
            connections: MANY,
            ..row(
                FIRST_EMBEDDED_64,
                "oncegate, first, embedded, 64 connections",
                gate(Store::Embedded, true),
                First,
            )
        },
        row("haproxy-pass", "HAProxy, pass-through, 1 thread", Subject::Haproxy, Unkeyed),
        row("varnish-pass", "Varnish, pass-through", Subject::Varnish, Unkeyed),
        row("varnish-cache", "Varnish, answer from its cache", Subject::VarnishCache, Replay),
        few(row(RIVAL_REPLAY, "idempotent-proxy, replay, Redis", rival(true), Replay)),
        few(row(RIVAL_FIRST, "idempotent-proxy, first, Redis", rival(true), First)),
        row(RIVAL_REPLAY_MEMORY, "idempotent-proxy, replay, memory", rival(false), Replay),
        row(RIVAL_FIRST_MEMORY, "idempotent-proxy, first, memory", rival(false), First),
        row("asgi-replay", "asgi-idempotency-header, replay, Redis", Subject::Asgi, Replay),
        row("asgi-first", "asgi-idempotency-header, first, Redis", Subject::Asgi, First),
    ];
    if cores > 1 {
        let more = [
            row(
                PASS_WORKERS,
                "nginx, pass-through, a worker per core",
                Subject::Nginx { workers: cores },
                Unkeyed,
            ),
            row(
                UNKEYED_THREADS,
                "oncegate, no key, a thread per core",
                gate(Store::Memory, true),
                Unkeyed,
            ),
            row(
                "gate-cached-threads",
                "oncegate, replay from its cache, a thread per core",
                gate(Store::Redis, true),
                Replay,
            ),
        ];
        let after = rows.iter().position(|row| row.id == CACHED).map_or(0, |at| at + 1);
        rows.splice(after..after, more);
    }
    if builds == Builds::GivenAndPlain {
        let plain =
            |store, threads| Subject::Gate { store, cache: true, threads, build: Build::Plain };
        let more = [
            row(
                PLAIN_UNKEYED,
                "oncegate as cargo builds it, no key, 1 thread",
                plain(Store::Memory, Threads::One),
                Unkeyed,
            ),
            row(
                PLAIN_CACHED,
                "oncegate as cargo builds it, replay from its cache, 1 thread",
                plain(Store::Redis, Threads::One),
                Replay,
            ),
            row(
                PLAIN_FIRST_REDIS,
                "oncegate as cargo builds it, first, Redis",
                plain(Store::Redis, Threads::PerCore),
                First,
            ),
        ];
        let after = rows.iter().position(|row| row.id == FIRST_EMBEDDED_64);
        let after = after.map_or(rows.len(), |at| at + 1);
        rows.splice(after..after, more);
    }
    rows
}
