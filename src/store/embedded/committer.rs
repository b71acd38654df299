//! The one thread that decides and writes the journal.
//!
//! 1. What is queued becomes one frame of the journal, in the order of arrival, up to
//!    [`BATCH`] operations; nobody waits for a batch to fill.
//! 2. An operation is answered when its frame has been forced to the disk.
//! 3. A batch that changes nothing writes nothing: what it read lasts already.
//! 4. A claim that nobody waits for any more is not made. He may have been told that the disk
//!    does not answer, and a record without an owner would be an outcome that is unknown.
//! 5. What cannot be read is an error to whoever asked for it, and nobody else.
//! 6. When a write fails, nobody knows whether it lasts. Everything after it is
//!    refused until the files have been opened anew.
//! 7. From time to time what has gathered is handed to the [mover](super::mover), and
//!    the journal goes on in its other file. One such move is under way at a time; when
//!    the mover falls behind, batches are delayed, a little at first.

use std::{
    sync::{
        Arc,
        atomic::Ordering::Relaxed,
        mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError},
    },
    thread,
    time::Duration,
};

use super::{
    job::{Done, Job},
    journal::Journal,
    mover::Move,
    recent::{Found, Shared, has_twin},
    responses::Haste,
    row::{self, Changes, Row},
    tables::{Broken, Reader, unavailable},
};
use crate::{
    engine::record::{StoreKey, Timestamp},
    mutants::{Mutant, is_active},
    store::StoreError,
};

/// The most operations of one batch.
const BATCH: usize = 256;

/// The most bytes of one batch, so that large responses do not pile up in memory; the
/// operation that crosses the line still belongs to it.
const BATCH_BYTES: usize = 8 << 20;

/// How much gathers before it is moved: the more, the fewer pages of the tables are
/// written for each change. So many keys share the pages of the youngest generation of the
/// [index](super::index), some eight hundred.
const GATHER: Size = Size { keys: 16_384, bytes: 16 << 20 };

/// How long it gathers at the most, by the store's clock, under load: so long that a load of
/// a few thousand keys a second is moved by [`GATHER`], since whoever claims meanwhile waits
/// for a disk that is busy with the pages of a move.
const GATHER_TIME: Duration = Duration::from_secs(4);

/// How long it is quiet before what has gathered is moved anyway.
const QUIET: Duration = Duration::from_millis(50);

/// From here on batches are delayed.
const CROWDED: Size = Size { keys: 32_768, bytes: 32 << 20 };

/// No more than this is kept in memory.
const FULL: Size = Size { keys: 131_072, bytes: 64 << 20 };

/// The delay of one batch when it is full.
const DELAY: Duration = Duration::from_millis(20);

#[derive(Clone, Copy)]
struct Size {
    keys: usize,
    bytes: usize,
}

/// The thread's own things.
pub(super) struct Committer {
    pub(super) shared: Arc<Shared>,
    pub(super) jobs: Receiver<Job>,
    pub(super) journal: Journal,
    pub(super) moves: Sender<Move>,
    /// When the oldest change that has gathered was written.
    pub(super) since: Option<Timestamp>,
}

/// One batch while it is decided on.
pub(super) struct Batch<'s> {
    shared: &'s Shared,
    pub(super) now: Timestamp,
    changes: Changes,
}

