//! A record as this store keeps it, and as bytes of the journal and of the file of responses.
//!
//! | bytes of a change | what |
//! |---|---|
//! | 32 | store key |
//! | 1 | [`REMOVED`], or [`BARE`] or [`ANSWERED`] and then a row: |
//! | 8, 8 | when the record expires, when its response does (0: none) |
//! | 4, n | the head |
//! | 4, n | the response, of [`ANSWERED`] rows only |
//!
//! Times are milliseconds since the Unix epoch; numbers are big endian.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::{Buf, BufMut, Bytes};

use crate::engine::{
    codec::{self, CodecError, Encoded},
    policy::Keep,
    record::{Fence, Record, StoreKey, Summary, Timestamp},
};

/// What some keys hold from now on; `None`: nothing.
pub(super) type Changes = BTreeMap<StoreKey, Option<Arc<Row>>>;

/// What one record's bytes gave: they may be damaged while the files are sound.
pub(super) type Decoded<T> = Result<T, CodecError>;

const REMOVED: u8 = 0;
const BARE: u8 = 1;
const ANSWERED: u8 = 2;

/// A record, encoded, with its times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// When the record expires.
    pub(super) until: u64,
    /// When its response does; 0: it has none.
    pub(super) response_until: u64,
    /// State, fence and fingerprint.
    pub(super) head: Bytes,
    /// The response, unless it was left out or is over.
    pub(super) response: Option<Bytes>,
}

impl Row {
    /// A record that is written at `now`.
    pub(super) fn new(encoded: Encoded, keep: Keep, now: Timestamp) -> Self {
        let until = now.after(keep.record).0;
        let response_until = match encoded.response {
            Some(_) => keep.response.map_or(until, |keep| now.after(keep).0.min(until)),
            None => 0,
        };
        let Encoded { head, response } = encoded;
        Self { until, response_until, head, response }
    }

    /// The record as it is at `now`.
    pub(super) fn record(&self, now: Timestamp) -> Decoded<Option<Record>> {
        if now.0 >= self.until {
            return Ok(None);
        }
        let response = self.response.clone().filter(|_| now.0 < self.response_until);
        codec::decode(&self.head, response).map(Some)
    }

    /// Who wrote it, if it is there at `now`.
    pub(super) fn fence(&self, now: Timestamp) -> Decoded<Option<Fence>> {
        let there = now.0 < self.until;
        there.then(|| codec::decode_fence(&self.head)).transpose()
    }

    /// Who wrote it, and how long before `now`.
    pub(super) fn age(&self, now: Timestamp) -> Decoded<Option<(Fence, Duration)>> {
        let there = now.0 < self.until;
        there.then(|| codec::decode_age(&self.head, Timestamp(self.until).since(now))).transpose()
    }

    /// Its state at `now`.
    pub(super) fn summary(&self, now: Timestamp) -> Decoded<Option<Summary>> {
        let there = now.0 < self.until;
        there.then(|| codec::decode_summary(&self.head, now.0 < self.response_until)).transpose()
    }
}

/// Writes changes one after the other.
pub(super) fn encode(changes: &Changes) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, row) in changes {
        put(&mut out, key, row.as_deref());
    }
    out
}

/// Writes one change.
pub(super) fn put(out: &mut Vec<u8>, key: &StoreKey, row: Option<&Row>) {
    out.put_slice(key.as_bytes());
    let Some(row) = row else {
        out.put_u8(REMOVED);
        return;
    };
    out.put_u8(if row.response.is_some() { ANSWERED } else { BARE });
    out.put_u64(row.until);
    out.put_u64(row.response_until);
    for part in std::iter::once(&row.head).chain(&row.response) {
        out.put_u32(u32::try_from(part.len()).expect("a policy records 256 MiB at the most"));
        out.put_slice(part);
    }
}

/// Reads changes, over those that `changes` holds. `None`: these bytes are no changes.
pub(super) fn decode_into(mut bytes: Bytes, changes: &mut Changes) -> Option<()> {
    while bytes.has_remaining() {
        let (key, row) = take(&mut bytes)?;
        changes.insert(key, row.map(Arc::new));
    }
    Some(())
}

/// Takes one change off the front. `None`: these bytes are no change.
pub(super) fn take(bytes: &mut Bytes) -> Option<(StoreKey, Option<Row>)> {
    let (key, kind, mut row) = front(bytes)?;
    if kind == ANSWERED {
        row.as_mut()?.response = Some(part(bytes)?);
    }
    Some((key, row))
}

/// Takes the row of a change without its response. `None`: it does not reach so far.
pub(super) fn take_bare(bytes: &mut Bytes) -> Option<(StoreKey, Row)> {
    let (key, _, row) = front(bytes)?;
    Some((key, row?))
}

/// Takes everything up to the response.
fn front(bytes: &mut Bytes) -> Option<(StoreKey, u8, Option<Row>)> {
    let mut key = [0; 32];
    bytes.try_copy_to_slice(&mut key).ok()?;
    let kind = bytes.try_get_u8().ok()?;
    let row = match kind {
        REMOVED => None,
        BARE | ANSWERED => {
            let until = bytes.try_get_u64().ok()?;
            let response_until = bytes.try_get_u64().ok()?;
            Some(Row { until, response_until, head: part(bytes)?, response: None })
        }
        3.. => return None,
    };
    Some((StoreKey::from_bytes(key), kind, row))
}

fn part(bytes: &mut Bytes) -> Option<Bytes> {
    let length = usize::try_from(bytes.try_get_u32().ok()?).ok()?;
    (length <= bytes.len()).then(|| bytes.split_to(length))
}
