//! Where records are kept: mechanism only.
//!
//! A store inserts, compares and swaps. It knows no HTTP status and no policy;
//! the only thing in a record that it looks at is the fence.
//!
//! 1. Every operation is atomic on one key and safe to repeat: a time-out is not
//!    a failure, the operation may have happened.
//! 2. An operation that returns `Ok` is as durable as the store promises.
//! 3. A record outlives its [`Keep::record`] never, its response
//!    [`Keep::response`] never; a done record without its response is read as
//!    [`Record::Expired`].
//! 4. Nothing else removes a record.
//!
//! [`conformance`] checks all of this on any store.

use std::{error::Error as StdError, fmt, time::Duration};

use async_trait::async_trait;

use crate::{
    engine::{
        policy::Keep,
        record::{Fence, Record, StoreKey, Summary},
    },
    mutants::{Mutant, is_active},
};

mod cached;
pub mod conformance;
#[cfg(feature = "embedded")]
mod embedded;
mod memory;
#[cfg(feature = "proxy")]
mod observed;
#[cfg(feature = "redis")]
mod redis;

pub use cached::ResponseCache;
#[cfg(feature = "embedded")]
pub use embedded::{EmbeddedOptions, EmbeddedStore};
pub use memory::MemoryStore;
#[cfg(feature = "proxy")]
pub(crate) use observed::ObservedStore;
#[cfg(feature = "redis")]
pub use redis::{RedisOptions, RedisStore};

/// A place for records.
///
/// One of your own should pass the suite in [`conformance`].
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Inserts `record` if the key is absent, else returns what is there.
    ///
    /// A record that is there and has the token of `record` is one's own earlier
    /// attempt, whose reply was lost: [`Claimed::Mine`].
    ///
    /// A claim that is delayed on its way until its own record has been removed
    /// inserts it once more. That is safe, since nobody dispatches for it: the key
    /// counts as unknown when the lease has passed.
    ///
    /// Claims are [`Record::Pending`]. A store need not keep the response of a
    /// record that comes this way; responses come by [`swap`](Self::swap).
    ///
    /// # Errors
    /// [`StoreError`]; the record may have been inserted.
    async fn claim(
        &self,
        key: &StoreKey,
        record: &Record,
        keep: Keep,
    ) -> Result<Claimed, StoreError>;

    /// Replaces the record if [`expect` admits](Fence::admits) its fence, or if it is the outcome
    /// of the same swap done before (the fence of `record` admits it).
    ///
    /// # Errors
    /// [`StoreError`]; the record may have been replaced.
    async fn swap(
        &self,
        key: &StoreKey,
        expect: Fence,
        record: &Record,
        keep: Keep,
    ) -> Result<Write, StoreError>;

    /// Removes the record if [`expect` admits](Fence::admits) its fence. An absent key counts as
    /// removed.
    ///
    /// # Errors
    /// [`StoreError`]; the record may have been removed.
    async fn remove(&self, key: &StoreKey, expect: Fence) -> Result<Write, StoreError>;

    /// Reads the record.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn get(&self, key: &StoreKey) -> Result<Option<Record>, StoreError>;

    /// How long ago the record was last written, by the store's own clock, and by
    /// whom.
    ///
    /// A store that cannot tell answers `None`; then a lookup that finds nothing
    /// never counts as proof.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn age(&self, key: &StoreKey) -> Result<Option<(Fence, Duration)>, StoreError> {
        let _ = key;
        Ok(None)
    }

    /// Lists records in an order of the store's own, about `limit` at a time. A
    /// record that is there throughout is listed at least once.
    ///
    /// A page may hold more or fewer than `limit`, or none: the listing has ended
    /// when [`Page::next`] is `None`, and not before.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn scan(&self, cursor: Option<Cursor>, limit: usize) -> Result<Page, StoreError>;

    /// Checks that the store answers and can keep its promise. A gate asks every
    /// second.
    ///
    /// # Errors
    /// [`StoreError`] when requests would be refused, and
    /// [`StoreErrorKind::DataLost`] until a loss of data is acknowledged.
    async fn ping(&self) -> Result<(), StoreError>;

    /// How often this process has noticed that the store lost data.
    fn losses(&self) -> u64 {
        0
    }

    /// An operator knows that data was lost, for all gates on the store: `ping`
    /// finds nothing wrong with it any more.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn acknowledge_loss(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// What a store has to have done before it acknowledges a write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// What it does by itself. A file is on the disk; a Redis keeps what it is set up to keep.
    #[default]
    Acknowledged,
    /// As many replicas of a Redis have it as well, or the request is refused before
    /// it is sent.
    Replicated(u8),
    /// It is on the disk: a file, or a Redis with `appendfsync always`.
    Fsync,
}

impl Durability {
    /// How many replicas must acknowledge.
    #[must_use]
    pub const fn replicas(self) -> u8 {
        match self {
            Self::Replicated(replicas) => replicas,
            Self::Acknowledged | Self::Fsync => 0,
        }
    }
}

/// What became of a claim.
#[derive(Clone, Debug, PartialEq)]
pub enum Claimed {
    /// The key is the caller's.
    Mine,
    /// The key is taken, and this is what is there.
    Held(Record),
}

/// What became of a swap or a removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// It is as the caller wants it.
    Applied,
    /// Somebody else has written, or the record is gone; nothing was changed.
    Fenced,
}

/// Where a listing goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(pub String);

/// A part of a listing.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Names and states.
    pub records: Vec<(StoreKey, Summary)>,
    /// Where it goes on; `None` at the end.
    pub next: Option<Cursor>,
}

/// An operation that did not succeed, or of which nobody knows.
#[derive(Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    what: String,
    is_undone: bool,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What kind of trouble a store has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The store would break its promise, or cannot work at all, as it is set up.
    /// Nothing gets better by itself: somebody has to change a setting.
    Misconfigured,
    /// No connection, or the store refuses to work.
    Unavailable,
    /// No reply in time.
    Timeout,
    /// What is stored cannot be read.
    Corrupt,
    /// The store lost records that it had acknowledged, and no operator has
    /// acknowledged the loss.
    DataLost,
}

impl StoreError {
    /// An error of `kind`; `what` says what was tried and with which peer or file.
    #[must_use]
    pub fn new(kind: StoreErrorKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), is_undone: false, source: None }
    }

    /// No reply within `limit`.
    #[must_use]
    pub fn timeout(operation: &str, limit: Duration) -> Self {
        Self::new(StoreErrorKind::Timeout, format!("{operation}: no reply within {limit:?}"))
    }

    /// Adds what lies underneath.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Says that the store cannot have done anything of what it was asked for, because it was not
    /// reached.
    #[must_use]
    pub const fn undone(mut self) -> Self {
        self.is_undone = true;
        self
    }

    /// Whether the store cannot have done anything. Else nobody knows.
    #[must_use]
    pub fn is_undone(&self) -> bool {
        self.is_undone && !is_active(Mutant::TakeBackAll)
    }

    /// The kind of trouble.
    #[must_use]
    pub const fn kind(&self) -> StoreErrorKind {
        self.kind
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Some(source) => write!(f, "{}: {source}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

impl StdError for StoreError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(feature = "codec")]
impl From<crate::engine::codec::CodecError> for StoreError {
    fn from(error: crate::engine::codec::CodecError) -> Self {
        Self::new(StoreErrorKind::Corrupt, "a record of the store").because(error)
    }
}
