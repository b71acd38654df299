//! A file of which is known whether reading it would wait for the disk.
//!
//! Whoever serves requests reads at once what the system has in memory. For the rest it would
//! stand still, and with it everybody else on its thread.

use std::{fs, io};

use redb::{StorageBackend, backends::FileBackend};

use super::paced::Paced;

/// A file that can say that it would wait.
pub(super) trait Peek: StorageBackend {
    /// Reads as [`read`](StorageBackend::read) does.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] where that would wait for the disk, as far as that is known.
    fn read_now(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.read(offset, out)
    }
}

/// What keeps the responses.
pub(super) type File = Box<dyn Peek>;

/// Of what it is written to nothing is known.
impl<B: StorageBackend> Peek for Paced<B> {}

/// A file on the disk.
#[derive(Debug)]
pub(super) struct Peeking {
    file: Paced<FileBackend>,
    /// The same file.
    cached: fs::File,
}

impl Peeking {
    pub(super) fn new(file: fs::File) -> io::Result<Self> {
        let cached = file.try_clone()?;
        let file = Paced::new(FileBackend::new(file).map_err(io::Error::other)?);
        Ok(Self { file, cached })
    }
}

#[cfg(target_os = "linux")]
impl Peek for Peeking {
    fn read_now(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        use rustix::io::{Errno, ReadWriteFlags, preadv2};

        let wanted = out.len();
        let read =
            preadv2(&self.cached, &mut [io::IoSliceMut::new(out)], offset, ReadWriteFlags::NOWAIT);
        match read {
            Ok(read) if read == wanted => Ok(()),
            // A part of it, or the end of the file, which is no place of a row.
            Ok(_) | Err(Errno::AGAIN) => Err(io::ErrorKind::WouldBlock.into()),
            // A file system that cannot tell.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => self.read(offset, out),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl Peek for Peeking {}

impl StorageBackend for Peeking {
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
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn what_is_in_memory_is_read_at_once() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 10_000]).unwrap();
        let peeking = Peeking::new(file).unwrap();
        let mut out = [0; 3000];
        peeking.read_now(5000, &mut out).unwrap();
        assert_eq!(out, [7; 3000]);
        // What is not there is for the one to say who may wait for it.
        if cfg!(target_os = "linux") {
            let error = peeking.read_now(9000, &mut out).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        }
        assert!(peeking.read(9000, &mut out).is_err());
    }
}
