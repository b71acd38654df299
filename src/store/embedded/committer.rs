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

use super::{
    job::{Done, Job},
    tables::{Broken, Shelf, unavailable},
};
use crate::{
    ambient::Ambient,
    mutants::{Mutant, is_active},
    store::StoreError,
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
        let durability = match is_active(Mutant::AcknowledgeUnsynced) {
            true => Durability::None,
            false => Durability::Immediate,
        };
        transaction.set_durability(durability).map_err(|e| Box::new(e.into()))?;
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
