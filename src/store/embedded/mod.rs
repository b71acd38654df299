//! Records in a file of this machine: durable, for one process.
//!
//! A data folder holds one redb database. Reads go through transactions of their
//! own; all writes go through [one thread](committer), which does what has queued
//! up in one transaction and one forced write to the disk.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::Ordering::Relaxed,
        mpsc::{self, Sender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use async_trait::async_trait;
use redb::{Database, ReadableDatabase, StorageBackend};
use tokio::sync::oneshot;

use self::{
    committer::{Committer, Condition},
    folder::not_opened,
    job::{Job, Reply},
    tables::unavailable,
};
use super::{Claimed, Cursor, Page, Store, StoreError, StoreErrorKind, Write};
use crate::{
    ambient::Ambient,
    engine::{
        codec,
        policy::Keep,
        record::{Fence, Record, StoreKey},
    },
};

mod committer;
mod folder;
mod job;
mod tables;

/// The database in the data folder.
const FILE: &str = "records.redb";

/// The memory for pages of the file. Records that are read again soon are in the
/// cache of done records anyway, and the rest in that of the operating system.
const CACHE: usize = 16 << 20;

/// A store in a data folder.
///
/// An operation that was answered with `Ok` survives a crash and a power cut, as
/// far as the disk keeps what it acknowledges. Lookups read the file in the
/// caller's task, which costs microseconds as long as the operating system has the
/// pages in memory.
///
/// Dropping the store finishes what was queued and blocks until that is done.
#[derive(Debug)]
pub struct EmbeddedStore {
    database: Arc<Database>,
    ambient: Arc<dyn Ambient>,
    condition: Arc<Condition>,
    /// `None` only while the store is being dropped.
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl EmbeddedStore {
    /// Opens the data folder, and creates it (for its owner only) if need be.
    ///
    /// Blocks: call it before the runtime is busy, or from a thread of its own.
    ///
    /// # Errors
    /// [`StoreErrorKind::Misconfigured`] when another process uses the folder or it
    /// was written by a later version, [`StoreErrorKind::Corrupt`] when the file in
    /// it is not of this program, [`StoreErrorKind::Unavailable`] when the folder
    /// cannot be created, read or written.
    pub fn open(folder: impl AsRef<Path>, ambient: Arc<dyn Ambient>) -> Result<Self, StoreError> {
        let path = folder.as_ref();
        let what = |what| format!("store.url: {what} the data folder {}", path.display());
        folder::create(path).map_err(|error| unavailable(&what("cannot create"), error))?;
        let file = path.join(FILE);
        let database = Database::builder()
            .set_cache_size(CACHE)
            .create(&file)
            .map_err(|error| not_opened(&file, error))?;
        // The name of a new file lasts only when its folder has been written too.
        folder::sync(path).map_err(|error| unavailable(&what("cannot write"), error))?;
        Self::start(database, &file.display().to_string(), ambient)
    }

    /// A store over any storage that redb can use, for instance one of a test that
    /// cuts the power. Blocks.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn with_backend(
        backend: impl StorageBackend,
        ambient: Arc<dyn Ambient>,
    ) -> Result<Self, StoreError> {
        let database = Database::builder()
            .set_cache_size(CACHE)
            .create_with_backend(backend)
            .map_err(|error| not_opened(Path::new("a custom backend"), error))?;
        Self::start(database, "a custom backend", ambient)
    }

    /// How many transactions were forced to the disk since the store was opened.
    /// Under load they are far fewer than the operations.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.condition.commits.load(Relaxed)
    }

    /// The number of records, expired ones that were not swept yet included.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`] when the file cannot be read.
    pub fn count(&self) -> Result<u64, StoreError> {
        tables::count(&self.reader()?).map_err(unreadable)
    }

    fn start(
        database: Database,
        name: &str,
        ambient: Arc<dyn Ambient>,
    ) -> Result<Self, StoreError> {
        let format = tables::prepare(&database)
            .map_err(|error| unavailable(&format!("store.url: cannot prepare {name}"), error))?;
        if format != tables::FORMAT {
            return Err(StoreError::new(
                StoreErrorKind::Misconfigured,
                format!(
                    "store.url: {name} has format {format}, this program reads format {}; \
                     use the version of oncegate that wrote it, or another folder",
                    tables::FORMAT
                ),
            ));
        }
        let database = Arc::new(database);
        let condition = Arc::new(Condition::default());
        let (jobs, queue) = mpsc::channel();
        let committer = Committer {
            database: Arc::clone(&database),
            ambient: Arc::clone(&ambient),
            jobs: queue,
            condition: Arc::clone(&condition),
        };
        let thread = thread::Builder::new()
            .name("oncegate-commit".to_owned())
            .spawn(|| committer.run())
            .map_err(|error| unavailable("the embedded store cannot start its thread", error))?;
        Ok(Self { database, ambient, condition, jobs: Some(jobs), thread: Some(thread) })
    }

    /// Hands an operation to the committer and waits for its answer.
    async fn ask<T>(&self, job: impl FnOnce(Reply<T>) -> Job) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        if let Some(jobs) = &self.jobs {
            // A queue without a reader drops the job, which the next line notices.
            let _ = jobs.send(job(reply));
        }
        answer.await.unwrap_or_else(|_| Err(StoreError::failed()))
    }

    fn reader(&self) -> Result<redb::ReadTransaction, StoreError> {
        if self.condition.failed.load(Relaxed) {
            return Err(StoreError::failed());
        }
        self.database.begin_read().map_err(unreadable)
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the embedded store's thread had panicked");
        }
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn claim(
        &self,
        key: &StoreKey,
        record: &Record,
        keep: Keep,
    ) -> Result<Claimed, StoreError> {
        let (key, fence) = (*key, record.fence());
        // What is there was committed; only an absent key needs the committer's word.
        let held = tables::read(&self.reader()?, &key, self.ambient.now()).map_err(unreadable)?;
        if held != Ok(None) {
            return job::claimed(held, fence);
        }
        let new = codec::encode(record, keep.record);
        self.ask(|reply| Job::Claim { key, fence, new, keep, reply }).await
    }

    async fn swap(
        &self,
        key: &StoreKey,
        expect: Fence,
        record: &Record,
        keep: Keep,
    ) -> Result<Write, StoreError> {
        let (key, fence, new) = (*key, record.fence(), codec::encode(record, keep.record));
        self.ask(|reply| Job::Swap { key, expect, fence, new, keep, reply }).await
    }

    async fn remove(&self, key: &StoreKey, expect: Fence) -> Result<Write, StoreError> {
        let key = *key;
        self.ask(|reply| Job::Remove { key, expect, reply }).await
    }

    async fn get(&self, key: &StoreKey) -> Result<Option<Record>, StoreError> {
        let held = tables::read(&self.reader()?, key, self.ambient.now()).map_err(unreadable)?;
        Ok(held?)
    }

    async fn age(&self, key: &StoreKey) -> Result<Option<(Fence, Duration)>, StoreError> {
        let age = tables::age(&self.reader()?, key, self.ambient.now()).map_err(unreadable)?;
        Ok(age?)
    }

    async fn scan(&self, cursor: Option<Cursor>, limit: usize) -> Result<Page, StoreError> {
        let after = cursor.and_then(|cursor| StoreKey::from_hex(&cursor.0));
        let limit = limit.max(1);
        let records = tables::list(&self.reader()?, after, limit, self.ambient.now());
        let records = records.map_err(unreadable)??;
        let next = (records.len() == limit)
            .then(|| records.last().map(|(key, _)| Cursor(key.to_string())))
            .flatten();
        Ok(Page { records, next })
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.ask(|reply| Job::Ping { reply }).await
    }
}

impl StoreError {
    /// After a commit failed, or when the thread that commits is gone.
    fn failed() -> Self {
        Self::new(
            StoreErrorKind::Unavailable,
            "the embedded store could not write before and refuses to go on; \
             see the log, then restart the gate",
        )
    }

    /// The same error once more, for everybody who waited for one commit.
    fn repeated(&self) -> Self {
        Self::new(self.kind, self.to_string())
    }
}

fn unreadable(error: impl std::fmt::Display) -> StoreError {
    unavailable("the embedded store cannot read", error)
}
