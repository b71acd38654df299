//! What is compared, and how each is started. Every server gets what its manual
//! recommends for speed: keep-alive to the backend, no access log. nginx's cache is there
//! twice, as it comes and with its files kept open.

use std::net::SocketAddr;

use crate::{Result, measure::Ledger, process::find};

pub(crate) mod asgi;
pub(crate) mod gate;
mod haproxy;
pub(crate) mod idempotent_proxy;
pub(crate) mod nginx;
pub(crate) mod python;
pub(crate) mod redis;
mod server;
mod varnish;

pub(crate) use self::{
    gate::{Build, Store, Threads},
    nginx::OpenFiles,
    server::Server,
};

/// What a row measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// No proxy at all: what the load and the backend are able to do.
    Backend,
    Nginx {
        workers: usize,
    },
    NginxCache(OpenFiles),
    Haproxy,
    Varnish,
    VarnishCache,
    Gate {
        store: Store,
        cache: bool,
        threads: Threads,
        build: Build,
    },
    IdempotentProxy {
        redis: bool,
    },
    Asgi,
}

impl Subject {
    /// Starts the server before a backend.
    pub(crate) fn start(self, backend: SocketAddr) -> Result<Server> {
        match self {
            Self::Backend => nginx::backend(),
            Self::Nginx { workers } => nginx::pass(backend, workers),
            Self::NginxCache(files) => nginx::cache(backend, files),
            Self::Haproxy => haproxy::start(backend),
            Self::Varnish => varnish::start(backend, varnish::PASS),
            Self::VarnishCache => varnish::start(backend, varnish::CACHE),
            Self::Gate { store, cache, threads, build } => {
                gate::start(backend, store, cache, threads, build)
            }
            Self::IdempotentProxy { redis } => idempotent_proxy::start(backend, redis, None),
            Self::Asgi => asgi::start(),
        }
    }

    /// Who counts how many of its requests are executed.
    pub(crate) fn ledger<'a>(self, server: &Server, backend: &'a Server) -> Ledger<'a> {
        match self {
            Self::Backend => Ledger::Nobody,
            Self::Asgi => Ledger::Service(server.address),
            Self::Nginx { .. }
            | Self::NginxCache(_)
            | Self::Haproxy
            | Self::Varnish
            | Self::VarnishCache
            | Self::Gate { .. }
            | Self::IdempotentProxy { .. } => Ledger::Backend(backend),
        }
    }

    /// Whether the disk beneath it is part of what it costs.
    pub(crate) fn forces_writes(self) -> bool {
        matches!(self, Self::Gate { store: Store::Embedded, .. })
    }

    /// What is missing on this machine, with the command that installs it.
    pub(crate) fn missing(self) -> Option<String> {
        let own = match self {
            Self::Backend | Self::Nginx { .. } | Self::NginxCache(_) => program("nginx", "nginx"),
            Self::Haproxy => program("haproxy", "haproxy"),
            Self::Varnish | Self::VarnishCache => program("varnishd", "varnish"),
            Self::Gate { .. } => None,
            Self::IdempotentProxy { .. } => idempotent_proxy::missing(),
            Self::Asgi => asgi::missing(),
        };
        let redis = match self {
            Self::Gate { store: Store::Redis, .. }
            | Self::IdempotentProxy { redis: true }
            | Self::Asgi => program("redis-server", "redis-server"),
            _ => None,
        };
        own.or(redis)
    }
}

fn program(program: &str, package: &str) -> Option<String> {
    find(program).is_none().then(|| format!("{program}: apt-get install {package}"))
}
