//! The file as it is written: every setting optional, unknown ones refused.

use std::{net::SocketAddr, num::NonZero};

use http::{HeaderName, Method};
use serde::{Deserialize, Serialize};

use super::{
    target::UpstreamUrl,
    values::{Network, Size, Span, Status, Text},
};
use crate::{
    engine::{facet::Facet, key::KeySource, reconcile::Template},
    store::Durability,
};

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Raw {
    pub(crate) server: RawServer,
    pub(crate) upstream: RawUpstream,
    pub(crate) store: RawStore,
    pub(crate) idempotency: RawIdempotency,
    pub(crate) admin: RawAdmin,
    pub(crate) telemetry: RawTelemetry,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) route: Vec<RawRoute>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawServer {
    pub(crate) listen: Option<Text<SocketAddr>>,
    pub(crate) threads: Option<NonZero<usize>>,
    pub(crate) http2: Option<bool>,
    pub(crate) head_timeout: Option<Span>,
    pub(crate) body_timeout: Option<Span>,
    pub(crate) idle_timeout: Option<Span>,
    pub(crate) max_connections: Option<usize>,
    pub(crate) trusted_proxies: Option<Vec<Text<Network>>>,
    pub(crate) drain: Option<Span>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawUpstream {
    pub(crate) url: Option<Text<UpstreamUrl>>,
    pub(crate) urls: Option<Vec<Text<UpstreamUrl>>>,
    pub(crate) connect_timeout: Option<Span>,
    pub(crate) response_timeout: Option<Span>,
    pub(crate) total_timeout: Option<Span>,
    pub(crate) pool_idle: Option<Span>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawStore {
    pub(crate) url: Option<String>,
    pub(crate) timeout: Option<Span>,
    pub(crate) cache: Option<Size>,
    pub(crate) page_cache: Option<Size>,
    pub(crate) allow_eviction: Option<bool>,
    pub(crate) durability: Option<Durability>,
    pub(crate) on_amnesia: Option<Amnesia>,
    #[serde(skip_serializing)]
    pub(crate) hash_secret: Option<String>,
}

/// The settings of `[idempotency]`, each of which a route may override.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawIdempotency {
    pub(crate) enabled: Option<bool>,
    pub(crate) keys: Option<Vec<Text<KeySource>>>,
    pub(crate) methods: Option<Vec<Text<Method>>>,
    pub(crate) require_key: Option<bool>,
    pub(crate) scope: Option<Vec<Text<Facet>>>,
    pub(crate) principal: Option<Vec<Text<Facet>>>,
    pub(crate) fingerprint: Option<RawFingerprint>,
    pub(crate) on_conflict: Option<Conflict>,
    pub(crate) conflict_wait: Option<Span>,
    pub(crate) on_unknown: Option<Unknown>,
    pub(crate) reconcile: Option<RawReconcile>,
    pub(crate) release: Option<Vec<Status>>,
    pub(crate) unknown: Option<Vec<Status>>,
    pub(crate) retention: Option<Span>,
    pub(crate) tombstone: Option<Span>,
    pub(crate) unknown_retention: Option<Span>,
    pub(crate) lease: Option<Span>,
    pub(crate) max_request_body: Option<Size>,
    pub(crate) max_response_body: Option<Size>,
    pub(crate) max_buffered: Option<Size>,
    pub(crate) on_store_down: Option<StoreDown>,
    pub(crate) on_late_retry: Option<LateRetry>,
    pub(crate) dialect: Option<DialectName>,
    pub(crate) replay_status: Option<Status>,
    pub(crate) problem_base: Option<String>,
    pub(crate) opt_out_header: Option<Text<HeaderName>>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawFingerprint {
    pub(crate) body: Option<Body>,
    pub(crate) ignore: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawReconcile {
    pub(crate) request: Option<Text<Template>>,
    pub(crate) executed: Option<RawMatcher>,
    pub(crate) not_executed: Option<RawMatcher>,
    pub(crate) quiescence: Option<Span>,
    pub(crate) timeout: Option<Span>,
}

/// Every member of every table is optional: variables come one after another, and what is
/// missing in the end is named when all are there.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawMatcher {
    pub(crate) status: Vec<Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) json: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) equals: Option<serde_json::Value>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawRoute {
    pub(crate) path: Option<String>,
    pub(crate) host: Option<String>,
    #[serde(default)]
    pub(crate) upstream: RawUpstream,
    #[serde(default)]
    pub(crate) idempotency: RawIdempotency,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawAdmin {
    pub(crate) listen: Option<Text<SocketAddr>>,
    pub(crate) token_file: Option<std::path::PathBuf>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawTelemetry {
    pub(crate) log: Option<String>,
    pub(crate) format: Option<LogFormat>,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Conflict {
    Reject,
    Wait,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Unknown {
    Hold,
    Retry,
    Reconcile,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Amnesia {
    Alarm,
    Refuse,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StoreDown {
    Refuse,
    Pass,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LateRetry {
    Refuse,
    Execute,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DialectName {
    Ietf,
    Stripe,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Body {
    Exact,
    Json,
    Ignore,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Takes every setting that `$over` leaves open from `$under`.
macro_rules! layered {
    ($over:expr, $under:expr; $($field:ident),+ $(,)?) => {{
        let (over, under) = ($over, $under);
        Self { $($field: over.$field.or_else(|| under.$field.clone()),)+ }
    }};
}

/// The settings of a table, each of which may be in either.
fn merged<T: Clone>(over: Option<T>, base: Option<&T>, layer: fn(T, &T) -> T) -> Option<T> {
    match (over, base) {
        (Some(over), Some(base)) => Some(layer(over, base)),
        (over, base) => over.or_else(|| base.cloned()),
    }
}

impl RawIdempotency {
    /// This route's settings, the rest from `base`.
    pub(crate) fn over(mut self, base: &Self) -> Self {
        self.fingerprint =
            merged(self.fingerprint, base.fingerprint.as_ref(), RawFingerprint::over);
        self.reconcile = merged(self.reconcile, base.reconcile.as_ref(), RawReconcile::over);
        layered!(self, base;
            enabled, keys, methods, require_key, scope, principal, fingerprint, on_conflict,
            conflict_wait, on_unknown, reconcile, release, unknown, retention, tombstone, unknown_retention,
            lease, max_request_body, max_response_body, max_buffered, on_store_down,
            on_late_retry, dialect, replay_status, problem_base, opt_out_header,
        )
    }
}

impl RawFingerprint {
    /// What is left out of JSON has no meaning for a body that is compared in another way.
    fn over(self, base: &Self) -> Self {
        let is_other = matches!(self.body, Some(Body::Exact | Body::Ignore));
        let base = if is_other { Self::default() } else { base.clone() };
        layered!(self, &base; body, ignore)
    }
}

impl RawReconcile {
    /// Another question is about another service, and how long that may take is its own.
    fn over(self, base: &Self) -> Self {
        let quiescence = base.quiescence.filter(|_| self.request.is_none());
        let base = Self { quiescence, ..base.clone() };
        layered!(self, &base; request, executed, not_executed, quiescence, timeout)
    }
}

impl RawUpstream {
    /// This route's upstream, the rest from `base`. An address of its own
    /// replaces all of the base's addresses.
    pub(crate) fn over(self, base: &Self) -> Self {
        let own = self.url.is_some() || self.urls.is_some();
        let base = if own { Self { url: None, urls: None, ..base.clone() } } else { base.clone() };
        layered!(self, &base;
            url, urls, connect_timeout, response_timeout, total_timeout, pool_idle,
        )
    }
}
