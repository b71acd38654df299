//! Protobuf messages, written from what a record borrows.
//!
//! A derived encoder wants a message that owns every field: copies of names, values and
//! bodies, only to be written and dropped. What is written here is byte for byte the same
//! (the codec's tests compare); reading is left to the derived decoder.
//!
//! A message puts its fields twice, the first time to be counted.

use super::{
    codec::State,
    record::{Reason, Record, Recorded},
};

/// A message.
pub(super) trait Fields {
    /// Puts them in the order of their tags.
    fn put(&self, out: &mut impl Sink);
}

/// `before`, the length of a message, and the message.
pub(super) fn delimited_after(before: &[u8], message: &impl Fields) -> Vec<u8> {
    let (mut length, mut prefix) = (Count::default(), Count::default());
    message.put(&mut length);
    prefix.varint(length.0 as u64);
    let mut out = Vec::with_capacity(before.len() + prefix.0 + length.0);
    out.put(before);
    out.varint(length.0 as u64);
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
        number(1, self.status().as_u16().into(), out);
        let Self::Whole(response) = self else {
            return number(2, 1, out);
        };
        for (name, value) in &response.headers {
            pair(3, name.as_str().as_bytes(), value.as_bytes(), out);
        }
        bytes(4, &response.body, out);
        number(5, response.trailers.is_some().into(), out);
        for (name, value) in response.trailers.iter().flatten() {
            pair(6, name.as_str().as_bytes(), value.as_bytes(), out);
        }
    }
}

/// Where bytes go.
pub(super) trait Sink {
    fn put(&mut self, bytes: &[u8]);

    /// A number in groups of seven bits, of which all but the last have the high bit.
    fn varint(&mut self, value: u64);
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            let [low, ..] = value.to_le_bytes();
            self.push(low | 0x80);
            value >>= 7;
        }
        let [last, ..] = value.to_le_bytes();
        self.push(last);
    }
}

/// Counts.
#[derive(Default)]
struct Count(usize);

impl Sink for Count {
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }

    fn varint(&mut self, value: u64) {
        // 0 takes a group, too.
        self.0 += (value | 1).ilog2() as usize / 7 + 1;
    }
}

/// A numeric field, left out when it is 0. `tag` is below 16, as in all functions here.
fn number(tag: u8, value: u64, out: &mut impl Sink) {
    if value != 0 {
        out.put(&[tag << 3]);
        out.varint(value);
    }
}

/// A field of bytes or text, left out when it is empty.
fn bytes(tag: u8, value: &[u8], out: &mut impl Sink) {
    if !value.is_empty() {
        prefix(tag, value.len(), out);
        out.put(value);
    }
}

/// One message of a repeated field, with two fields of its own.
fn pair(tag: u8, first: &[u8], second: &[u8], out: &mut impl Sink) {
    let mut length = Count::default();
    bytes(1, first, &mut length);
    bytes(2, second, &mut length);
    prefix(tag, length.0, out);
    bytes(1, first, out);
    bytes(2, second, out);
}

fn prefix(tag: u8, length: usize, out: &mut impl Sink) {
    out.put(&[tag << 3 | 2]);
    out.varint(length as u64);
}
