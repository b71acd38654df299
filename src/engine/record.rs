//! What a store holds about a key: the states of a key's life, and the response.

use std::{fmt, sync::Arc, time::Duration};

use arrayvec::ArrayString;
use http::{HeaderMap, StatusCode};

use super::fingerprint::Fingerprint;
pub use super::response::StoredResponse;

/// Milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Later by `duration`; saturates.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The time from `earlier` to here, zero when the order is the other one.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// The name under which a store keeps a key: a keyed hash, safe to show.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoreKey([u8; 32]);

impl StoreKey {
    /// The bytes of the hash.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A name from the bytes of a hash.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Reads the hexadecimal form that [`Display`](fmt::Display) writes.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        blake3::Hash::from_hex(text).ok().map(|hash| Self(*hash.as_bytes()))
    }
}

impl StoreKey {
    /// The hexadecimal form, without the machinery of [`Display`](fmt::Display).
    pub(crate) fn to_hex(self) -> ArrayString<64> {
        let digit = |value: u8| value + if value < 10 { b'0' } else { b'a' - 10 };
        let mut digits = [0; 64];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(self.0) {
            pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
        }
        ArrayString::from_byte_string(&digits).expect("digits are text")
    }
}

impl fmt::Display for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreKey({self})")
    }
}

/// An owner's random 128-bit token.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token(pub [u8; 16]);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({:02x}{:02x}..)", self.0[0], self.0[1])
    }
}

/// Who wrote a record, and which of his writes it is.
///
/// The token keeps an owner that was replaced from writing. The revision keeps
/// an owner's own earlier write, delayed on its way, from undoing a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The owner.
    pub token: Token,
    /// Counts the owner's writes from 0.
    pub revision: u32,
}

impl Fence {
    /// The first write of an owner.
    #[must_use]
    pub const fn new(token: Token) -> Self {
        Self { token, revision: 0 }
    }

    /// The same owner's next write.
    #[must_use]
    pub const fn next(self) -> Self {
        Self { token: self.token, revision: self.revision.saturating_add(1) }
    }

    /// Whether a write that expects `self` may replace a record fenced by
    /// `current`: the same owner, at a revision no newer than the expected one.
    /// Equality is allowed, so that a write whose reply was lost can be repeated.
    #[must_use]
    pub fn admits(self, current: Self) -> bool {
        self.token == current.token && current.revision <= self.revision
    }
}

/// What a store holds about a key. Absence is the store's `None`.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// An owner may be talking to the backend.
    Pending(Pending),
    /// Bytes may have reached the backend and no complete response came back.
    Unknown(Unknown),
    /// The response is recorded.
    Done(Arc<Done>),
    /// The response was recorded and its retention has passed.
    Expired(Tombstone),
}

/// A claim.
#[derive(Clone, Debug, PartialEq)]
pub struct Pending {
    /// The owner.
    pub fence: Fence,
    /// The request that was claimed.
    pub fingerprint: Fingerprint,
    /// The owner's process, for people who look into the store.
    pub node: Arc<str>,
    /// When the key was claimed.
    pub started: Timestamp,
    /// When the owner counts as lost if he does not renew.
    pub lease_until: Timestamp,
}

/// An outcome that could not be learnt.
#[derive(Clone, Debug, PartialEq)]
pub struct Unknown {
    /// The owner that gave up.
    pub fence: Fence,
    /// The request that was claimed.
    pub fingerprint: Fingerprint,
    /// The owner's process.
    pub node: Arc<str>,
    /// When the key was claimed.
    pub started: Timestamp,
    /// When the owner gave up.
    pub since: Timestamp,
    /// What he saw.
    pub reason: Reason,
}

/// A recorded outcome.
#[derive(Clone, Debug, PartialEq)]
pub struct Done {
    /// The owner that recorded it.
    pub fence: Fence,
    /// The request that was executed.
    pub fingerprint: Fingerprint,
    /// When the response was recorded.
    pub completed: Timestamp,
    /// When the response stops being replayed.
    pub retained_until: Timestamp,
    /// What came back.
    pub response: Recorded,
}

/// What is left of a recorded outcome.
#[derive(Clone, Debug, PartialEq)]
pub struct Tombstone {
    /// The owner that recorded it.
    pub fence: Fence,
    /// The request that was executed.
    pub fingerprint: Fingerprint,
    /// When the response had been recorded.
    pub completed: Timestamp,
}

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

/// A response as it was recorded.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "it lives in an `Arc`, and the large one is the rule"
)]
pub enum Recorded {
    /// All of it.
    Whole(StoredResponse),
    /// Only its status, because the body was longer than the policy records.
    StatusOnly(StatusCode),
}

/// Why an outcome is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The connection broke before a response began.
    Reset,
    /// No response in time.
    Timeout,
    /// The response broke off.
    Truncated,
    /// The upstream answered 502.
    Gateway502,
    /// The upstream answered 503.
    Gateway503,
    /// The upstream answered 504, or another status that the policy does not trust.
    Gateway504,
    /// The owner stopped without a word, or gave up while shutting down.
    OwnerLost,
    /// The store could not be told.
    StoreLost,
}

impl Reason {
    /// All reasons, in the order of their stored numbers.
    pub const ALL: [Self; 8] = [
        Self::Reset,
        Self::Timeout,
        Self::Truncated,
        Self::Gateway502,
        Self::Gateway503,
        Self::Gateway504,
        Self::OwnerLost,
        Self::StoreLost,
    ];

    /// The name that clients, operators and metrics see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Truncated => "truncated",
            Self::Gateway502 => "gateway_502",
            Self::Gateway503 => "gateway_503",
            Self::Gateway504 => "gateway_504",
            Self::OwnerLost => "owner_lost",
            Self::StoreLost => "store_lost",
        }
    }
}

impl Record {
    /// Who wrote it.
    #[must_use]
    pub fn fence(&self) -> Fence {
        match self {
            Self::Pending(pending) => pending.fence,
            Self::Unknown(unknown) => unknown.fence,
            Self::Done(done) => done.fence,
            Self::Expired(tombstone) => tombstone.fence,
        }
    }

    /// The request that it belongs to.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        match self {
            Self::Pending(pending) => pending.fingerprint,
            Self::Unknown(unknown) => unknown.fingerprint,
            Self::Done(done) => done.fingerprint,
            Self::Expired(tombstone) => tombstone.fingerprint,
        }
    }
}

impl Done {
    /// What is left when the response is gone.
    #[must_use]
    pub fn tombstone(&self) -> Tombstone {
        Tombstone { fence: self.fence, fingerprint: self.fingerprint, completed: self.completed }
    }

    /// About how much memory it holds, in bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        const HEAD: usize = 1024;
        const FIELD: usize = 64;
        match &self.response {
            Recorded::StatusOnly(_) => HEAD,
            Recorded::Whole(response) => {
                let fields = |map: &HeaderMap| {
                    map.iter()
                        .map(|(name, value)| FIELD + name.as_str().len() + value.len())
                        .sum::<usize>()
                };
                HEAD + response.body.len()
                    + fields(&response.headers)
                    + response.trailers.as_ref().map_or(0, fields)
            }
        }
    }
}

impl Recorded {
    /// The upstream's status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Whole(response) => response.status,
            Self::StatusOnly(status) => *status,
        }
    }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
