//! What a route wants, resolved: nothing in here is validated again.

use std::{sync::Arc, time::Duration};

use http::{HeaderName, Method, StatusCode, header::AUTHORIZATION};

use super::{facet::Facet, key::KeySource, reconcile::Reconcile};
use crate::mutants::{Mutant, is_active};

/// The base of problem types, unless a policy has its own.
pub const PROBLEM_BASE: &str = "https://oncegate.dev/problems";

/// The policy of one route.
///
/// # Defaults
/// The values of the reference configuration: `POST` with an `Idempotency-Key`
/// header, duplicates rejected, unknown outcomes held, responses retained for a
/// day.
///
/// ```
/// use std::time::Duration;
/// use oncegate::{OnConflict, Policy};
///
/// let policy = Policy {
///     require_key: true,
///     on_conflict: OnConflict::Wait(Duration::from_secs(10)),
///     ..Policy::default()
/// };
/// assert_eq!(policy.retention, Duration::from_secs(24 * 3600));
/// ```
#[derive(Clone, Debug)]
pub struct Policy {
    /// Where to look for the key, first match wins.
    pub keys: Vec<KeySource>,
    /// The methods that are managed; every other passes through.
    pub methods: Vec<Method>,
    /// Refuse a managed method without a key.
    pub require_key: bool,
    /// Values that partition the key space.
    pub scope: Vec<Facet>,
    /// Values that stand for the caller, part of the fingerprint.
    pub principal: Vec<Facet>,
    /// How bodies are compared.
    pub fingerprint_body: BodyMatch,
    /// JSON pointers that [`BodyMatch::Json`] leaves out.
    pub fingerprint_ignore: Vec<String>,
    /// What a duplicate gets while the first request runs.
    pub on_conflict: OnConflict,
    /// What a retry gets while the outcome is unknown.
    pub on_unknown: OnUnknown,
    /// Upstream statuses that mean "not executed": delivered, key released.
    pub release: Vec<StatusCode>,
    /// Upstream statuses that leave the outcome unknown.
    pub unknown: Vec<StatusCode>,
    /// How long a recorded response is replayed.
    pub retention: Duration,
    /// How long an expired key is still recognised after that.
    pub tombstone: Duration,
    /// How long a pending or unknown record is kept.
    pub unknown_retention: Duration,
    /// How long a claim counts as alive without a word from its owner; renewed
    /// every third of it.
    pub lease: Duration,
    /// How long the caller waits for a response to begin. Then the outcome is
    /// unknown, and a response that still comes within four times as long is recorded. Five
    /// times as long may its body take, or a stream be silent where the service itself does not
    /// end it before. With `None` a service that never
    /// answers keeps its keys for ever.
    pub response_timeout: Option<Duration>,
    /// The longest request body of a keyed request, in bytes.
    pub max_request_body: usize,
    /// The longest response body that is recorded, in bytes. More than
    /// [`MAX_RESPONSE_BODY`](Self::MAX_RESPONSE_BODY) counts as that.
    pub max_response_body: usize,
    /// What happens to a keyed request when the store does not answer.
    pub on_store_down: OnStoreDown,
    /// What happens to a retry after the retention, within the tombstone.
    pub on_late_retry: OnLateRetry,
    /// The dialect of refusals.
    pub dialect: Dialect,
    /// Replaces the status of replays.
    pub replay_status: Option<StatusCode>,
    /// The base of problem types, without a slash at its end.
    pub problem_base: String,
    /// The upstream response header that, with the value `no`, forbids recording.
    pub opt_out_header: HeaderName,
}

