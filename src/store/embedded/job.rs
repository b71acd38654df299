//! The operations that the committer does, one by one.

use tokio::sync::oneshot;

use super::{
    committer::Batch,
    recent::Found,
    row::{Decoded, Row},
    tables::Broken,
};
use crate::{
    engine::{
        codec::Encoded,
        policy::Keep,
        record::{Fence, Record, StoreKey},
    },
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
    Ping(Reply<()>),
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

    /// Does the operation.
    ///
    /// When the tables are broken the caller's reply is dropped with the job, which he
    /// reads as an error.
    pub(super) fn run(self, batch: &mut Batch<'_>, done: &mut Vec<Done>) -> Result<(), Broken> {
        let now = batch.now;
        match self {
            Self::Claim { key, fence, new, keep, found, reply } => {
                let row = batch.row(&key, &found)?;
                let held = row.map_or(Ok(None), |row| row.record(now));
                if held == Ok(None) {
                    batch.put(key, Some(Row::new(new, keep, now)));
                }
                done.push(Done::Claim(reply, claimed(held, fence)));
            }
            Self::Swap { key, expect, fence, new, keep, reply } => {
                let held = batch.bare(&key)?.map_or(Ok(None), |row| row.fence(now));
                let admits = |held| expect.admits(held) || fence.admits(held);
                let result = held.map(|held| held.is_some_and(admits));
                if result == Ok(true) {
                    batch.put(key, Some(Row::new(new, keep, now)));
                }
                done.push(Done::Write(reply, written(result)));
            }
            Self::Remove { key, expect, reply } => {
                let row = batch.bare(&key)?;
                let there = row.is_some();
                let held = row.map_or(Ok(None), |row| row.fence(now));
                let result = held.map(|held| held.is_none_or(|held| expect.admits(held)));
                if there && result == Ok(true) {
                    batch.put(key, None);
                }
                done.push(Done::Write(reply, written(result)));
            }
            Self::Ping { reply } => done.push(Done::Ping(reply)),
        }
        Ok(())
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
            Self::Ping(reply) => drop(reply.send(Ok(()))),
        }
    }

    pub(super) fn refuse(self, error: StoreError) {
        match self {
            Self::Claim(reply, _) => drop(reply.send(Err(error))),
            Self::Write(reply, _) => drop(reply.send(Err(error))),
            Self::Ping(reply) => drop(reply.send(Err(error))),
        }
    }
}

/// What a claim by `fence` gets where `held` is found.
pub(super) fn claimed(held: Decoded<Option<Record>>, fence: Fence) -> Result<Claimed, StoreError> {
    Ok(match held? {
        Some(held) if held.fence().token != fence.token => Claimed::Held(held),
        Some(_) | None => Claimed::Mine,
    })
}

fn written(admitted: Decoded<bool>) -> Result<Write, StoreError> {
    Ok(if admitted? { Write::Applied } else { Write::Fenced })
}
