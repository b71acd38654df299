//! What heads and responses consist of on the wire.

use super::{
    codec::State,
    message::{Count, Fields, Sink, bytes, number},
    record::{Reason, Record, Recorded},
};

/// `before`, the length of a message, and the message.
pub(super) fn delimited_after(before: &[u8], message: &impl Fields) -> Vec<u8> {
    let length = message.length();
    let mut prefix = Count::default();
    prefix.varint(length as u64);
    let mut out = Vec::with_capacity(before.len() + prefix.0 + length);
    out.put(before);
    out.varint(length as u64);
    message.put(&mut out);
    out
}

/// What a head says beside its fence.
#[derive(Default)]
pub(super) struct HeadFields<'a> {
    state: u64,
    fingerprint: &'a [u8],
    node: &'a str,
    started: u64,
    at: u64,
    until: u64,
    reason: u64,
    kept: u64,
}

impl<'a> HeadFields<'a> {
    /// `kept` in milliseconds.
    pub(super) fn of(record: &'a Record, kept: u64) -> Self {
        let rest = Self { kept, ..Self::default() };
        match record {
            Record::Pending(pending) => Self {
                state: State::Pending as u64,
                fingerprint: pending.fingerprint.as_bytes(),
                node: &pending.node,
                started: pending.started.0,
                until: pending.lease_until.0,
                ..rest
            },
            Record::Unknown(unknown) => Self {
                state: State::Unknown as u64,
                fingerprint: unknown.fingerprint.as_bytes(),
                node: &unknown.node,
                started: unknown.started.0,
                at: unknown.since.0,
                reason: Reason::ALL.iter().position(|r| *r == unknown.reason).unwrap_or(0) as u64,
                ..rest
            },
            Record::Done(done) => Self {
                state: State::Done as u64,
                fingerprint: done.fingerprint.as_bytes(),
                at: done.completed.0,
                until: done.retained_until.0,
                ..rest
            },
            Record::Expired(tombstone) => Self {
                state: State::Done as u64,
                fingerprint: tombstone.fingerprint.as_bytes(),
                at: tombstone.completed.0,
                ..rest
            },
        }
    }
}

impl Fields for HeadFields<'_> {
    fn put(&self, out: &mut impl Sink) {
        number(1, self.state, out);
        bytes(2, self.fingerprint, out);
        bytes(3, self.node.as_bytes(), out);
        number(4, self.started, out);
        number(5, self.at, out);
        number(6, self.until, out);
        number(7, self.reason, out);
        number(8, self.kept, out);
    }
}

impl Fields for Recorded {
    fn put(&self, out: &mut impl Sink) {
        match self {
            Self::Whole(response) => out.put(response.message()),
            Self::StatusOnly(status) => {
                number(1, status.as_u16().into(), out);
                number(2, 1, out);
            }
        }
    }
}
