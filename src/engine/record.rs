//! What a store holds about a key: the states of a key's life, and the response.

use std::{fmt, sync::Arc, time::Duration};

use arrayvec::ArrayString;
use http::StatusCode;

use super::fingerprint::Fingerprint;
pub use super::{
    fence::{Fence, Token},
    reason::Reason,
    response::{StoredResponse, Unpacked},
    summary::{State, Summary},
};

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

/// A response as it was recorded.
#[derive(Clone, Debug, PartialEq)]
pub enum Recorded {
    /// All of it.
    Whole(StoredResponse),
    /// Only its status, because the body was longer than the policy records.
    StatusOnly(StatusCode),
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
        // Without the message, but with what a cache needs to find it.
        const HEAD: usize = 320;
        match &self.response {
            Recorded::StatusOnly(_) => HEAD,
            Recorded::Whole(response) => HEAD + response.message().len(),
        }
    }
}

impl Recorded {
    /// The upstream's status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Whole(response) => response.status(),
            Self::StatusOnly(status) => *status,
        }
    }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
