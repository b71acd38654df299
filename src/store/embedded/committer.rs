//! The one thread that writes.
//!
//! 1. What is queued is done in one transaction, in the order of arrival, up to
//!    [`BATCH`] operations; nobody waits for a batch to fill.
//! 2. An operation is answered when its transaction has been committed, and the
//!    commit has been forced to the disk.
//! 3. A transaction that changes nothing is not committed: what it read was
//!    committed before.
//! 4. When a commit fails, nobody knows whether it lasts. Everything after it is
//!    refused until the file has been opened anew.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, RecvTimeoutError, TryRecvError},
    },
    time::Duration,
};

use redb::{Database, Durability};
use tokio::sync::oneshot;

use super::tables::{Broken, Decoded, Shelf, unavailable};
use crate::{
    ambient::Ambient,
    engine::{
        codec::Encoded,
        policy::Keep,
        record::{Fence, StoreKey, Timestamp},
    },
    store::{Claimed, StoreError, Write},
};

/// The most operations of one transaction.
const BATCH: usize = 256;

/// The most bytes of one transaction, so that large responses do not pile up in
/// memory; the operation that crosses the line still belongs to it.
const BATCH_BYTES: usize = 8 << 20;

/// How many expired entries every transaction removes, on top of as many as its
/// operations may have added.
const SWEEP: usize = 64;

/// How long the thread waits for work before it looks for expired entries.
const IDLE: Duration = Duration::from_secs(1);

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
enum Done {
    Claim(Reply<Claimed>, Result<Claimed, StoreError>),
    Write(Reply<Write>, Result<Write, StoreError>),
    Ping(Reply<()>),
}

/// What the thread and the store's handles share.
#[derive(Debug, Default)]
pub(super) struct Condition {
    /// A commit has failed.
    pub(super) failed: AtomicBool,
    /// Commits that were forced to the disk.
    pub(super) commits: AtomicU64,
}

/// The thread's own things.
pub(super) struct Committer {
    pub(super) database: Arc<Database>,
    pub(super) ambient: Arc<dyn Ambient>,
    pub(super) jobs: Receiver<Job>,
    pub(super) condition: Arc<Condition>,
}

impl Committer {
    /// Works until the last sender is gone and the queue is empty.
    pub(super) fn run(self) {
        let mut idle = IDLE;
        loop {
            let batch = match self.jobs.recv_timeout(idle) {
                Ok(first) => self.gather(first),
                Err(RecvTimeoutError::Timeout) => Vec::new(),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let full = SWEEP + 2 * batch.len();
            let swept = self.work(batch);
            // More has expired than one transaction removes: go on as soon as nobody waits.
            idle = if swept == full { Duration::ZERO } else { IDLE };
        }
    }

    fn gather(&self, first: Job) -> Vec<Job> {
        let mut bytes = first.bytes();
        let mut batch = vec![first];
        while batch.len() < BATCH && bytes < BATCH_BYTES {
            match self.jobs.try_recv() {
                Ok(job) => {
                    bytes += job.bytes();
                    batch.push(job);
                }
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        batch
    }

    /// Does a batch in one transaction and answers it. Returns how many expired
    /// entries were removed.
    fn work(&self, batch: Vec<Job>) -> usize {
        let mut done = Vec::with_capacity(batch.len());
        let mut waiting = batch.into_iter();
        let result = if self.condition.failed.load(Relaxed) {
            Err(StoreError::failed())
        } else {
            self.transaction(&mut waiting, &mut done).map_err(|error| {
                tracing::error!(%error, "the embedded store could not write");
                unavailable("the embedded store could not write", error)
            })
        };
        match result {
            Ok(swept) => {
                done.into_iter().for_each(Done::answer);
                swept
            }
            Err(error) => {
                done.into_iter().for_each(|done| done.refuse(error.repeated()));
                waiting.for_each(|job| job.refuse(error.repeated()));
                0
            }
        }
    }

    fn transaction(
        &self,
        batch: &mut impl Iterator<Item = Job>,
        done: &mut Vec<Done>,
    ) -> Result<usize, Broken> {
        let now = self.ambient.now();
        let mut transaction = self.database.begin_write().map_err(|e| Box::new(e.into()))?;
        transaction.set_durability(Durability::Immediate).map_err(|e| Box::new(e.into()))?;
        transaction.set_quick_repair(true);
        let mut shelf = Shelf::open(&transaction)?;
        let mut changes = 0;
        for job in batch.by_ref() {
            changes += usize::from(job.run(&mut shelf, now, done)?);
        }
        let swept = shelf.sweep(now, SWEEP + 2 * done.len())?;
        drop(shelf);
        if changes + swept == 0 {
            transaction.abort().map_err(|e| Box::new(e.into()))?;
            return Ok(0);
        }
        if let Err(error) = transaction.commit() {
            self.condition.failed.store(true, Relaxed);
            return Err(Box::new(error.into()));
        }
        self.condition.commits.fetch_add(1, Relaxed);
        Ok(swept)
    }
}

impl Job {
    fn bytes(&self) -> usize {
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
    fn run(
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

    fn refuse(self, error: StoreError) {
        match self {
            Self::Claim { reply, .. } => drop(reply.send(Err(error))),
            Self::Swap { reply, .. } | Self::Remove { reply, .. } => drop(reply.send(Err(error))),
            Self::Ping { reply } => drop(reply.send(Err(error))),
        }
    }
}

impl Done {
    // A caller who is gone has no use for his answer, and what he asked for is done.
    fn answer(self) {
        match self {
            Self::Claim(reply, result) => drop(reply.send(result)),
            Self::Write(reply, result) => drop(reply.send(result)),
            Self::Ping(reply) => drop(reply.send(Ok(()))),
        }
    }

    fn refuse(self, error: StoreError) {
        match self {
            Self::Claim(reply, _) => drop(reply.send(Err(error))),
            Self::Write(reply, _) => drop(reply.send(Err(error))),
            Self::Ping(reply) => drop(reply.send(Err(error))),
        }
    }
}

/// What a claim by `fence` gets where `held` is found.
pub(super) fn claimed(
    held: Decoded<Option<crate::engine::record::Record>>,
    fence: Fence,
) -> Result<Claimed, StoreError> {
    Ok(match held? {
        Some(held) if held.fence().token != fence.token => Claimed::Held(held),
        Some(_) | None => Claimed::Mine,
    })
}

fn written(admitted: Decoded<bool>) -> Result<Write, StoreError> {
    Ok(if admitted? { Write::Applied } else { Write::Fenced })
}
