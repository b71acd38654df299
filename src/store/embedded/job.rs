//! The operations that the committer does, one by one.

use tokio::sync::oneshot;

use super::tables::{Broken, Decoded, Shelf};
use crate::{
    engine::{
        codec::Encoded,
        policy::Keep,
        record::{Fence, Record, StoreKey, Timestamp},
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

    /// Does the operation. Says whether it changed anything.
    ///
    /// When the file is broken the caller's reply is dropped with the job, which he
    /// reads as an error.
    pub(super) fn run(
        self,
        shelf: &mut Shelf<'_>,
        now: Timestamp,
        done: &mut Vec<Done>,
    ) -> Result<bool, Broken> {
        match self {
            Self::Claim { key, fence, new, keep, reply } => {
                let held = shelf.read(&key, now)?;
                let absent = held == Ok(None);
                if absent {
                    shelf.write(&key, &new, keep, now)?;
                }
                done.push(Done::Claim(reply, claimed(held, fence)));
                Ok(absent)
            }
            Self::Swap { key, expect, fence, new, keep, reply } => {
                let held = shelf.fence(&key, now)?;
                let admits = |held| expect.admits(held) || fence.admits(held);
                let result = held.map(|held| held.is_some_and(admits));
                let applied = result == Ok(true);
                if applied {
                    shelf.write(&key, &new, keep, now)?;
                }
                done.push(Done::Write(reply, written(result)));
                Ok(applied)
            }
            Self::Remove { key, expect, reply } => {
                let held = shelf.fence(&key, now)?;
                let result = held.map(|held| held.is_none_or(|held| expect.admits(held)));
                let changed = result == Ok(true) && shelf.forget(&key)?;
                done.push(Done::Write(reply, written(result)));
                Ok(changed)
            }
            Self::Ping { reply } => {
                done.push(Done::Ping(reply));
                Ok(false)
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
