//! How a refusal is worded: the only place that makes an error response.
//!
//! Bodies follow RFC 9457. The extension member `error` repeats the essence for
//! SDKs that look only there, and that would take a 409 without it for a success.
//! Upstream trouble carries `Proxy-Status` (RFC 9209).

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, LINK, RETRY_AFTER},
};
use serde_json::{Map, Value, json};

use super::{
    decision::Refusal,
    key::KeyError,
    policy::{Dialect, PROBLEM_BASE, Policy},
    record::{Reason, Timestamp},
};

/// The last millisecond that RFC 3339 has a form for.
const LAST: u64 = 253_402_300_799_999;

const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
const STRIPE_SHOULD_RETRY: HeaderName = HeaderName::from_static("stripe-should-retry");

/// Everything that a gate says instead of an upstream's response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// The route requires a key and there is none.
    KeyMissing,
    /// The key is malformed.
    KeyInvalid(KeyError),
    /// What the store holds forbids the request.
    Refused(Refusal),
    /// The request body is longer than the policy reads.
    BodyTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The request body broke off or was not HTTP.
    BodyIncomplete,
    /// The request body did not arrive in time.
    BodyTimeout,
    /// The same of a body that is passed on as it comes: the upstream has a part of it.
    PassingBodyIncomplete,
    /// The same of a body that is passed on as it comes: the upstream has a part of it.
    PassingBodyTimeout,
    /// All buffered bodies together have reached their limit, or the client has as many
    /// requests under way as one connection may.
    Overloaded,
    /// The store does not answer, and nothing was sent.
    StoreUnavailable,
    /// The gate is going away.
    ShuttingDown,
    /// Nothing was sent to the upstream; a retry executes.
    Unreachable(Fault),
    /// Something was sent, and what came of it is not known.
    OutcomeUnknown {
        /// What was seen.
        reason: Reason,
        /// What went wrong.
        fault: Fault,
    },
    /// An unkeyed exchange with the upstream failed.
    UpstreamFailed(Fault),
    /// No route takes the request.
    NoRoute,
    /// The request is not one that a proxy may forward.
    BadRequest(&'static str),
    /// The method is not one that a proxy of this kind serves.
    MethodNotServed,
}

/// What went wrong on the upstream's side, as RFC 9209 names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The name could not be resolved.
    Dns,
    /// The connection was refused or could not be routed.
    Refused,
    /// No connection in time.
    ConnectTimeout,
    /// The connection broke before a response began.
    Terminated,
    /// No response in time.
    ResponseTimeout,
    /// The response broke off.
    Incomplete,
    /// The response was not HTTP.
    Protocol,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Dns => "the name does not resolve",
            Self::Refused => "no connection",
            Self::ConnectTimeout => "no connection in time",
            Self::Terminated => "the connection broke",
            Self::ResponseTimeout => "no complete response in time",
            Self::Incomplete => "the response broke off",
            Self::Protocol => "the response is not HTTP",
        })
    }
}

impl Fault {
    /// The value of `Proxy-Status`.
    const fn proxy_status(self) -> &'static str {
        match self {
            Self::Dns => "oncegate; error=dns_error",
            Self::Refused => "oncegate; error=connection_refused",
            Self::ConnectTimeout => "oncegate; error=connection_timeout",
            Self::Terminated => "oncegate; error=connection_terminated",
            Self::ResponseTimeout => "oncegate; error=http_response_timeout",
            Self::Incomplete => "oncegate; error=http_response_incomplete",
            Self::Protocol => "oncegate; error=http_protocol_error",
        }
    }

    pub(super) const fn status(self) -> StatusCode {
        match self {
            Self::ConnectTimeout | Self::ResponseTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Dns | Self::Refused | Self::Terminated | Self::Incomplete | Self::Protocol => {
                StatusCode::BAD_GATEWAY
            }
        }
    }
}

/// How the words are chosen.
#[derive(Clone, Copy, Debug)]
pub struct Style<'a> {
    /// Whose conventions.
    pub dialect: Dialect,
    /// The base of problem types.
    pub base: &'a str,
}

