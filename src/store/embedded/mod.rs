//! Records in files of this machine: durable, for one process.
//!
//! A data folder holds a redb database, the tables, a file of responses, two files of a
//! journal, and one whose lock is taken in the [first] start.
//!
//! 1. One thread, the [committer], decides all writes, makes one [frame](journal) of
//!    what has queued up, and answers when the frame was forced to the disk: one
//!    small write in a row, however many records there are.
//! 2. What was forced is found in [memory](recent) until another thread, the
//!    [mover], has put thousands of changes into the [tables] in one transaction.
//!    It removes what has expired, too. Nobody waits for it.
//! 3. Opening the folder puts what the journal holds into the tables first.
//! 4. A disk that hangs is an error in time. What was asked of it may be done all the same, but
//!    for a claim or a take-over that nobody waits for any more.
//! 5. A disk that is full is waited for: nothing is begun that may have no room, and what is there
//!    is told meanwhile.
//!
//! Reads look into memory first, then into the tables as they were committed last.

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::Ordering::Relaxed,
        mpsc::{self, Sender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use redb::{Database, StorageBackend, backends::FileBackend};
use tokio::sync::Semaphore;

use self::{
    committer::Committer,
    disk::Room,
    folder::not_opened,
    job::Job,
    journal::{File, Journal},
    mover::Mover,
    paced::Paced,
    recent::Shared,
    tables::{Broken, unavailable},
};
use super::{StoreError, StoreErrorKind};
use crate::ambient::Ambient;

mod asking;
mod committer;
#[cfg(test)]
mod common;
mod disk;
mod filter;
mod first;
mod folder;
mod index;
mod job;
mod journal;
mod meta;
mod mover;
mod opening;
mod operations;
mod options;
mod paced;
mod peeking;
mod recent;
mod responses;
mod row;
mod shelf;
mod tables;

pub use options::EmbeddedOptions;

/// How many reads may wait for the disk: more would wait for each other there.
const READERS: usize = 32;

/// The database in the data folder.
const FILE: &str = "records.redb";

/// The file of responses beside it.
const RESPONSES: &str = "responses";

/// The files of the journal beside it.
const JOURNAL: [&str; 2] = ["journal.0", "journal.1"];

/// A store in a data folder.
///
/// An operation that was answered with `Ok` survives a crash and a power cut, as
/// far as the disk keeps what it acknowledges. Lookups read what the operating system has in
/// memory in the caller's task, which costs microseconds. A response that it has not is read by a
/// thread of tokio's that may block, so that nobody else waits for the disk (on Linux).
///
/// Dropping the store finishes what was queued and blocks until that is done.
#[derive(Debug)]
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    /// `None` only while the store is being dropped.
    jobs: Option<Sender<Job>>,
    /// The committer and the mover, in this order.
    threads: Vec<JoinHandle<()>>,
    reply_within: Duration,
    /// Who may wait for the disk at a time, to read what is not in memory.
    readers: Arc<Semaphore>,
}

impl EmbeddedStore {
    /// Opens the data folder, and creates it (for its owner only) if need be.
    ///
    /// Blocks: call it before the runtime is busy, or from a thread of its own.
    ///
    /// # Errors
    /// [`StoreErrorKind::Misconfigured`] when another process uses the folder or it
    /// was written by another version, [`StoreErrorKind::Corrupt`] when the file in
    /// it is not of this program, [`StoreErrorKind::Unavailable`] when the folder
    /// cannot be created, read or written.
    pub fn open(folder: impl AsRef<Path>, ambient: Arc<dyn Ambient>) -> Result<Self, StoreError> {
        Self::open_with(folder, ambient, EmbeddedOptions::default())
    }

