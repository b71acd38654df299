//! The file of the embedded store while it is filled: nothing is forced to the disk before
//! the end, since millions of forced writes would be most of the work and no part of the
//! result.

use std::{
    fs::{File, OpenOptions},
    io,
    path::Path,
};

use redb::{StorageBackend, backends::FileBackend};

use crate::Result;

/// A file that is forced to the disk when it is closed.
#[derive(Debug)]
pub(super) struct Unforced {
    inner: FileBackend,
    file: File,
}

impl Unforced {
    /// The file of the store that was opened in `folder` before.
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let entry = folder.read_dir()?.next().ok_or("the embedded store made no file")??;
        let file = OpenOptions::new().read(true).write(true).open(entry.path())?;
        Ok(Self { inner: FileBackend::new(file.try_clone()?)?, file })
    }
}

impl StorageBackend for Unforced {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.inner.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.sync_all()?;
        self.inner.close()
    }
}
