//! From the file to what the program uses.

use std::{sync::Arc, time::Duration};

use tokio::sync::Semaphore;
use tracing_subscriber::EnvFilter;

use super::{
    Admin, Config, ConfigError, Route, Server, StoreConfig, StoreUrl, Telemetry, Upstream, place,
    policy::{MAX_BUFFERED, policy},
    raw::{
        Amnesia, LogFormat, Raw, RawAdmin, RawIdempotency, RawServer, RawStore, RawTelemetry,
        RawUpstream,
    },
    values::{Network, Span, Text},
};
use crate::{OnUnknown, Policy, store::Durability};

impl Config {
    pub(super) fn resolve(raw: Raw) -> Result<Self, ConfigError> {
        let Raw { server, upstream, store, idempotency, admin, telemetry, route } = raw;
        let max_buffered = idempotency.max_buffered.unwrap_or(MAX_BUFFERED).0;
        let mut routes = Vec::with_capacity(route.len() + 1);
        for (index, own) in route.into_iter().enumerate() {
            let name = format!("route[{index}]");
            if own.idempotency.max_buffered.is_some() {
                return Err(ConfigError::setting(
                    &format!("{name}.idempotency.max_buffered"),
                    "is one limit for the whole process; set it in [idempotency]",
                ));
            }
            let path = own.path.unwrap_or_else(|| "/".to_owned());
            place::path(&path)
                .map_err(|why| ConfigError::setting(&format!("{name}.path"), &why))?;
            let host = own.host.as_deref().map(place::host).transpose();
            let host = host.map_err(|why| ConfigError::setting(&format!("{name}.host"), &why))?;
            if routes.iter().any(|known: &Route| known.path == path && known.host == host) {
                return Err(ConfigError::setting(
                    &name,
                    &format!("`{path}` has a route already; the second would never be reached"),
                ));
            }
            // What is said for all routes gives way where a response has less time.
            let connect_timeout = own.upstream.connect_timeout;
            let raw = RawUpstream { connect_timeout, ..own.upstream.over(&upstream) };
            // It may be switched off for all routes at once, in an emergency.
            let is_off = own.idempotency.on_unknown.is_none() && idempotency.on_unknown.is_some();
            let says_how_to_ask = own.idempotency.reconcile.is_some() && !is_off;
            let own = own.idempotency.over(&idempotency);
            let (upstream, policy) = way(&name, raw, upstream.connect_timeout, own)
                // What is wrong for all routes is not the route's fault.
                .map_err(|error| {
                    let common = way("", upstream.clone(), None, idempotency.clone());
                    common.err().filter(|common| error.is_that(&name, common)).unwrap_or(error)
                })?;
            if says_how_to_ask && policy.as_ref().is_some_and(|policy| !asks(policy)) {
                return Err(unasked(&name));
            }
            routes.push(Route { path, host, upstream, policy });
        }
        let is_left_open = idempotency.reconcile.is_some() && idempotency.on_unknown.is_none();
        if !routes.iter().any(|route| route.path == "/" && route.host.is_none()) {
            let (upstream, policy) = way("", upstream, None, idempotency)?;
            routes.push(Route { path: "/".to_owned(), host: None, upstream, policy });
        }
        if is_left_open && !routes.iter().filter_map(|route| route.policy.as_ref()).any(asks) {
            return Err(unasked(""));
        }
        Ok(Self {
            server: self::server(server)?,
            store: self::store(store)?,
            admin: self::admin(admin)?,
            telemetry: self::telemetry(telemetry)?,
            routes,
            max_buffered,
        })
    }
}

/// Where the requests of a route go, and under which policy.
fn way(
    route: &str,
    raw: RawUpstream,
    usual: Option<Span>,
    idempotency: RawIdempotency,
) -> Result<(Upstream, Option<Arc<Policy>>), ConfigError> {
    let upstream = upstream(route, raw, usual)?;
    let policy = policy(route, idempotency, &upstream)?;
    Ok((upstream, policy))
}

/// Whether the service is asked about unknown outcomes.
fn asks(policy: &Arc<Policy>) -> bool {
    matches!(policy.on_unknown, OnUnknown::Reconcile(_))
}

/// It is said how to ask, and nobody asks.
fn unasked(route: &str) -> ConfigError {
    let why = "has a meaning with on_unknown = \"reconcile\" only";
    ConfigError::setting(&in_route(route, "idempotency.reconcile"), why)
}

/// A time within which something has to be possible.
pub(super) fn positive(
    name: &str,
    span: Option<Span>,
    usual: Duration,
) -> Result<Duration, ConfigError> {
    match span {
        Some(Span(Duration::ZERO)) => Err(ConfigError::setting(name, "0s leaves no time at all")),
        Some(Span(duration)) => Ok(duration),
        None => Ok(usual),
    }
}

fn server(raw: RawServer) -> Result<Server, ConfigError> {
    let default = Server::default();
    let max_connections = raw.max_connections.unwrap_or(default.max_connections);
    if !(1..=Semaphore::MAX_PERMITS).contains(&max_connections) {
        let why = format!("must be from 1 to {}", Semaphore::MAX_PERMITS);
        return Err(ConfigError::setting("server.max_connections", &why));
    }
    let positive = |name: &str, span, usual| self::positive(&format!("server.{name}"), span, usual);
    Ok(Server {
        listen: raw.listen.map_or(default.listen, |text| text.0),
        threads: raw.threads.or(default.threads),
        http2: raw.http2.unwrap_or(default.http2),
        head_timeout: positive("head_timeout", raw.head_timeout, default.head_timeout)?,
        body_timeout: positive("body_timeout", raw.body_timeout, default.body_timeout)?,
        idle_timeout: positive("idle_timeout", raw.idle_timeout, default.idle_timeout)?,
        max_connections,
        trusted_proxies: raw.trusted_proxies.map_or(default.trusted_proxies, plain::<Network>),
        drain: raw.drain.map_or(default.drain, |span| span.0),
    })
}

