//! How a managed request ended: what is counted, and what the response's extensions say.

use crate::engine::{decision::Refusal, problem::Problem};

/// How a managed request ended. The layer puts it into the response's extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// Dispatched, and the response recorded.
    Executed,
    /// Answered from the record.
    Replayed,
    /// Answered from the record after waiting for its owner.
    Waited,
    /// Refused: the first request still runs, or its response was not kept.
    Conflict,
    /// Refused: the key belongs to another request.
    Mismatch,
    /// Refused: the key or the body is not acceptable.
    Invalid,
    /// Refused: the key is missing.
    Missing,
    /// The outcome is not known, or a retry was told so.
    Unknown,
    /// Learnt by asking the backend.
    Reconciled,
    /// Refused: the recorded response has expired.
    LateRetry,
    /// Nothing was sent: the upstream could not be reached.
    Unreachable,
    /// Dispatched, not executed by the upstream's own word, and the key released.
    Released,
    /// Forwarded without protection.
    Bypassed,
    /// Refused: the store does not answer.
    StoreUnavailable,
    /// Refused: the gate is full, or shutting down.
    Refused,
}

impl Outcome {
    /// All outcomes.
    pub const ALL: [Self; 15] = [
        Self::Executed,
        Self::Replayed,
        Self::Waited,
        Self::Conflict,
        Self::Mismatch,
        Self::Invalid,
        Self::Missing,
        Self::Unknown,
        Self::Reconciled,
        Self::LateRetry,
        Self::Unreachable,
        Self::Released,
        Self::Bypassed,
        Self::StoreUnavailable,
        Self::Refused,
    ];

    /// The label in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Executed => "executed",
            Self::Replayed => "replayed",
            Self::Waited => "waited",
            Self::Conflict => "conflict",
            Self::Mismatch => "mismatch",
            Self::Invalid => "invalid",
            Self::Missing => "missing",
            Self::Unknown => "unknown",
            Self::Reconciled => "reconciled",
            Self::LateRetry => "late_retry",
            Self::Unreachable => "unreachable",
            Self::Released => "released",
            Self::Bypassed => "bypassed",
            Self::StoreUnavailable => "store_unavailable",
            Self::Refused => "refused",
        }
    }

    /// What a refusal makes of its request.
    pub(super) fn of(problem: Problem) -> Self {
        match problem {
            Problem::KeyMissing => Self::Missing,
            Problem::Refused(Refusal::KeyReused) => Self::Mismatch,
            Problem::Refused(Refusal::KeyInUse | Refusal::ResponseNotStored(_)) => Self::Conflict,
            Problem::Refused(Refusal::OutcomeUnknown { .. }) | Problem::OutcomeUnknown { .. } => {
                Self::Unknown
            }
            Problem::Refused(Refusal::KeyExpired { .. }) => Self::LateRetry,
            Problem::Unreachable(_) | Problem::UpstreamFailed(_) => Self::Unreachable,
            Problem::StoreUnavailable => Self::StoreUnavailable,
            Problem::Overloaded | Problem::ShuttingDown => Self::Refused,
            Problem::KeyInvalid(_)
            | Problem::BodyTooLarge { .. }
            | Problem::BodyIncomplete
            | Problem::BodyTimeout
            | Problem::PassingBodyIncomplete
            | Problem::PassingBodyTimeout
            | Problem::NoRoute
            | Problem::BadRequest(_)
            | Problem::MethodNotServed => Self::Invalid,
        }
    }
}