impl Default for Policy {
    fn default() -> Self {
        const HOUR: Duration = Duration::from_secs(3600);
        Self {
            keys: vec![KeySource::Header(HeaderName::from_static("idempotency-key"))],
            methods: vec![Method::POST],
            require_key: false,
            scope: Vec::new(),
            principal: vec![Facet::Header(AUTHORIZATION)],
            fingerprint_body: BodyMatch::Exact,
            fingerprint_ignore: Vec::new(),
            on_conflict: OnConflict::Reject,
            on_unknown: OnUnknown::Hold,
            release: vec![
                StatusCode::UNAUTHORIZED,
                StatusCode::FORBIDDEN,
                StatusCode::PROXY_AUTHENTICATION_REQUIRED,
                StatusCode::TOO_EARLY,
                StatusCode::TOO_MANY_REQUESTS,
            ],
            unknown: vec![
                StatusCode::BAD_GATEWAY,
                StatusCode::SERVICE_UNAVAILABLE,
                StatusCode::GATEWAY_TIMEOUT,
            ],
            retention: 24 * HOUR,
            tombstone: 24 * HOUR,
            unknown_retention: 7 * 24 * HOUR,
            lease: Duration::from_secs(30),
            response_timeout: Some(Duration::from_secs(60)),
            max_request_body: 1 << 20,
            max_response_body: 1 << 20,
            on_store_down: OnStoreDown::Refuse,
            on_late_retry: OnLateRetry::Refuse,
            dialect: Dialect::Ietf,
            replay_status: None,
            problem_base: PROBLEM_BASE.to_owned(),
            opt_out_header: HeaderName::from_static("idempotency-store"),
        }
    }
}

impl Policy {
    /// The longest response body that any policy records, in bytes: stores take it in one piece,
    /// and Redis takes pieces of up to 512 MiB (`proto-max-bulk-len`).
    pub const MAX_RESPONSE_BODY: usize = 256 << 20;

    /// How long a response body may be that is recorded.
    pub(crate) fn recorded(&self) -> usize {
        self.max_response_body.min(Self::MAX_RESPONSE_BODY)
    }
}

/// How two bodies are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyMatch {
    /// Byte by byte.
    Exact,
    /// As JSON: white space and the order of members do not count.
    Json,
    /// Not at all.
    Ignore,
}

/// What a duplicate gets while the first request runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnConflict {
    /// 409 at once.
    Reject,
    /// The recorded response as soon as it is there, or 409 after this long.
    Wait(Duration),
}

/// What a retry gets while the outcome is unknown.
#[derive(Clone, Debug, PartialEq)]
pub enum OnUnknown {
    /// 409: never a second execution.
    Hold,
    /// Dispatched again, for backends that deduplicate by the forwarded key.
    Retry,
    /// The backend is asked, and what it says decides. A layer asks the service that it wraps, so
    /// that has to be one that answers lookups: the whole router, and not the routes of a payment
    /// by themselves, as `Router::layer` of axum wraps them.
    Reconcile(Arc<Reconcile>),
}

/// What a keyed request gets when the store does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStoreDown {
    /// 503 before anything was sent.
    Refuse,
    /// Forwarded without protection.
    Pass,
}

/// What a retry gets after the retention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnLateRetry {
    /// 409.
    Refuse,
    /// Executed as a new request.
    Execute,
}

/// Whose error conventions a client expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// draft-ietf-httpapi-idempotency-key-header with RFC 9457 bodies.
    Ietf,
    /// Stripe's status codes, error types and headers.
    Stripe,
}

impl Policy {
    /// Whether requests of this method are looked at. `CONNECT` never is.
    #[must_use]
    pub fn manages(&self, method: &Method) -> bool {
        self.methods.contains(method) && *method != Method::CONNECT
    }

    /// How long to keep a record that is pending or unknown.
    #[must_use]
    pub fn keep_open(&self) -> Keep {
        Keep { record: self.unknown_retention, response: None }
    }

    /// How long to keep a record that is done.
    #[must_use]
    pub fn keep_done(&self) -> Keep {
        Keep {
            record: self.retention.saturating_add(self.tombstone),
            response: Some(self.retention),
        }
    }
}

/// How long a store keeps a record, from the moment it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// The record itself.
    pub record: Duration,
    /// The response that belongs to it; gone earlier, which leaves a tombstone.
    pub response: Option<Duration>,
}

impl Keep {
    /// The same for a hundred years at the most, which a store can add to its clock. A
    /// record's age is the difference between the time that it is kept and the time left,
    /// so the two have to be of one kind.
    #[must_use]
    pub fn bounded(self) -> Self {
        const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
        if is_active(Mutant::KeepForEver) {
            return self;
        }
        Self {
            record: self.record.min(LONGEST),
            response: self.response.map(|response| response.min(LONGEST)),
        }
    }
}
