//! A file for tests, which can be opened again and outlives who had it.

use std::{io, sync::Arc};

use redb::{StorageBackend, backends::InMemoryBackend};

/// Its clones are the same file.
#[derive(Clone, Debug)]
pub(super) struct Common(Arc<InMemoryBackend>);

impl Default for Common {
    fn default() -> Self {
        Self(Arc::new(InMemoryBackend::new()))
    }
}

impl StorageBackend for Common {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}