    /// The same with options.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(
        folder: impl AsRef<Path>,
        ambient: Arc<dyn Ambient>,
        options: EmbeddedOptions,
    ) -> Result<Self, StoreError> {
        let path = folder.as_ref();
        let what = |what| format!("store.url: {what} the data folder {}", path.display());
        folder::create(path).map_err(|error| unavailable(&what("cannot create"), error))?;
        first::begin(path, &*ambient, FileBackend::new)?;
        let file = path.join(FILE);
        let tables = folder::tables(&file).map_err(|error| not_opened(&file, error))?;
        let database = Database::builder()
            .set_cache_size(options.page_cache)
            .create_with_backend(tables)
            .map_err(|error| not_opened(&file, error))?;
        let files = || {
            let [first, second] = JOURNAL.map(|name| folder::journal(&path.join(name)));
            Ok((folder::responses(&path.join(RESPONSES))?, [first?, second?]))
        };
        let (responses, journal) = files()
            .map_err(|error: io::Error| unavailable(&what("cannot open a file in"), error))?;
        // The names of new files last only when their folder has been written too.
        folder::sync(path).map_err(|error| unavailable(&what("cannot write"), error))?;
        let files = (responses, journal);
        let room = folder::room(path);
        Self::start(database, files, &file.display().to_string(), ambient, (options, room))
    }

    /// A store over any storage that redb can use, for instance one of a test that
    /// cuts the power: for the tables, the responses, and the two files of the journal. Blocks.
    ///
    /// Tables that are new are made in place: one that is interrupted while it makes them is not
    /// opened again.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn with_backends(
        tables: impl StorageBackend,
        responses: impl StorageBackend,
        journal: [impl StorageBackend; 2],
        ambient: Arc<dyn Ambient>,
        options: EmbeddedOptions,
    ) -> Result<Self, StoreError> {
        let database = Database::builder()
            .set_cache_size(options.page_cache)
            .create_with_backend(Paced::new(tables))
            .map_err(|error| not_opened(Path::new("a custom backend"), error))?;
        let journal = journal.map(|file| Box::new(file) as File);
        let responses: peeking::File = Box::new(Paced::new(responses));
        let room = Room::unknown();
        Self::start(database, (responses, journal), "a custom backend", ambient, (options, room))
    }

    /// How many times the journal was forced to the disk since the store was opened.
    /// Under load this is far less than the operations.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.shared.commits.load(Relaxed)
    }

    /// The number of records, expired ones that were not removed yet included.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`] when the file cannot be read.
    pub fn count(&self) -> Result<u64, StoreError> {
        self.shared.check()?;
        self.shared.count().map_err(unreadable)
    }

    fn start(
        database: Database,
        (responses, journal): (peeking::File, [File; 2]),
        name: &str,
        ambient: Arc<dyn Ambient>,
        (options, room): (EmbeddedOptions, Room),
    ) -> Result<Self, StoreError> {
        let (layout, tables, (last, secret)) =
            opening::tables(&database, responses, &journal, name, &*ambient)?;
        let shared = Arc::new(Shared::new(database, tables, ambient, room));
        let (jobs, queue) = mpsc::channel();
        let (moves, moving) = mpsc::channel();
        let committer = Committer {
            shared: Arc::clone(&shared),
            jobs: queue,
            journal: Journal::new(journal, last, secret),
            moves,
            since: None,
            wanting: 0,
        };
        let mover = Mover { shared: Arc::clone(&shared), moves: moving, layout, waiting: None };
        let threads = [
            spawn("oncegate-commit", || committer.run())?,
            spawn("oncegate-tables", || mover.run())?,
        ];
        Ok(Self {
            shared,
            jobs: Some(jobs),
            threads: threads.into(),
            reply_within: options.reply_timeout,
            readers: Arc::new(Semaphore::new(READERS)),
        })
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StoreError> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(|error| unavailable("the embedded store cannot start its threads", error))
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.shared.closing.store(true, Relaxed);
        self.jobs = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the embedded store had panicked");
            }
        }
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
        let again = Self::new(self.kind, self.to_string());
        if self.is_undone() { again.undone() } else { again }
    }
}

/// Whether it was not read because that would wait for the disk.
fn would_wait(error: &redb::Error) -> bool {
    matches!(error, redb::Error::Io(error) if error.kind() == io::ErrorKind::WouldBlock)
}

fn unreadable(error: Broken) -> StoreError {
    let kind = match *error {
        redb::Error::Corrupted(_) => StoreErrorKind::Corrupt,
        _ => StoreErrorKind::Unavailable,
    };
    StoreError::new(kind, "the embedded store cannot read").because(error.to_string())
}

#[cfg(test)]
mod tests;
