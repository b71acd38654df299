//! The file of the tables, written without getting into the way of the journal.
//!
//! A disk that is to force the few bytes of the journal first does what it was given
//! before. So what a transaction writes is forced in pieces: a write of the journal waits
//! for one of them at the most. Nothing else depends on it; what lasts is decided by the
//! transaction's own forced write, as ever.

use std::{
    io,
    ops::Bound,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use redb::{BackendError, StorageBackend};

/// The most that is written ahead of a forced write.
const PIECE: usize = 256 << 10;

/// A file that is forced to the disk from time to time.
#[derive(Debug)]
pub(super) struct Paced<B> {
    file: B,
    /// What was written since the last forced write.
    ahead: AtomicUsize,
}

impl<B> Paced<B> {
    pub(super) fn new(file: B) -> Self {
        Self { file, ahead: AtomicUsize::new(0) }
    }
}

impl<B: StorageBackend> StorageBackend for Paced<B> {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.ahead.store(0, Relaxed);
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(offset, data)?;
        if self.ahead.fetch_add(data.len(), Relaxed) + data.len() >= PIECE {
            self.sync_data()?;
        }
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::embedded::common::Common;

    #[test]
    fn no_more_than_a_piece_is_ahead_of_a_forced_write() {
        let disk = Common::default();
        let file = Paced::new(disk.clone());
        file.set_len(4 << 20).unwrap();
        for page in 0..256 {
            file.write(page << 12, &[1; 4096]).unwrap();
        }
        assert_eq!(disk.forced(), (1 << 20) / PIECE);
        file.write(0, &[1; 4096]).unwrap();
        file.sync_data().unwrap();
        file.write(0, &vec![1; PIECE - 1]).unwrap();
        assert_eq!(disk.forced(), (1 << 20) / PIECE + 1, "a forced write begins anew");
    }
}
