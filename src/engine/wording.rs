//! The words of every refusal, and its status.

use http::StatusCode;

use super::{decision::Refusal, policy::Dialect, problem::Problem, record::Reason};

/// The parts of one refusal, before they are put together.
pub(super) struct Wording {
    pub(super) status: StatusCode,
    pub(super) slug: &'static str,
    pub(super) code: &'static str,
    pub(super) kind: &'static str,
    pub(super) title: &'static str,
    pub(super) detail: String,
    pub(super) retry: bool,
}

impl Problem {
    pub(super) fn wording(self, dialect: Dialect) -> Wording {
        const KEY: &str = "idempotency_error";
        const REQUEST: &str = "invalid_request_error";
        const API: &str = "api_error";
        let words = |status, slug, code, kind, title, detail: &str, retry| Wording {
            status,
            slug,
            code,
            kind,
            title,
            detail: detail.to_owned(),
            retry,
        };
        let effect = match self {
            Self::PassingBodyIncomplete | Self::PassingBodyTimeout => {
                "What had come of it was passed on."
            }
            _ => "Nothing was executed.",
        };
        match self {
            Self::KeyMissing => words(
                StatusCode::BAD_REQUEST,
                "key-missing",
                "idempotency_key_missing",
                KEY,
                "An idempotency key is required",
                "Send an Idempotency-Key header with a value that is unique to this operation, and the same value on every retry of it.",
                false,
            ),
            Self::KeyInvalid(error) => words(
                StatusCode::BAD_REQUEST,
                "key-invalid",
                "idempotency_key_invalid",
                KEY,
                "The idempotency key is malformed",
                &error.to_string(),
                false,
            ),
            Self::Refused(refusal) => refused(refusal, dialect),
            Self::BodyTooLarge { limit } => words(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body-too-large",
                "request_body_too_large",
                REQUEST,
                "The request body is too large",
                &format!(
                    "A request with an idempotency key may have a body of at most {limit} bytes. Nothing was executed."
                ),
                false,
            ),
            Self::BodyIncomplete | Self::PassingBodyIncomplete => words(
                StatusCode::BAD_REQUEST,
                "body-incomplete",
                "request_body_incomplete",
                REQUEST,
                "The request body is incomplete",
                &format!("The request body ended before it was complete. {effect}"),
                false,
            ),
            Self::BodyTimeout | Self::PassingBodyTimeout => words(
                StatusCode::REQUEST_TIMEOUT,
                "body-timeout",
                "request_body_timeout",
                REQUEST,
                "The request body did not arrive in time",
                &format!("The request body did not arrive in time. {effect}"),
                false,
            ),
            Self::Overloaded => words(
                StatusCode::SERVICE_UNAVAILABLE,
                "overloaded",
                "overloaded",
                API,
                "The gate has as much under way as it may",
                "Nothing was executed. Retry with the same key.",
                true,
            ),
            Self::StoreUnavailable => words(
                StatusCode::SERVICE_UNAVAILABLE,
                "store-unavailable",
                "idempotency_store_unavailable",
                API,
                "The idempotency store is unavailable",
                "The key could not be claimed, so the request was not forwarded. Retry with the same key.",
                true,
            ),
            Self::ShuttingDown => words(
                StatusCode::SERVICE_UNAVAILABLE,
                "shutting-down",
                "shutting_down",
                API,
                "The gate is shutting down",
                "Nothing was executed. Retry with the same key.",
                true,
            ),
            Self::Unreachable(fault) => words(
                fault.status(),
                "upstream-unreachable",
                "upstream_unreachable",
                API,
                "The upstream could not be reached",
                "Nothing was sent to the upstream and the key is free. Retry with the same key.",
                true,
            ),
            Self::OutcomeUnknown { reason, .. } => words(
                match reason {
                    Reason::Timeout => StatusCode::GATEWAY_TIMEOUT,
                    _ => StatusCode::BAD_GATEWAY,
                },
                "outcome-unknown",
                "idempotency_outcome_unknown",
                API,
                "The outcome is unknown",
                "The request was sent and no complete response came back. It may have been executed. It will not be sent again unless the outcome is learnt.",
                false,
            ),
            Self::UpstreamFailed(fault) => words(
                fault.status(),
                "upstream-failed",
                "upstream_failed",
                API,
                "The upstream failed",
                "The upstream did not give a complete response.",
                false,
            ),
            Self::NoRoute => words(
                StatusCode::NOT_FOUND,
                "no-route",
                "no_route",
                REQUEST,
                "No route takes this request",
                "No route of the gate matches the request's host and path.",
                false,
            ),
            Self::BadRequest(detail) => words(
                StatusCode::BAD_REQUEST,
                "bad-request",
                "bad_request",
                REQUEST,
                "The request cannot be forwarded",
                detail,
                false,
            ),
            Self::MethodNotServed => words(
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-served",
                "method_not_served",
                REQUEST,
                "The method is not served",
                "A reverse proxy opens no tunnels.",
                false,
            ),
        }
    }
}

fn refused(refusal: Refusal, dialect: Dialect) -> Wording {
    const KEY: &str = "idempotency_error";
    let words = |status, slug, code, title, detail: &str, retry| Wording {
        status,
        slug,
        code,
        kind: KEY,
        title,
        detail: detail.to_owned(),
        retry,
    };
    match refusal {
        Refusal::KeyReused => words(
            match dialect {
                Dialect::Ietf => StatusCode::UNPROCESSABLE_ENTITY,
                Dialect::Stripe => StatusCode::BAD_REQUEST,
            },
            "key-reused",
            "idempotency_key_reused",
            "The key belongs to another request",
            "This idempotency key was first used with another method, path, caller or body. Use a new key for a new operation.",
            false,
        ),
        Refusal::KeyInUse => words(
            StatusCode::CONFLICT,
            "key-in-use",
            "idempotency_key_in_use",
            "The first request with this key still runs",
            "A request with this idempotency key is being executed. Retry in a moment to get its response.",
            true,
        ),
        Refusal::OutcomeUnknown { .. } => words(
            StatusCode::CONFLICT,
            "outcome-unknown",
            "idempotency_outcome_unknown",
            "The outcome of the first request is unknown",
            "The first request with this key was sent and no complete response came back. It may have been executed, so it is not sent again.",
            false,
        ),
        Refusal::ResponseNotStored(_) => words(
            StatusCode::CONFLICT,
            "response-not-stored",
            "idempotency_response_not_stored",
            "The request was executed and its response was not kept",
            "The first request with this key was executed. Its response was too large to keep; its status is in original_status.",
            false,
        ),
        Refusal::KeyExpired { .. } => words(
            StatusCode::CONFLICT,
            "key-expired",
            "idempotency_key_expired",
            "The recorded response has expired",
            "The first request with this key was executed and its response is no longer kept. Use a new key only if you mean a new operation.",
            false,
        ),
    }
}
