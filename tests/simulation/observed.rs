//! What a client saw, in the words of the promises.

use bytes::Bytes;
use http::{StatusCode, response::Parts};
use oncegate::Outcome;

/// What a client saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observed {
    /// The process went away.
    Broken,
    /// He did not wait.
    Left,
    /// An answer that the gate says is recorded: first, replayed, or looked up.
    Recorded(StatusCode, Bytes),
    /// The backend's answer, which the gate says is not recorded yet.
    Delivered(StatusCode, Bytes),
    /// It was executed, and its response was too long to keep.
    NotStored,
    /// The backend's answer that means "not executed".
    Released,
    /// The backend could not be reached.
    Unreachable,
    /// His own request may have been executed.
    Lost,
    /// An earlier request may have been executed.
    Unknown,
    InUse,
    Reused,
    Expired,
    StoreDown,
    ShuttingDown,
    /// Nothing that should come.
    Strange(StatusCode, Option<Outcome>),
}

impl Observed {
    /// Reads an answer; a body that broke off is `None`.
    pub fn of(head: &Parts, body: Option<Bytes>) -> Self {
        let outcome = head.extensions.get::<Outcome>().copied();
        let status = head.status;
        let cache = head.headers.get("cache-status").map_or(&b""[..], |value| value.as_bytes());
        let is_replay = head.headers.contains_key("idempotent-replayed");
        let Some(outcome) = outcome else { return Self::Strange(status, None) };
        let retry = head.headers.contains_key("retry-after");
        match (outcome, status.as_u16(), body) {
            (Outcome::Executed | Outcome::Reconciled, _, Some(body))
                if cache == b"oncegate; fwd=miss; stored" =>
            {
                Self::Recorded(status, body)
            }
            (Outcome::Executed, _, Some(body))
                if cache.starts_with(b"oncegate; fwd=miss; stored=?0") =>
            {
                Self::Delivered(status, body)
            }
            // A live body that broke off.
            (Outcome::Executed, 201 | 500, None) => Self::Lost,
            (Outcome::Replayed | Outcome::Waited, _, Some(body)) if is_replay => {
                Self::Recorded(status, body)
            }
            (Outcome::Released, 401 | 429, _) => Self::Released,
            (Outcome::Unreachable, 502 | 504, Some(_)) => Self::Unreachable,
            (Outcome::Unknown, 502..=504, _) => Self::Lost,
            (Outcome::Unknown, 409, Some(_)) => Self::Unknown,
            (Outcome::Conflict, 409, Some(_)) if retry => Self::InUse,
            (Outcome::Conflict, 409, Some(_)) => Self::NotStored,
            (Outcome::Mismatch, 422, Some(_)) => Self::Reused,
            (Outcome::LateRetry, 409, Some(_)) => Self::Expired,
            (Outcome::StoreUnavailable, 503, Some(_)) => Self::StoreDown,
            (Outcome::Refused, 503, Some(_)) => Self::ShuttingDown,
            _ => Self::Strange(status, Some(outcome)),
        }
    }

    /// Whether a client has what he wants.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Recorded(..) | Self::Delivered(..))
    }

    /// Whether it comes from a record, and must come again.
    pub fn is_recorded(&self) -> bool {
        matches!(self, Self::Recorded(..) | Self::NotStored)
    }

    /// Whether it says that this request was not sent, or not executed.
    pub fn denies(&self) -> bool {
        match self {
            Self::Released
            | Self::Unreachable
            | Self::Unknown
            | Self::InUse
            | Self::Reused
            | Self::NotStored
            | Self::Expired
            | Self::StoreDown
            | Self::ShuttingDown => true,
            Self::Broken
            | Self::Left
            | Self::Recorded(..)
            | Self::Delivered(..)
            | Self::Lost
            | Self::Strange(..) => false,
        }
    }
}
