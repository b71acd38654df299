//! What was seen of the upstream, and what becomes of the key.

use http::StatusCode;

use super::{policy::Policy, record::Reason};
use crate::mutants::{Mutant, is_active};

/// What was seen of one dispatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Proof that no byte of the request left.
    NotSent,
    /// The connection broke before a response began.
    Reset,
    /// No complete response in time.
    TimedOut,
    /// A response began and broke off.
    Truncated,
    /// The exchange was given up by its owner.
    Abandoned,
    /// A response began: its status, and whether it asked not to be recorded.
    Answered {
        /// The status.
        status: StatusCode,
        /// `Idempotency-Store: no` was there.
        opted_out: bool,
    },
}

/// What becomes of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Record the response.
    Record,
    /// Forget the claim: the request was not executed.
    Release,
    /// Nobody knows.
    Unknown(Reason),
}

/// Classifies. A proof of not having been sent releases; every other doubt is
/// an unknown outcome.
#[must_use]
pub fn classify(evidence: Evidence, policy: &Policy) -> Verdict {
    match evidence {
        Evidence::NotSent => Verdict::Release,
        Evidence::Reset if is_active(Mutant::ReleaseOnReset) => Verdict::Release,
        Evidence::Reset => Verdict::Unknown(Reason::Reset),
        Evidence::TimedOut if is_active(Mutant::ReleaseOnTimeout) => Verdict::Release,
        Evidence::TimedOut => Verdict::Unknown(Reason::Timeout),
        Evidence::Truncated => Verdict::Unknown(Reason::Truncated),
        Evidence::Abandoned => Verdict::Unknown(Reason::OwnerLost),
        Evidence::Answered { status, .. } if policy.unknown.contains(&status) => {
            Verdict::Unknown(match status {
                StatusCode::BAD_GATEWAY => Reason::Gateway502,
                StatusCode::SERVICE_UNAVAILABLE => Reason::Gateway503,
                StatusCode::GATEWAY_TIMEOUT => Reason::Gateway504,
                _ => Reason::Status,
            })
        }
        Evidence::Answered { status, .. } if policy.release.contains(&status) => Verdict::Release,
        Evidence::Answered { opted_out: true, .. } => Verdict::Release,
        Evidence::Answered { opted_out: false, .. } => Verdict::Record,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, opted_out: bool) -> Verdict {
        let status = StatusCode::from_u16(status).unwrap();
        classify(Evidence::Answered { status, opted_out }, &Policy::default())
    }

    #[test]
    fn every_status_has_its_verdict() {
        for status in 200..600 {
            let expected = match status {
                401 | 403 | 407 | 425 | 429 => Verdict::Release,
                502 => Verdict::Unknown(Reason::Gateway502),
                503 => Verdict::Unknown(Reason::Gateway503),
                504 => Verdict::Unknown(Reason::Gateway504),
                _ => Verdict::Record,
            };
            assert_eq!(of(status, false), expected, "{status}");
        }
    }

    #[test]
    fn what_a_policy_does_not_trust_is_named_after_its_status() {
        let unknown = [500, 502].map(|status| StatusCode::from_u16(status).unwrap());
        let policy = Policy { unknown: unknown.to_vec(), ..Policy::default() };
        let of = |status| classify(Evidence::Answered { status, opted_out: false }, &policy);
        assert_eq!(unknown.map(of), [Reason::Status, Reason::Gateway502].map(Verdict::Unknown));
        assert_eq!(of(StatusCode::GATEWAY_TIMEOUT), Verdict::Record);
    }

    #[test]
    fn opting_out_releases_but_never_hides_a_doubt() {
        assert_eq!(of(201, true), Verdict::Release);
        assert_eq!(of(502, true), Verdict::Unknown(Reason::Gateway502));
    }

    #[test]
    fn only_a_proof_releases_without_an_answer() {
        for (evidence, reason) in [
            (Evidence::Reset, Reason::Reset),
            (Evidence::TimedOut, Reason::Timeout),
            (Evidence::Truncated, Reason::Truncated),
            (Evidence::Abandoned, Reason::OwnerLost),
        ] {
            assert_eq!(classify(evidence, &Policy::default()), Verdict::Unknown(reason));
        }
        assert_eq!(classify(Evidence::NotSent, &Policy::default()), Verdict::Release);
    }
}
