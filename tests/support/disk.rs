//! A disk below redb.

use std::{
    io,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
};

use redb::{StorageBackend, backends::InMemoryBackend};

/// A file on a disk whose forced writes wait at a gate, and can fail.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    inner: InMemoryBackend,
    gate: Arc<Gate>,
    bad: Arc<AtomicBool>,
}

/// What the test holds of a [`Disk`].
#[derive(Debug, Default)]
pub(crate) struct Gate {
    closed: Mutex<bool>,
    waiting: AtomicUsize,
    opened: Condvar,
    failing: AtomicBool,
    /// How long a file may get.
    limit: Mutex<Option<u64>>,
    reads: AtomicUsize,
    bad_reads: AtomicUsize,
}

impl Disk {
    /// Another file on the same disk.
    pub(crate) fn file(&self) -> Self {
        Self { inner: InMemoryBackend::new(), gate: self.gate(), bad: Arc::default() }
    }

    /// Whether this file cannot be read, for the test to say.
    pub(crate) fn bad(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.bad)
    }

    /// The gate of this disk, for the test to keep.
    pub(crate) fn gate(&self) -> Arc<Gate> {
        Arc::clone(&self.gate)
    }
}

impl Gate {
    /// How often the files were read.
    pub(crate) fn reads(&self) -> usize {
        self.reads.load(SeqCst)
    }

    /// How often a file was read that cannot be.
    pub(crate) fn bad_reads(&self) -> usize {
        self.bad_reads.load(SeqCst)
    }

    /// Makes forced writes fail, or succeed again.
    pub(crate) fn fail(&self, failing: bool) {
        self.failing.store(failing, SeqCst);
    }

    /// Lets no file get longer than that, or lets them get as long as they like.
    pub(crate) fn limit(&self, length: Option<u64>) {
        *self.limit.lock().unwrap() = length;
    }

    /// Makes forced writes wait.
    pub(crate) fn close(&self) {
        *self.closed.lock().unwrap() = true;
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(SeqCst)
    }

    /// Lets them go on.
    pub(crate) fn open(&self) {
        *self.closed.lock().unwrap() = false;
        self.opened.notify_all();
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.gate.reads.fetch_add(1, SeqCst);
        if self.bad.load(SeqCst) {
            self.gate.bad_reads.fetch_add(1, SeqCst);
            return Err(io::Error::other("the test's disk has a bad sector"));
        }
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let limit = *self.gate.limit.lock().unwrap();
        if limit.is_some_and(|limit| len > limit) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.gate.waiting.fetch_add(1, SeqCst);
        let closed = self.gate.closed.lock().unwrap();
        drop(self.gate.opened.wait_while(closed, |closed| *closed).unwrap());
        self.gate.waiting.fetch_sub(1, SeqCst);
        match self.gate.failing.load(SeqCst) {
            true => Err(io::Error::other("the test's disk fails")),
            false => self.inner.sync_data(),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.inner.write(offset, data)
    }
}