/// The style of the default policy.
impl Default for Style<'_> {
    fn default() -> Self {
        Self { dialect: Dialect::Ietf, base: PROBLEM_BASE }
    }
}

impl<'a> From<&'a Policy> for Style<'a> {
    fn from(policy: &'a Policy) -> Self {
        Self { dialect: policy.dialect, base: &policy.problem_base }
    }
}

impl Problem {
    /// The response for this problem.
    ///
    /// ```
    /// use oncegate::engine::{policy::Policy, problem::Problem};
    ///
    /// let response = Problem::KeyMissing.respond((&Policy::default()).into());
    /// assert_eq!(response.status(), 400);
    /// assert_eq!(response.headers()["content-type"], "application/problem+json");
    /// ```
    #[must_use]
    pub fn respond(self, style: Style<'_>) -> Response<Bytes> {
        let words = self.wording(style.dialect);
        let kind = format!("{}/{}", style.base, words.slug);
        let mut document = Map::new();
        document.insert("type".into(), json!(kind));
        document.insert("title".into(), json!(words.title));
        document.insert("status".into(), json!(words.status.as_u16()));
        document.insert("detail".into(), json!(words.detail));
        self.members(&mut document);
        document.insert(
            "error".into(),
            json!({ "type": words.kind, "code": words.code, "message": words.detail }),
        );
        let body = Bytes::from(Value::Object(document).to_string());

        let mut response = Response::new(body);
        *response.status_mut() = words.status;
        let headers = response.headers_mut();
        let content_type = match style.dialect {
            Dialect::Ietf => "application/problem+json",
            Dialect::Stripe => "application/json",
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if words.retry {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if style.dialect == Dialect::Stripe {
            let retry = HeaderValue::from_static(if words.retry { "true" } else { "false" });
            headers.insert(STRIPE_SHOULD_RETRY, retry);
        }
        if let Some(status) = self.proxy_status() {
            headers.insert(PROXY_STATUS, HeaderValue::from_static(status));
        }
        match self {
            Self::KeyMissing => {
                // A base that is no header value was refused with the configuration.
                if let Ok(link) = HeaderValue::from_str(&format!("<{kind}>; rel=\"describedby\"")) {
                    headers.insert(LINK, link);
                }
            }
            Self::ShuttingDown => {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Self::MethodNotServed => {
                let methods = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
                headers.insert(ALLOW, HeaderValue::from_static(methods));
            }
            _ => {}
        }
        response
    }

    fn members(self, document: &mut Map<String, Value>) {
        let at = |at: Timestamp| {
            // What cannot be written, since it is after the year 9999, was not written here.
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(at.0.min(LAST));
            humantime::format_rfc3339_millis(time).to_string()
        };
        let mut member = |name: &str, value: Value| document.insert(name.to_owned(), value);
        match self {
            Self::Refused(Refusal::OutcomeUnknown { since, reason }) => {
                member("since", json!(at(since)));
                member("reason", json!(reason.as_str()));
            }
            Self::Refused(Refusal::ResponseNotStored(status)) => {
                member("original_status", json!(status.as_u16()));
            }
            Self::Refused(Refusal::KeyExpired { completed }) => {
                member("completed", json!(at(completed)));
            }
            Self::OutcomeUnknown { reason, .. } => {
                member("reason", json!(reason.as_str()));
            }
            Self::BodyTooLarge { limit } => {
                member("limit", json!(limit));
            }
            _ => {}
        }
    }

    fn proxy_status(self) -> Option<&'static str> {
        match self {
            // The gate itself has given up.
            Self::OutcomeUnknown { reason: Reason::OwnerLost, .. } => {
                Some("oncegate; error=proxy_internal_error")
            }
            Self::Unreachable(fault)
            | Self::UpstreamFailed(fault)
            | Self::OutcomeUnknown { fault, .. } => Some(fault.proxy_status()),
            Self::NoRoute => Some("oncegate; error=destination_not_found"),
            _ => None,
        }
    }
}

#[cfg(test)]
#[path = "problem_tests.rs"]
mod tests;
