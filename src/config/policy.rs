//! From a route's settings to its policy.

use std::{sync::Arc, time::Duration};

use http::StatusCode;

use super::{
    ConfigError, Upstream,
    raw::{
        Body, Conflict, DialectName, LateRetry, RawIdempotency, RawMatcher, RawReconcile,
        StoreDown, Unknown,
    },
    resolve::{in_route, plain, positive},
    values::Size,
};
use crate::engine::{
    key::KeySource,
    policy::{BodyMatch, Dialect, OnConflict, OnLateRetry, OnStoreDown, OnUnknown, Policy},
    reconcile::{Matcher, Reconcile},
};

/// All buffered request bodies together, unless something else is set.
pub(super) const MAX_BUFFERED: Size = Size(256 << 20);

/// The policy of a route; `None` when the gate is switched off there.
pub(super) fn policy(
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
                let settings = raw.reconcile.unwrap_or_default();
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
    let max_buffered = raw.max_buffered.unwrap_or(MAX_BUFFERED);
    if policy.max_request_body > max_buffered.0 {
        return Err(ConfigError::setting(
            &setting("max_request_body"),
            &format!(
                "{} is more than idempotency.max_buffered ({max_buffered}), in which all bodies have to fit",
                Size(policy.max_request_body)
            ),
        ));
    }
    Ok(Some(Arc::new(policy)))
}

/// How a route asks its backend.
fn reconcile(
    setting: &dyn Fn(&str) -> String,
    raw: RawReconcile,
    upstream: &Upstream,
    lease: Duration,
) -> Result<Reconcile, ConfigError> {
    let missing = |name: &str| {
        ConfigError::setting(
            &setting(&format!("reconcile.{name}")),
            "is missing; on_unknown = \"reconcile\" needs request, executed and not_executed",
        )
    };
    let matcher = |name: &str, raw: Option<RawMatcher>| {
        let raw = raw.ok_or_else(|| missing(name))?;
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
            Some(_) if raw.equals == Some(serde_json::Value::Null) => {
                Err(ConfigError::setting(&setting, "`equals` is a number that JSON does not have"))
            }
            _ => Ok(Matcher {
                status: raw.status.iter().map(|status| status.0).collect(),
                json: raw.json,
                equals: raw.equals,
            }),
        }
    };
    // How long a request can be on its way after its owner's last word: a lease, within which
    // he sends or says another, a connection, for which all upstreams may be asked, a response.
    let asked = u32::try_from(upstream.urls.len()).unwrap_or(u32::MAX);
    let connecting = upstream.connect_timeout.saturating_mul(asked);
    let quiet = connecting + upstream.response_timeout + lease;
    Ok(Reconcile {
        request: raw.request.ok_or_else(|| missing("request"))?.0,
        executed: matcher("executed", raw.executed)?,
        not_executed: matcher("not_executed", raw.not_executed)?,
        quiescence: raw.quiescence.map_or(quiet, |span| span.0),
        timeout: positive(&setting("reconcile.timeout"), raw.timeout, Duration::from_secs(10))?,
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
    if policy.max_response_body > Policy::MAX_RESPONSE_BODY {
        return Err(ConfigError::setting(
            &setting("max_response_body"),
            &format!("must be at most {}", Size(Policy::MAX_RESPONSE_BODY)),
        ));
    }
    if let Some(status) = policy.release.iter().find(|status| policy.unknown.contains(status)) {
        return Err(ConfigError::setting(
            &setting("release"),
            &format!("{} stands in `unknown` too; a status has one meaning", status.as_u16()),
        ));
    }
    let has_no_body = |status: &StatusCode| matches!(status.as_u16(), 204 | 205 | 304);
    if let Some(status) = policy.replay_status.filter(has_no_body) {
        return Err(ConfigError::setting(
            &setting("replay_status"),
            &format!("{} has no body, so that of every replay would be lost", status.as_u16()),
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