impl Committer {
    /// Works until the last sender is gone and the queue is empty, and moves what is left.
    pub(super) fn run(mut self) {
        loop {
            // With nothing to move there is nothing to do before the next job.
            let waits = self.since.is_some() && !self.shared.failed.load(Relaxed);
            let next = match waits {
                true => self.jobs.recv_timeout(QUIET),
                false => self.jobs.recv().map_err(Into::into),
            };
            match next {
                Ok(first) => {
                    self.shared.hand.take();
                    let batch = self.gather(first);
                    self.work(batch);
                    self.move_on(false);
                    self.slow_down();
                    self.shared.hand.lay_down();
                }
                Err(RecvTimeoutError::Timeout) => self.move_on(true),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        while !self.shared.failed.load(Relaxed) && self.since.is_some() {
            self.move_on(true);
            thread::sleep(Duration::from_millis(1));
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

    /// Does a batch and answers it.
    fn work(&mut self, jobs: Vec<Job>) {
        if let Err(error) = self.shared.check() {
            return jobs.into_iter().for_each(|job| job.refuse(error.repeated()));
        }
        let now = self.shared.ambient.now();
        let mut batch = Batch { shared: &self.shared, now, changes: Changes::new() };
        let wanted = jobs.into_iter().filter(|job| !job.is_abandoned());
        let done: Vec<Done> = wanted.map(|job| job.run(&mut batch)).collect();
        let changes = batch.changes;
        match self.commit(changes, now) {
            Ok(()) => done.into_iter().for_each(Done::answer),
            Err(error) => done.into_iter().for_each(|done| done.refuse(error.repeated())),
        }
    }

    /// Makes what a batch has decided at `now` last.
    fn commit(&mut self, changes: Changes, now: Timestamp) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        let force = !is_active(Mutant::AcknowledgeUnsynced);
        let written = self.journal.append(&row::encode(&changes), force).map_err(|error| {
            tracing::error!(%error, "the embedded store could not write");
            self.shared.failed.store(true, Relaxed);
            unavailable("the embedded store could not write", error)
        })?;
        self.shared.commits.fetch_add(1, Relaxed);
        self.since.get_or_insert(now);
        let mut recent = self.shared.recent_mut();
        recent.weight += written;
        recent.growing.extend(changes);
        Ok(())
    }

    /// Hands over what has gathered, if it is time and the last move has ended.
    fn move_on(&mut self, quiet: bool) {
        let Some(since) = self.since else { return };
        let recent = self.shared.recent();
        let old = self.shared.ambient.now() >= since.after(GATHER_TIME);
        let enough = recent.growing.len() >= GATHER.keys || recent.weight >= GATHER.bytes;
        if recent.moving.is_some() || !(quiet || old || enough) {
            return;
        }
        drop(recent);
        let mut recent = self.shared.recent_mut();
        let changes = Arc::new(std::mem::take(&mut recent.growing));
        recent.moving = Some(Arc::clone(&changes));
        recent.weight = 0;
        drop(recent);
        self.since = None;
        let last = self.journal.last();
        self.journal.turn_over();
        // A mover that is gone has panicked; then these changes stay where they are.
        let _ = self.moves.send(Move { changes, last });
    }

    /// Lets the mover catch up.
    fn slow_down(&mut self) {
        let crowded = self.crowded();
        if crowded > 0.0 {
            thread::sleep(DELAY.mul_f64(crowded.min(1.0)));
        }
        while self.crowded() >= 1.0 && !self.shared.failed.load(Relaxed) {
            self.move_on(false);
            thread::sleep(DELAY);
        }
    }

    /// 0: there is room; 1 and more: there is none.
    fn crowded(&self) -> f64 {
        let share =
            |is: usize, from: usize, to: usize| is.saturating_sub(from) as f64 / (to - from) as f64;
        let recent = self.shared.recent();
        let keys = share(recent.growing.len(), CROWDED.keys, FULL.keys);
        keys.max(share(recent.weight, CROWDED.bytes, FULL.bytes))
    }
}

impl Batch<'_> {
    /// What `key` holds by now; its response may be left out, and what has expired.
    pub(super) fn bare(&self, key: &StoreKey) -> Result<Option<Arc<Row>>, Broken> {
        self.look(key, |tables| tables.bare(key, self.now))
    }

    /// What `key` holds by now; what has expired may be left out. `found` is what a look
    /// before the batch found.
    pub(super) fn row(&self, key: &StoreKey, found: &Found) -> Result<Option<Arc<Row>>, Broken> {
        if let Some(row) = self.changes.get(key) {
            return Ok(row.clone());
        }
        let recent = self.shared.recent();
        let still = recent.get(key).is_none() && recent.moved == found.as_of;
        drop(recent);
        if still && found.row.is_none() {
            return Ok(None);
        }
        self.look(key, |tables| tables.row(key, self.now, Haste::Wait))
    }

    /// Whether another key that would have the same place in the tables is on its way there.
    pub(super) fn has_twin(&self, key: &StoreKey) -> bool {
        has_twin(&self.changes, key) || self.shared.recent().has_twin(key)
    }

    /// Decides what `key` holds from now on.
    pub(super) fn put(&mut self, key: StoreKey, row: Option<Row>) {
        self.changes.insert(key, row.map(Arc::new));
    }

    fn look(
        &self,
        key: &StoreKey,
        read: impl FnOnce(&Reader) -> Result<Option<Row>, Broken>,
    ) -> Result<Option<Arc<Row>>, Broken> {
        if let Some(row) = self.changes.get(key) {
            return Ok(row.clone());
        }
        let recent = self.shared.recent();
        if let Some(row) = recent.get(key) {
            return Ok(row.clone());
        }
        let tables = Arc::clone(&recent.tables);
        drop(recent);
        Ok(read(&tables)?.map(Arc::new))
    }
}
