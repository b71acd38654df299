//! Settings: the file, then the environment, then flags.
//!
//! `raw` mirrors the file; [`Config`] is what the program uses. Nothing inside
//! the program checks a setting again.

mod effective;
mod links;
mod load;
mod place;
mod policy;
mod raw;
mod resolve;
mod target;
mod values;

use std::{net::SocketAddr, num::NonZero, path::PathBuf, sync::Arc, time::Duration};

pub use load::{ConfigError, Overrides, Sources};
pub use raw::LogFormat;
pub use target::{StoreUrl, UpstreamUrl};
pub use values::Network;

use crate::{engine::policy::Policy, store::Durability};

/// Everything that `oncegate serve` needs to know.
///
/// ```
/// use oncegate::config::{Config, Sources};
///
/// let config = Config::load(&Sources::text("[server]\nlisten = \"127.0.0.1:7000\""))?;
/// assert_eq!(config.server.listen.port(), 7000);
/// # Ok::<(), oncegate::config::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    /// The listener for clients.
    pub server: Server,
    /// Where records are kept.
    pub store: StoreConfig,
    /// The listener for operators.
    pub admin: Admin,
    /// Logs.
    pub telemetry: Telemetry,
    /// Routes; the last one of the configuration takes what no other takes.
    pub routes: Vec<Route>,
    /// How many bytes all buffered request bodies may take together.
    pub max_buffered: usize,
}

/// The listener for clients.
///
/// # Defaults
/// `127.0.0.1:8080`, HTTP/1.1 and HTTP/2, 10,000 connections, 10 s for a head, 30 s
/// between two pieces of a body, 75 s between two requests, 30 s to drain, nobody
/// trusted.
#[derive(Clone, Debug)]
pub struct Server {
    /// Where to listen.
    pub listen: SocketAddr,
    /// How many threads serve connections; `None`: one for each core.
    pub threads: Option<NonZero<usize>>,
    /// Whether clients may speak HTTP/2, in clear text and with prior knowledge.
    pub http2: bool,
    /// From the first byte of a request to the end of its head.
    pub head_timeout: Duration,
    /// Between two pieces of a request body. The whole of one that is buffered has as long, and a
    /// second more for each KiB.
    pub body_timeout: Duration,
    /// Between two requests of a connection. An HTTP/2 client that is silent for as
    /// long while it waits is asked for a sign of life.
    pub idle_timeout: Duration,
    /// How many connections are served at once; more wait to be accepted.
    pub max_connections: usize,
    /// Peers whose `X-Forwarded-*` headers are believed.
    pub trusted_proxies: Vec<Network>,
    /// How long running exchanges may take after a shutdown began.
    pub drain: Duration,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: ([127, 0, 0, 1], 8080).into(),
            threads: None,
            http2: true,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(75),
            max_connections: 10_000,
            trusted_proxies: Vec::new(),
            drain: Duration::from_secs(30),
        }
    }
}

/// The service behind a route.
///
/// # Defaults
/// `http://127.0.0.1:9000`, 5 s to connect, 60 s for a response to begin and
/// between two pieces of it, no limit on the whole, connections idle for up to 4 s
/// are used again.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Addresses, taken in turn.
    pub urls: Vec<UpstreamUrl>,
    /// For a connection.
    pub connect_timeout: Duration,
    /// For the head of a response, and between two pieces of its body.
    pub response_timeout: Duration,
    /// For the whole exchange.
    pub total_timeout: Option<Duration>,
    /// How long an unused connection is kept. Must be shorter than the upstream's keep-alive.
    pub pool_idle: Duration,
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            urls: vec!["http://127.0.0.1:9000".parse().expect("a literal that the tests load")],
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(60),
            total_timeout: None,
            pool_idle: Duration::from_secs(4),
        }
    }
}

/// Where records are kept.
///
/// # Defaults
/// `file:./oncegate-data`, 2 s per operation, 64 MiB of responses at hand, a sixteenth of the memory
/// (96 MiB at the least) for an embedded store's tables, the durability that the store has by itself, an alarm when it lost
/// its data.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The store.
    pub url: StoreUrl,
    /// How long a reply of a Redis, or of the disk under an embedded store, may take.
    pub timeout: Duration,
    /// How many bytes of recorded responses the process keeps at hand.
    pub cache: usize,
    /// How many bytes of its tables an embedded store keeps at hand; `None`: a part of the
    /// memory that there is.
    pub page_cache: Option<usize>,
    /// Start although the store may evict records.
    pub allow_eviction: bool,
    /// What the store has to have done before a write counts.
    pub durability: Durability,
    /// Refuse keyed requests after the store lost its data, until an operator
    /// acknowledges it.
    pub refuse_after_loss: bool,
    /// The secret of store keys and fingerprints, the same for all gates on one store.
    pub hash_secret: String,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            url: StoreUrl::File("./oncegate-data".into()),
            timeout: Duration::from_secs(2),
            cache: 64 << 20,
            page_cache: None,
            allow_eviction: false,
            durability: Durability::Acknowledged,
            refuse_after_loss: false,
            hash_secret: String::new(),
        }
    }
}

/// The listener for operators.
///
/// # Defaults
/// `127.0.0.1:9901`, no token.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Where to listen.
    pub listen: SocketAddr,
    /// A file with the token that requests must bear.
    pub token_file: Option<PathBuf>,
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: ([127, 0, 0, 1], 9901).into(), token_file: None }
    }
}

/// Logs.
///
/// # Defaults
/// `info`, as text.
#[derive(Clone, Debug)]
pub struct Telemetry {
    /// What to log, as `tracing` filters are written.
    pub log: String,
    /// How lines are written.
    pub format: LogFormat,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { log: "info".to_owned(), format: LogFormat::Text }
    }
}

/// Which requests go where, under which policy.
#[derive(Clone, Debug)]
pub struct Route {
    /// A prefix of whole path segments.
    pub path: String,
    /// The host, or any.
    pub host: Option<String>,
    /// The service.
    pub upstream: Upstream,
    /// The policy; `None` forwards everything untouched.
    pub policy: Option<Arc<Policy>>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server: Server::default(),
            store: StoreConfig::default(),
            admin: Admin::default(),
            telemetry: Telemetry::default(),
            routes: vec![Route {
                path: "/".to_owned(),
                host: None,
                upstream: Upstream::default(),
                policy: Some(Arc::default()),
            }],
            max_buffered: 256 << 20,
        }
    }
}
