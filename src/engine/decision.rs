//! The decision table: what the store holds about a key, and what happens to the
//! request that carries it. A key that the store does not hold is claimed by the
//! same operation that looks (insert if absent), so absence is no row.
//!
//! | store holds | same request | another request |
//! |---|---|---|
//! | pending, lease running | wait or 409 | 422 |
//! | pending, lease passed | as unknown (`owner_lost`) | 422 |
//! | unknown | by `on_unknown` | 422 |
//! | done | replay | 422 |
//! | done without body | 409 with the status | 422 |
//! | expired | by `on_late_retry` | 422 |

use std::sync::Arc;

use http::StatusCode;

use super::{
    fingerprint::Fingerprint,
    policy::{Dialect, OnConflict, OnLateRetry, OnUnknown, Policy},
    record::{Done, Fence, Reason, Record, Recorded, StoredResponse, Timestamp},
};

use crate::mutants::{Mutant, is_active};

/// What happens to a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Replace the record with this fence by a claim of one's own, then dispatch.
    TakeOver(Fence, Because),
    /// Ask the backend what became of the record with this fence.
    Reconcile(Fence, Refusal),
    /// Answer with the recorded response.
    Replay(Replay),
    /// Wait for the owner.
    Wait,
    /// Answer without the backend.
    Refuse(Refusal),
}

/// Why a key is taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Because {
    /// Policy `retry` dispatches an unknown outcome again.
    Retry {
        /// Since when it is unknown.
        since: Timestamp,
        /// Why.
        reason: Reason,
    },
    /// Policy `execute` runs a late retry as new.
    LateRetry {
        /// When the outcome was recorded whose response is gone.
        completed: Timestamp,
    },
    /// A lookup after the quiescence proved that nothing was executed.
    NotExecuted,
}

/// A recorded response that can be sent.
#[derive(Clone, Debug)]
pub struct Replay {
    done: Arc<Done>,
}

impl Replay {
    /// The record, if its response was recorded whole.
    #[must_use]
    pub fn of(done: &Arc<Done>) -> Option<Self> {
        matches!(done.response, Recorded::Whole(_)).then(|| Self { done: Arc::clone(done) })
    }

    /// The record.
    #[must_use]
    pub fn done(&self) -> &Done {
        &self.done
    }

    /// Its response.
    #[must_use]
    pub fn response(&self) -> &StoredResponse {
        match &self.done.response {
            Recorded::Whole(response) => response,
            Recorded::StatusOnly(_) => unreachable!("`of` is the only constructor and checks this"),
        }
    }
}

impl PartialEq for Replay {
    fn eq(&self, other: &Self) -> bool {
        self.done == other.done
    }
}

/// Why a request is answered without the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The key belongs to another request.
    KeyReused,
    /// The first request still runs.
    KeyInUse,
    /// It may have been executed, and nobody knows.
    OutcomeUnknown {
        /// Since when.
        since: Timestamp,
        /// What was seen.
        reason: Reason,
    },
    /// It was executed, and its response was too long to keep.
    ResponseNotStored(StatusCode),
    /// It was executed, and its response is gone.
    KeyExpired {
        /// When it was recorded.
        completed: Timestamp,
    },
}

/// Decides. `record` is what the store holds, `now` the time at which it was read.
#[must_use]
pub fn decide(record: &Record, print: Fingerprint, policy: &Policy, now: Timestamp) -> Decision {
    if record.fingerprint() != print && !is_active(Mutant::IgnoreFingerprint) {
        return Decision::Refuse(Refusal::KeyReused);
    }
    match record {
        Record::Pending(pending) if now <= pending.lease_until => match policy.on_conflict {
            OnConflict::Wait(_) => Decision::Wait,
            OnConflict::Reject => Decision::Refuse(Refusal::KeyInUse),
        },
        Record::Pending(pending) if is_active(Mutant::ExpiredLeaseIsFree) => {
            Decision::TakeOver(pending.fence, Because::LateRetry { completed: pending.started })
        }
        Record::Pending(pending) => {
            unknown(pending.fence, pending.lease_until, Reason::OwnerLost, policy)
        }
        Record::Unknown(record) => unknown(record.fence, record.since, record.reason, policy),
        Record::Done(done) => match Replay::of(done) {
            Some(replay) => Decision::Replay(replay),
            None => Decision::Refuse(Refusal::ResponseNotStored(done.response.status())),
        },
        Record::Expired(tombstone) => match late_retry(policy) {
            OnLateRetry::Refuse => {
                Decision::Refuse(Refusal::KeyExpired { completed: tombstone.completed })
            }
            OnLateRetry::Execute => {
                let completed = tombstone.completed;
                Decision::TakeOver(tombstone.fence, Because::LateRetry { completed })
            }
        },
    }
}

fn unknown(fence: Fence, since: Timestamp, reason: Reason, policy: &Policy) -> Decision {
    let refusal = Refusal::OutcomeUnknown { since, reason };
    match policy.on_unknown {
        OnUnknown::Hold => Decision::Refuse(refusal),
        OnUnknown::Retry => Decision::TakeOver(fence, Because::Retry { since, reason }),
        OnUnknown::Reconcile(_) => Decision::Reconcile(fence, refusal),
    }
}

/// Stripe forgets keys after their retention and runs them as new.
fn late_retry(policy: &Policy) -> OnLateRetry {
    match policy.dialect {
        Dialect::Stripe => OnLateRetry::Execute,
        Dialect::Ietf if is_active(Mutant::LateRetryIsNew) => OnLateRetry::Execute,
        Dialect::Ietf => policy.on_late_retry,
    }
}

#[cfg(test)]
#[path = "decision_tests.rs"]
mod tests;
