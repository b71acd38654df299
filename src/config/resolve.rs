//! From the file to what the program uses.

use tracing_subscriber::EnvFilter;

use super::{
    Admin, Config, ConfigError, Route, Server, StoreConfig, StoreUrl, Telemetry, Upstream,
    policy::policy,
    raw::{Amnesia, LogFormat, Raw, RawAdmin, RawServer, RawStore, RawTelemetry, RawUpstream},
    values::{Network, Span, Text},
};
use crate::store::Durability;

impl Config {
    pub(super) fn resolve(raw: Raw) -> Result<Self, ConfigError> {
        let Raw { server, upstream, store, idempotency, admin, telemetry, route } = raw;
        let max_buffered = idempotency.max_buffered.map_or(256 << 20, |size| size.0);
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
            if !path.starts_with('/') {
                return Err(ConfigError::setting(
                    &format!("{name}.path"),
                    &format!("`{path}` is no path; it begins with a slash"),
                ));
            }
            let host = own.host.map(|host| host.to_ascii_lowercase());
            if routes.iter().any(|known: &Route| known.path == path && known.host == host) {
                return Err(ConfigError::setting(
                    &name,
                    &format!("`{path}` has a route already; the second would never be reached"),
                ));
            }
            // What is said for all routes gives way where a response has less time.
            let connect_timeout = own.upstream.connect_timeout;
            let raw = RawUpstream { connect_timeout, ..own.upstream.over(&upstream) };
            let upstream = self::upstream(&name, raw, upstream.connect_timeout)?;
            let policy = policy(&name, own.idempotency.over(&idempotency), &upstream)?;
            routes.push(Route { path, host, upstream, policy });
        }
        if !routes.iter().any(|route| route.path == "/" && route.host.is_none()) {
            let upstream = self::upstream("", upstream, None)?;
            let policy = policy("", idempotency, &upstream)?;
            routes.push(Route { path: "/".to_owned(), host: None, upstream, policy });
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

fn server(raw: RawServer) -> Result<Server, ConfigError> {
    let default = Server::default();
    let max_connections = raw.max_connections.unwrap_or(default.max_connections);
    if max_connections == 0 {
        return Err(ConfigError::setting("server.max_connections", "must be at least 1"));
    }
    Ok(Server {
        listen: raw.listen.map_or(default.listen, |text| text.0),
        threads: raw.threads.or(default.threads),
        http2: raw.http2.unwrap_or(default.http2),
        head_timeout: raw.head_timeout.map_or(default.head_timeout, |span| span.0),
        body_timeout: raw.body_timeout.map_or(default.body_timeout, |span| span.0),
        idle_timeout: raw.idle_timeout.map_or(default.idle_timeout, |span| span.0),
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
    let response_timeout = raw.response_timeout.map_or(default.response_timeout, |span| span.0);
    // A request that still waits for its connection would count as sent, and it may ask all
    // upstreams for one.
    let asked = u32::try_from(urls.len()).unwrap_or(u32::MAX);
    let connect_timeout = match raw.connect_timeout {
        None => {
            let usual = usual.map_or(default.connect_timeout, |span| span.0);
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
        Some(Span(connect)) => connect,
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
        timeout: raw.timeout.map_or(default.timeout, |span| span.0),
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
