//! The operations that the committer does, one by one.

use tokio::sync::oneshot;

use super::{
    committer::{Batch, no_room},
    recent::Found,
    row::{Decoded, Row},
    tables::lost,
    unreadable,
};
use crate::{
    engine::{
        codec::Encoded,
        policy::Keep,
        record::{Fence, Record, StoreKey},
    },
    mutants::{Mutant, is_active},
    store::{Claimed, StoreError, Write},
};

/// One operation and the caller who waits for it.
#[derive(Debug)]
pub(super) enum Job {
    Claim {
        key: StoreKey,
        fence: Fence,
        new: Encoded,
        keep: Keep,
        /// What the caller saw before he asked.
        found: Found,
        reply: Reply<Claimed>,
    },
    Swap {
        key: StoreKey,
        expect: Fence,
        fence: Fence,
        new: Encoded,
        keep: Keep,
        reply: Reply<Write>,
    },
    Remove {
        key: StoreKey,
        expect: Fence,
        reply: Reply<Write>,
    },
    Ping {
        reply: Reply<()>,
    },
}

pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// An operation that was done, if only the commit succeeds.
pub(super) enum Done {
    Claim(Reply<Claimed>, Result<Claimed, StoreError>),
    Write(Reply<Write>, Result<Write, StoreError>),
    Ping(Reply<()>, Result<(), StoreError>),
}

impl Job {
    /// How much it writes.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Claim { new, .. } | Self::Swap { new, .. } => {
                new.head.len() + new.response.as_ref().map_or(0, bytes::Bytes::len)
            }
            Self::Remove { .. } | Self::Ping { .. } => 0,
        }
    }

    /// Whether it would give a key to somebody who has left.
    pub(super) fn is_abandoned(&self) -> bool {
        let is_left = match self {
            Self::Claim { reply, .. } => reply.is_closed(),
            Self::Swap { expect, fence, reply, .. } => {
                expect.token != fence.token && reply.is_closed()
            }
            Self::Remove { .. } | Self::Ping { .. } => false,
        };
        is_left && !is_active(Mutant::MakeAbandonedClaims)
    }

    /// Whether it leaves nothing behind.
    pub(super) fn takes_back(&self) -> bool {
        matches!(self, Self::Remove { .. })
    }

    /// Does the operation. One that meets what cannot be read changes nothing and is an error
    /// to its own caller, whatever else is in the batch.
    pub(super) fn run(self, batch: &mut Batch<'_>) -> Done {
        match self {
            Self::Claim { key, fence, new, keep, found, reply } => {
                Done::Claim(reply, claim(batch, key, fence, (new, keep), &found))
            }
            Self::Swap { key, expect, fence, new, keep, reply } => {
                Done::Write(reply, swap(batch, key, (expect, fence), (new, keep)))
            }
            Self::Remove { key, expect, reply } => Done::Write(reply, remove(batch, key, expect)),
            Self::Ping { reply } => {
                Done::Ping(reply, if batch.is_full { Err(no_room()) } else { Ok(()) })
            }
        }
    }

    pub(super) fn refuse(self, error: StoreError) {
        match self {
            Self::Claim { reply, .. } => drop(reply.send(Err(error))),
            Self::Swap { reply, .. } | Self::Remove { reply, .. } => drop(reply.send(Err(error))),
            Self::Ping { reply } => drop(reply.send(Err(error))),
        }
    }
}

impl Done {
    // A caller who is gone has no use for his answer, and what he asked for is done.
    pub(super) fn answer(self) {
        match self {
            Self::Claim(reply, result) => drop(reply.send(result)),
            Self::Write(reply, result) => drop(reply.send(result)),
            Self::Ping(reply, result) => drop(reply.send(result)),
        }
    }

    pub(super) fn refuse(self, error: StoreError) {
        match self {
            Self::Claim(reply, _) => drop(reply.send(Err(error))),
            Self::Write(reply, _) => drop(reply.send(Err(error))),
            Self::Ping(reply, _) => drop(reply.send(Err(error))),
        }
    }
}

type New = (Encoded, Keep);

fn claim(
    batch: &mut Batch<'_>,
    key: StoreKey,
    fence: Fence,
    (new, keep): New,
    found: &Found,
) -> Result<Claimed, StoreError> {
    let now = batch.now;
    let row = batch.row(&key, found).map_err(unreadable)?;
    let held = row.map_or(Ok(None), |row| row.record(now));
    if held == Ok(None) {
        if batch.is_full {
            return Err(no_room());
        }
        // The tables refuse it, too, but for one that is not there yet.
        if batch.has_twin(&key) && !is_active(Mutant::LetTwinsIn) {
            return Err(unreadable(lost()));
        }
        batch.put(key, Some(Row::new(new, keep, now)));
    }
    claimed(held, fence)
}

fn swap(
    batch: &mut Batch<'_>,
    key: StoreKey,
    (expect, fence): (Fence, Fence),
    (new, keep): New,
) -> Result<Write, StoreError> {
    let now = batch.now;
    if batch.is_full && expect.token != fence.token {
        return Err(no_room());
    }
    let row = batch.bare(&key).map_err(unreadable)?;
    let held = row.map_or(Ok(None), |row| row.fence(now))?;
    if held.is_some_and(|held| expect.admits(held) || fence.admits(held)) {
        batch.put(key, Some(Row::new(new, keep, now)));
        Ok(Write::Applied)
    } else {
        Ok(Write::Fenced)
    }
}

fn remove(batch: &mut Batch<'_>, key: StoreKey, expect: Fence) -> Result<Write, StoreError> {
    let Some(row) = batch.bare(&key).map_err(unreadable)? else { return Ok(Write::Applied) };
    if row.fence(batch.now)?.is_none_or(|held| expect.admits(held)) {
        batch.put(key, None);
        Ok(Write::Applied)
    } else {
        Ok(Write::Fenced)
    }
}

/// What a claim by `fence` gets where `held` is found.
pub(super) fn claimed(held: Decoded<Option<Record>>, fence: Fence) -> Result<Claimed, StoreError> {
    Ok(match held? {
        Some(held) if held.fence().token != fence.token => Claimed::Held(held),
        Some(_) | None => Claimed::Mine,
    })
}
