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
//! 7. Where there is no room for a frame nothing is in doubt. Until there is, claims and what
//!    takes a key over are refused, since their ends would have no room either.
//! 8. From time to time what has gathered is handed to the [mover](super::mover), and
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
    journal::{self, Journal, Unwritten},
    mover::Move,
    recent::{Found, Fuse, Shared, has_twin},
    responses::Haste,
    row::{self, Changes, Row},
    tables::{Broken, Reader, unavailable},
};
use crate::{
    engine::record::{StoreKey, Timestamp},
    mutants::{Mutant, is_active},
    store::{StoreError, StoreErrorKind},
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

/// More than a frame has besides its changes.
const MARGIN: usize = 8192;

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
    /// The length of a frame that the journal had no room for; 0: there was room for the last.
    pub(super) wanting: usize,
}

/// One batch while it is decided on.
pub(super) struct Batch<'s> {
    shared: &'s Shared,
    pub(super) now: Timestamp,
    /// There is no room for what leads to more.
    pub(super) is_full: bool,
    changes: Changes,
}

impl Committer {
    /// Works until the last sender is gone and the queue is empty, and moves what is left, if that
    /// has room.
    pub(super) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let _panic = Fuse(&shared);
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
        // What has no room in the tables is moved when the folder is opened again.
        while self.since.is_some() && !self.shared.failed.load(Relaxed) && self.shared.has_room() {
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
        if self.wanting > 0 && self.journal.make_room(self.wanting).is_ok() {
            tracing::info!("there is room for the journal of the embedded store again");
            self.wanting = 0;
        }
        // The last of the memory is for the ends of what runs.
        let is_full = self.wanting > 0 || (!self.shared.has_room() && self.crowded() > 0.0);
        let is_full = is_full && !is_active(Mutant::ClaimWithoutRoom);
        let mut batch = Batch { shared: &self.shared, now, is_full, changes: Changes::new() };
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
        let frame = row::encode(&changes);
        let written = match self.journal.append(&frame, force) {
            Ok(written) => written,
            Err(Unwritten::NotBegun(error)) if !is_active(Mutant::FullForGood) => {
                if self.wanting == 0 {
                    tracing::error!(%error, "there is no room for the journal of the embedded store");
                }
                self.wanting = self.wanting.max(frame.len() + MARGIN).max(journal::GROWTH);
                return Err(no_room().because(error));
            }
            Err(Unwritten::NotBegun(error) | Unwritten::InDoubt(error)) => {
                tracing::error!(%error, "the embedded store could not write");
                self.shared.failed.store(true, Relaxed);
                return Err(unavailable("the embedded store could not write", error));
            }
        };
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
        let weight = std::mem::take(&mut recent.weight);
        drop(recent);
        self.since = None;
        let last = self.journal.last();
        self.journal.turn_over();
        // A mover that is gone has panicked; then these changes stay where they are.
        let _ = self.moves.send(Move { changes, last, weight });
    }

    /// Lets the mover catch up.
    fn slow_down(&mut self) {
        let crowded = self.crowded();
        if crowded > 0.0 {
            thread::sleep(DELAY.mul_f64(crowded.min(1.0)));
        }
        while self.crowded() >= 1.0 && !self.shared.failed.load(Relaxed) && !self.shared.ends() {
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

/// There is no room on the disk, and nothing was written.
pub(super) fn no_room() -> StoreError {
    let what = "there is no room for the embedded store; make room on the disk of its data \
                folder, and it goes on by itself";
    StoreError::new(StoreErrorKind::Unavailable, what).undone()
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