/// `usual` is the time for a connection where `raw` names none.
fn upstream(route: &str, raw: RawUpstream, usual: Option<Span>) -> Result<Upstream, ConfigError> {
    let setting = |name: &str| in_route(route, &format!("upstream.{name}"));
    let default = Upstream::default();
    let urls = match (raw.url, raw.urls) {
        (Some(_), Some(_)) => {
            return Err(ConfigError::setting(&setting("urls"), "give either `url` or `urls`"));
        }
        (Some(url), None) => vec![url.0],
        (None, Some(urls)) if urls.is_empty() => {
            return Err(ConfigError::setting(&setting("urls"), "names no upstream"));
        }
        (None, Some(urls)) => plain(urls),
        (None, None) => default.urls,
    };
    let positive = |name: &str, span, usual| self::positive(&setting(name), span, usual);
    let response_timeout =
        positive("response_timeout", raw.response_timeout, default.response_timeout)?;
    if let Some(total) = raw.total_timeout {
        positive("total_timeout", Some(total), Duration::ZERO)?;
    }
    // A request that still waits for its connection would count as sent, and it may ask all
    // upstreams for one.
    let asked = u32::try_from(urls.len()).unwrap_or(u32::MAX);
    let connect_timeout = match raw.connect_timeout {
        None => {
            let usual = positive("connect_timeout", usual, default.connect_timeout)?;
            usual.min(response_timeout / 2 / asked)
        }
        Some(Span(connect)) if connect.saturating_mul(asked) >= response_timeout => {
            let response = setting("response_timeout");
            let [connect, limit] = [connect, response_timeout].map(humantime::format_duration);
            let why = format!(
                "{connect} for each of {asked} upstreams has to be less than {response}, \
                 which is {limit}"
            );
            return Err(ConfigError::setting(&setting("connect_timeout"), &why));
        }
        connect => positive("connect_timeout", connect, Duration::ZERO)?,
    };
    Ok(Upstream {
        urls,
        connect_timeout,
        response_timeout,
        total_timeout: raw.total_timeout.map(|span| span.0).or(default.total_timeout),
        pool_idle: raw.pool_idle.map_or(default.pool_idle, |span| span.0),
    })
}

fn store(raw: RawStore) -> Result<StoreConfig, ConfigError> {
    let default = StoreConfig::default();
    let url = raw
        .url
        .map_or(Ok(default.url), |url| url.parse())
        .map_err(|error: String| ConfigError::setting("store.url", &error))?;
    let durability = raw.durability.unwrap_or(default.durability);
    durability_of(&url, durability)
        .map_err(|error| ConfigError::setting("store.durability", &error))?;
    Ok(StoreConfig {
        url,
        timeout: positive("store.timeout", raw.timeout, default.timeout)?,
        cache: raw.cache.map_or(default.cache, |size| size.0),
        page_cache: raw.page_cache.map(|size| size.0).or(default.page_cache),
        allow_eviction: raw.allow_eviction.unwrap_or(default.allow_eviction),
        durability,
        refuse_after_loss: matches!(raw.on_amnesia, Some(Amnesia::Refuse)),
        hash_secret: raw.hash_secret.unwrap_or(default.hash_secret),
    })
}

/// Whether a store can do what is asked of it.
fn durability_of(url: &StoreUrl, durability: Durability) -> Result<(), String> {
    match (durability, url) {
        (Durability::Acknowledged, _)
        | (Durability::Fsync, StoreUrl::File(_) | StoreUrl::Redis(_))
        | (Durability::Replicated(1..), StoreUrl::Redis(_)) => Ok(()),
        (Durability::Fsync, StoreUrl::Memory) => Err("memory: has no disk; use a file:".to_owned()),
        (Durability::Replicated(0), _) => {
            Err("0 replicas are none; write at least { replicated = 1 }".to_owned())
        }
        (Durability::Replicated(_), StoreUrl::File(_) | StoreUrl::Memory) => {
            Err(format!("{url} has no replicas; use a redis://"))
        }
    }
}

fn admin(raw: RawAdmin) -> Result<Admin, ConfigError> {
    let default = Admin::default();
    let listen = raw.listen.map_or(default.listen, |text| text.0);
    if !listen.ip().is_loopback() && raw.token_file.is_none() {
        return Err(ConfigError::setting(
            "admin.listen",
            &format!(
                "{listen} can be reached from other machines; set admin.token_file, or listen on 127.0.0.1"
            ),
        ));
    }
    Ok(Admin { listen, token_file: raw.token_file })
}

fn telemetry(raw: RawTelemetry) -> Result<Telemetry, ConfigError> {
    let log = raw.log.unwrap_or(Telemetry::default().log);
    EnvFilter::try_new(&log).map_err(|error| {
        ConfigError::setting("telemetry.log", &format!("`{log}` is no filter: {error}"))
    })?;
    Ok(Telemetry { log, format: raw.format.unwrap_or(LogFormat::Text) })
}

pub(super) fn in_route(route: &str, setting: &str) -> String {
    if route.is_empty() { setting.to_owned() } else { format!("{route}.{setting}") }
}

pub(super) fn plain<T>(list: Vec<Text<T>>) -> Vec<T> {
    list.into_iter().map(|text| text.0).collect()
}
