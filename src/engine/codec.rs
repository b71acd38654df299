//! Records as bytes, for stores outside this process.
//!
//! A record is written as two values, because they live for different times:
//! the *head* (state, fence, fingerprint; small, kept past the retention) and
//! the *response* (gone with the retention). A done head without its response
//! is an expired record, with no write needed.
//!
//! | bytes of either | what |
//! |---|---|
//! | 0 | version of the layout, [`VERSION`] |
//! | 1..17 | the owner's token |
//! | 17..21 | the owner's revision, big endian |
//! | 21.. | a length-delimited protobuf message |
//!
//! The fence lies at fixed offsets so that a store can compare it without
//! understanding the rest ([`FENCE`]), and so that a head which was read a moment
//! before its response is not taken together with somebody else's. Protobuf fields
//! may be added; a version changes only when old readers would misread.

use std::{cmp::Ordering, ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;
use prost::Message;

use super::{
    encode::{HeadFields, delimited_after},
    fingerprint::Fingerprint,
    message::Fields,
    record::{
        self, Done, Fence, Pending, Reason, Record, Recorded, Summary, Timestamp, Token, Tombstone,
        Unknown,
    },
    response,
};

/// The layout that is written. Every version up to it is read.
pub const VERSION: u8 = 1;

/// Where a head and a response carry their fence: the token, then the revision.
pub const FENCE: Range<usize> = 1..21;

/// A record as a store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// State, fence and fingerprint.
    pub head: Bytes,
    /// The response, when the record is done.
    pub response: Option<Bytes>,
}

/// Bytes that are not a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// Written by a later version of the program.
    #[error("the record has layout {0}, this program reads up to {VERSION}; upgrade this gate")]
    Newer(u8),
    /// Cut short, or never a record.
    #[error("the record is damaged: {0}")]
    Damaged(&'static str),
    /// Read at two moments, between which somebody wrote.
    #[error("the head and the response are not of one record; read them again")]
    Mixed,
}

/// Writes a record that is kept for `kept`.
#[must_use]
pub fn encode(record: &Record, kept: Duration) -> Encoded {
    let kept = u64::try_from(kept.as_millis()).unwrap_or(u64::MAX);
    let fence = record.fence();
    let response = match record {
        Record::Done(done) => Some(assemble(fence, &done.response)),
        Record::Pending(_) | Record::Unknown(_) | Record::Expired(_) => None,
    };
    Encoded { head: assemble(fence, &HeadFields::of(record, kept)), response }
}

fn assemble(fence: Fence, message: &impl Fields) -> Bytes {
    let mut before = [VERSION; FENCE.end];
    before[FENCE].copy_from_slice(&encode_fence(fence));
    delimited_after(&before, message).into()
}

/// Writes a fence the way a head carries it, for a store's comparison.
#[must_use]
pub fn encode_fence(fence: Fence) -> [u8; 20] {
    let mut bytes = [0; 20];
    bytes[..16].copy_from_slice(&fence.token.0);
    bytes[16..].copy_from_slice(&fence.revision.to_be_bytes());
    bytes
}

/// Reads only the fence of a head or a response.
///
/// # Errors
/// [`CodecError`] when the bytes are neither, of a version that is known.
pub fn decode_fence(bytes: &[u8]) -> Result<Fence, CodecError> {
    version(bytes)?;
    let bytes = bytes.get(FENCE).ok_or(CodecError::Damaged("no fence"))?;
    let (token, revision) = bytes.split_at(16);
    Ok(Fence {
        token: Token(token.try_into().expect("split at 16")),
        revision: u32::from_be_bytes(revision.try_into().expect("20 - 16 bytes")),
    })
}

/// Reads who wrote a head, and how long ago, from the time that the store still
/// keeps it. A head that does not say how long it is kept reads as just written,
/// which proves nothing.
///
/// # Errors
/// [`CodecError`] when the bytes are cut short, damaged, or of a later version.
pub fn decode_age(head: &[u8], left: Duration) -> Result<(Fence, Duration), CodecError> {
    let fence = decode_fence(head)?;
    let body: Head = message(&head[FENCE.end..])?;
    Ok((fence, Duration::from_millis(body.kept).saturating_sub(left)))
}

