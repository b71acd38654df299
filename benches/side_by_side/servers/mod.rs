//! What is compared, and how each is started. Every server gets what its manual
//! recommends for speed: keep-alive to the backend, no access log. nginx's cache is there
//! twice, as it comes and with its files kept open.

use std::{net::SocketAddr, rc::Rc};

use crate::{
    Result,
    process::{Process, find},
};

pub(crate) mod asgi;
pub(crate) mod gate;
mod haproxy;
mod idempotent_proxy;
pub(crate) mod nginx;
pub(crate) mod redis;
mod varnish;

pub(crate) use self::{
    asgi::VARIABLE as PYTHON,
    gate::{Build, Store, Threads},
    nginx::OpenFiles,
};

/// A server that runs before the backend.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// Where requests go.
    pub(crate) path: &'static str,
    // Stopped before the Redis that it uses: fields are dropped in order.
    pub(crate) process: Process,
    /// Outlives the server where its records are to.
    pub(crate) redis: Option<Rc<Process>>,
}

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
            Self::IdempotentProxy { redis } => idempotent_proxy::start(backend, redis),
            Self::Asgi => asgi::start(),
        }
    }

    /// Whether requests reach the backend at all.
    pub(crate) fn forwards(self) -> bool {
        !matches!(self, Self::Backend | Self::Asgi)
    }

    /// What is missing on this machine, with the command that installs it.
    pub(crate) fn missing(self) -> Option<String> {
        let own = match self {
            Self::Backend | Self::Nginx { .. } | Self::NginxCache(_) => program("nginx", "nginx"),
            Self::Haproxy => program("haproxy", "haproxy"),
            Self::Varnish | Self::VarnishCache => program("varnishd", "varnish"),
            Self::Gate { .. } => None,
            Self::IdempotentProxy { .. } => find(idempotent_proxy::PROGRAM).is_none().then(|| {
                "idempotent-proxy: cargo install idempotent-proxy-server --locked".to_owned()
            }),
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
