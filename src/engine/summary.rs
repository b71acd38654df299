//! A record as listings show it.

use std::sync::Arc;

use super::record::{Fence, Reason, Record, Timestamp};

/// What a listing shows of a record: everything but the response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The state.
    pub state: State,
    /// Who wrote it.
    pub fence: Fence,
    /// When the key was claimed, became unknown, or was recorded.
    pub since: Timestamp,
    /// Why the outcome is unknown.
    pub reason: Option<Reason>,
    /// The owner's process, while there is one.
    pub node: Option<Arc<str>>,
}

/// The states of a key that has a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// An owner may be talking to the backend.
    Pending,
    /// The outcome could not be learnt.
    Unknown,
    /// The response is recorded.
    Done,
    /// The response was recorded and is gone.
    Expired,
}

impl Summary {
    /// What a listing shows of `record`.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        let (state, since, reason, node) = match record {
            Record::Pending(pending) => {
                (State::Pending, pending.started, None, Some(Arc::clone(&pending.node)))
            }
            Record::Unknown(unknown) => (
                State::Unknown,
                unknown.since,
                Some(unknown.reason),
                Some(Arc::clone(&unknown.node)),
            ),
            Record::Done(done) => (State::Done, done.completed, None, None),
            Record::Expired(tombstone) => (State::Expired, tombstone.completed, None, None),
        };
        Self { state, fence: record.fence(), since, reason, node }
    }
}
