//! From the file to what the program uses.

use std::{sync::Arc, time::Duration};

use super::{
    Admin, Config, ConfigError, Route, Server, StoreConfig, StoreUrl, Telemetry, Upstream,
    raw::{
        Amnesia, Body, Conflict, DialectName, LateRetry, LogFormat, Raw, RawAdmin, RawIdempotency,
        RawMatcher, RawReconcile, RawServer, RawStore, RawTelemetry, RawUpstream, StoreDown,
        Unknown,
    },
    values::{Network, Text},
};
use crate::{
    engine::{
        key::KeySource,
        policy::{BodyMatch, Dialect, OnConflict, OnLateRetry, OnStoreDown, OnUnknown, Policy},
        reconcile::{Matcher, Reconcile},
    },
    store::Durability,
};

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
            let upstream = self::upstream(&name, own.upstream.over(&upstream))?;
            let policy = policy(&name, own.idempotency.over(&idempotency), &upstream)?;
            routes.push(Route { path, host, upstream, policy });
        }
        if !routes.iter().any(|route| route.path == "/" && route.host.is_none()) {
            let upstream = self::upstream("", upstream)?;
            let policy = policy("", idempotency, &upstream)?;
            routes.push(Route { path: "/".to_owned(), host: None, upstream, policy });
        }
        Ok(Self {
            server: self::server(server)?,
            store: self::store(store)?,
            admin: self::admin(admin)?,
            telemetry: self::telemetry(telemetry),
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

fn upstream(route: &str, raw: RawUpstream) -> Result<Upstream, ConfigError> {
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
    Ok(Upstream {
        urls,
        connect_timeout: raw.connect_timeout.map_or(default.connect_timeout, |span| span.0),
        response_timeout: raw.response_timeout.map_or(default.response_timeout, |span| span.0),
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
        page_cache: raw.page_cache.map_or(default.page_cache, |size| size.0),
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

fn telemetry(raw: RawTelemetry) -> Telemetry {
    let default = Telemetry::default();
    Telemetry { log: raw.log.unwrap_or(default.log), format: raw.format.unwrap_or(LogFormat::Text) }
}

/// The policy of a route; `None` when the gate is switched off there.
fn policy(
    route: &str,
    raw: RawIdempotency,
    upstream: &Upstream,
) -> Result<Option<Arc<Policy>>, ConfigError> {
    let setting = |name: &str| in_route(route, &format!("idempotency.{name}"));
    if raw.enabled == Some(false) {
        return Ok(None);
    }
    let default = Policy::default();
    let conflict_wait = raw.conflict_wait.map_or(Duration::from_secs(30), |span| span.0);
    let lease = raw.lease.map_or(default.lease, |span| span.0);
    let fingerprint = raw.fingerprint.unwrap_or_default();
    let policy = Policy {
        keys: raw.keys.map_or(default.keys, plain::<KeySource>),
        methods: raw.methods.map_or(default.methods, plain),
        require_key: raw.require_key.unwrap_or(default.require_key),
        scope: raw.scope.map_or(default.scope, plain),
        principal: raw.principal.map_or(default.principal, plain),
        fingerprint_body: match fingerprint.body {
            None => default.fingerprint_body,
            Some(Body::Exact) => BodyMatch::Exact,
            Some(Body::Json) => BodyMatch::Json,
            Some(Body::Ignore) => BodyMatch::Ignore,
        },
        fingerprint_ignore: fingerprint.ignore.unwrap_or_default(),
        on_conflict: match raw.on_conflict {
            None => default.on_conflict,
            Some(Conflict::Reject) => OnConflict::Reject,
            Some(Conflict::Wait) => OnConflict::Wait(conflict_wait),
        },
        on_unknown: match raw.on_unknown {
            None => default.on_unknown,
            Some(Unknown::Hold) => OnUnknown::Hold,
            Some(Unknown::Retry) => OnUnknown::Retry,
            Some(Unknown::Reconcile) => {
                let settings = raw.reconcile.ok_or_else(|| {
                    ConfigError::setting(
                        &setting("reconcile"),
                        "is missing; on_unknown = \"reconcile\" needs request, executed and not_executed",
                    )
                })?;
                OnUnknown::Reconcile(Arc::new(reconcile(&setting, settings, upstream, lease)?))
            }
        },
        release: raw.release.map_or(default.release, |list| list.iter().map(|s| s.0).collect()),
        unknown: raw.unknown.map_or(default.unknown, |list| list.iter().map(|s| s.0).collect()),
        retention: raw.retention.map_or(default.retention, |span| span.0),
        tombstone: raw.tombstone.map_or(default.tombstone, |span| span.0),
        unknown_retention: raw.unknown_retention.map_or(default.unknown_retention, |span| span.0),
        lease,
        response_timeout: Some(upstream.response_timeout),
        max_request_body: raw.max_request_body.map_or(default.max_request_body, |size| size.0),
        max_response_body: raw.max_response_body.map_or(default.max_response_body, |size| size.0),
        on_store_down: match raw.on_store_down {
            None => default.on_store_down,
            Some(StoreDown::Refuse) => OnStoreDown::Refuse,
            Some(StoreDown::Pass) => OnStoreDown::Pass,
        },
        on_late_retry: match raw.on_late_retry {
            None => default.on_late_retry,
            Some(LateRetry::Refuse) => OnLateRetry::Refuse,
            Some(LateRetry::Execute) => OnLateRetry::Execute,
        },
        dialect: match raw.dialect {
            None => default.dialect,
            Some(DialectName::Ietf) => Dialect::Ietf,
            Some(DialectName::Stripe) => Dialect::Stripe,
        },
        replay_status: raw.replay_status.map(|status| status.0).or(default.replay_status),
        problem_base: raw
            .problem_base
            .map_or(default.problem_base, |base| base.trim_end_matches('/').to_owned()),
        opt_out_header: raw.opt_out_header.map_or(default.opt_out_header, |name| name.0),
    };
    check(&policy, &setting)?;
    Ok(Some(Arc::new(policy)))
}

/// How a route asks its backend.
fn reconcile(
    setting: &dyn Fn(&str) -> String,
    raw: RawReconcile,
    upstream: &Upstream,
    lease: Duration,
) -> Result<Reconcile, ConfigError> {
    let matcher = |name: &str, raw: RawMatcher| {
        let setting = setting(&format!("reconcile.{name}"));
        if raw.status.is_empty() {
            return Err(ConfigError::setting(&setting, "needs at least one status"));
        }
        match &raw.json {
            Some(pointer) if !pointer.starts_with('/') => Err(ConfigError::setting(
                &setting,
                &format!("`{pointer}` is not a JSON pointer; it begins with a slash"),
            )),
            None if raw.equals.is_some() => {
                Err(ConfigError::setting(&setting, "`equals` needs `json` to say where"))
            }
            _ => Ok(Matcher {
                status: raw.status.iter().map(|status| status.0).collect(),
                json: raw.json,
                equals: raw.equals,
            }),
        }
    };
    // As long as a dispatch can take: the claim's lease, a connection, a response.
    let quiet = upstream.connect_timeout + upstream.response_timeout + lease;
    Ok(Reconcile {
        request: raw.request.0,
        executed: matcher("executed", raw.executed)?,
        not_executed: matcher("not_executed", raw.not_executed)?,
        quiescence: raw.quiescence.map_or(quiet, |span| span.0),
        timeout: raw.timeout.map_or(Duration::from_secs(10), |span| span.0),
    })
}

fn check(policy: &Policy, setting: &dyn Fn(&str) -> String) -> Result<(), ConfigError> {
    const MANAGEABLE: [&str; 4] = ["POST", "PATCH", "PUT", "DELETE"];
    if let Some(method) = policy.methods.iter().find(|m| !MANAGEABLE.contains(&m.as_str())) {
        return Err(ConfigError::setting(
            &setting("methods"),
            &format!("`{method}` cannot be managed; use POST, PATCH, PUT or DELETE"),
        ));
    }
    if policy.keys.is_empty() {
        return Err(ConfigError::setting(
            &setting("keys"),
            "names no source; leave it out for header:Idempotency-Key, or set enabled = false",
        ));
    }
    if policy.lease < Duration::from_millis(100) {
        return Err(ConfigError::setting(&setting("lease"), "must be at least 100ms"));
    }
    for (name, value) in
        [("retention", policy.retention), ("unknown_retention", policy.unknown_retention)]
    {
        if value.is_zero() {
            return Err(ConfigError::setting(&setting(name), "must be more than 0s"));
        }
    }
    if policy.unknown_retention <= policy.lease {
        return Err(ConfigError::setting(
            &setting("unknown_retention"),
            "must be longer than the lease; it is how long an unfinished key stays locked",
        ));
    }
    if let Some(status) = policy.release.iter().find(|status| policy.unknown.contains(status)) {
        return Err(ConfigError::setting(
            &setting("release"),
            &format!("{} stands in `unknown` too; a status has one meaning", status.as_u16()),
        ));
    }
    if let Some(pointer) = policy.fingerprint_ignore.iter().find(|p| !p.starts_with('/')) {
        return Err(ConfigError::setting(
            &setting("fingerprint.ignore"),
            &format!("`{pointer}` is not a JSON pointer; it begins with a slash"),
        ));
    }
    if !policy.fingerprint_ignore.is_empty() && policy.fingerprint_body != BodyMatch::Json {
        return Err(ConfigError::setting(
            &setting("fingerprint.ignore"),
            "has a meaning with fingerprint.body = \"json\" only",
        ));
    }
    if http::HeaderValue::from_str(&policy.problem_base).is_err() {
        return Err(ConfigError::setting(&setting("problem_base"), "is no URL"));
    }
    Ok(())
}

fn in_route(route: &str, setting: &str) -> String {
    if route.is_empty() { setting.to_owned() } else { format!("{route}.{setting}") }
}

fn plain<T>(list: Vec<Text<T>>) -> Vec<T> {
    list.into_iter().map(|text| text.0).collect()
}
