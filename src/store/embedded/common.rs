//! A file for tests, which can be opened again and outlives who had it.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use redb::{StorageBackend, backends::InMemoryBackend};

use super::peeking::Peek;

/// Its clones are the same file.
#[derive(Clone, Debug)]
pub(super) struct Common {
    file: Arc<InMemoryBackend>,
    forced: Arc<AtomicUsize>,
}

impl Common {
    /// How often it was forced to the disk.
    pub(super) fn forced(&self) -> usize {
        self.forced.load(Relaxed)
    }
}

impl Default for Common {
    fn default() -> Self {
        Self { file: Arc::new(InMemoryBackend::new()), forced: Arc::default() }
    }
}

impl Peek for Common {}

impl StorageBackend for Common {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.forced.fetch_add(1, Relaxed);
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(offset, data)
    }
}