/// Reads a record. A done head whose `response` is gone is an expired record.
///
/// # Errors
/// [`CodecError`] when the bytes are cut short, damaged, or of a later version, and
/// [`CodecError::Mixed`] when the response of a done head has another fence.
pub fn decode(head: &[u8], response: Option<Bytes>) -> Result<Record, CodecError> {
    let fence = decode_fence(head)?;
    let body: Head = message(&head[FENCE.end..])?;
    let fingerprint = body
        .fingerprint
        .as_slice()
        .try_into()
        .map(Fingerprint::from_bytes)
        .map_err(|_| CodecError::Damaged("fingerprint"))?;
    let node: Arc<str> = body.node.as_str().into();
    let started = Timestamp(body.started);
    match State::try_from(body.state) {
        Ok(State::Pending) => {
            let lease_until = Timestamp(body.until);
            Ok(Record::Pending(Pending { fence, fingerprint, node, started, lease_until }))
        }
        Ok(State::Unknown) => {
            // A reason that a later version added is still an unknown outcome.
            let reason =
                Reason::ALL.get(body.reason as usize).copied().unwrap_or(Reason::OwnerLost);
            let since = Timestamp(body.at);
            Ok(Record::Unknown(Unknown { fence, fingerprint, node, started, since, reason }))
        }
        Ok(State::Done) => match response {
            None => {
                let completed = Timestamp(body.at);
                Ok(Record::Expired(Tombstone { fence, fingerprint, completed }))
            }
            Some(response) => Ok(Record::Done(Arc::new(Done {
                fence,
                fingerprint,
                completed: Timestamp(body.at),
                retained_until: Timestamp(body.until),
                response: decode_response(fence, response)?,
            }))),
        },
        Ok(State::Absent) | Err(_) => Err(CodecError::Damaged("state")),
    }
}

/// Reads what a listing shows of a record, without its response. A done head
/// reads as expired unless `response_is_there`, as [`decode`] would read it.
///
/// # Errors
/// [`CodecError`] when the bytes are cut short, damaged, or of a later version.
pub fn decode_summary(head: &[u8], response_is_there: bool) -> Result<Summary, CodecError> {
    let mut summary = Summary::of(&decode(head, None)?);
    if response_is_there && summary.state == record::State::Expired {
        summary.state = record::State::Done;
    }
    Ok(summary)
}

fn version(bytes: &[u8]) -> Result<(), CodecError> {
    match bytes.first() {
        None => Err(CodecError::Damaged("empty")),
        Some(&VERSION) => Ok(()),
        Some(&newer) if newer > VERSION => Err(CodecError::Newer(newer)),
        Some(_) => Err(CodecError::Damaged("version")),
    }
}

fn message<M: Message + Default>(bytes: &[u8]) -> Result<M, CodecError> {
    M::decode(delimited(bytes)?).map_err(|_| CodecError::Damaged("message"))
}

/// The message after its length, which is to be all there is.
fn delimited<B: bytes::Buf>(mut bytes: B) -> Result<B, CodecError> {
    let damaged = |_| CodecError::Damaged("message");
    let length = prost::decode_length_delimiter(&mut bytes).map_err(damaged)?;
    match bytes.remaining().cmp(&length) {
        Ordering::Less => Err(CodecError::Damaged("message")),
        Ordering::Equal => Ok(bytes),
        Ordering::Greater => Err(CodecError::Damaged("trailing bytes")),
    }
}

fn decode_response(fence: Fence, bytes: Bytes) -> Result<Recorded, CodecError> {
    if decode_fence(&bytes)? != fence {
        return Err(CodecError::Mixed);
    }
    response::recorded(delimited(bytes.slice(FENCE.end..))?).map_err(CodecError::Damaged)
}

#[derive(Clone, PartialEq, prost::Message)]
struct Head {
    #[prost(enumeration = "State", tag = "1")]
    state: i32,
    #[prost(bytes = "vec", tag = "2")]
    fingerprint: Vec<u8>,
    #[prost(string, tag = "3")]
    node: String,
    #[prost(uint64, tag = "4")]
    started: u64,
    /// Since when it is unknown, or when it was recorded.
    #[prost(uint64, tag = "5")]
    at: u64,
    /// The end of the lease, or of the retention.
    #[prost(uint64, tag = "6")]
    until: u64,
    #[prost(uint32, tag = "7")]
    reason: u32,
    /// How long the record is kept, in milliseconds. A store that knows the time
    /// left knows the record's age by its own clock.
    #[prost(uint64, tag = "8")]
    kept: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(super) enum State {
    Absent = 0,
    Pending = 1,
    Unknown = 2,
    Done = 3,
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
