use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use redb::backends::{FileBackend, InMemoryBackend};

use super::*;
use crate::{ambient::System, store::EmbeddedStore};

/// A file that is cut off at a forced write. What was not forced by then has arrived in part.
#[derive(Debug)]
struct CutOff {
    seen: InMemoryBackend,
    file: FileBackend,
    on_its_way: Mutex<Vec<Piece>>,
    /// So many forced writes are left.
    left: AtomicUsize,
    /// So many of the pieces that are on their way arrive.
    arriving: usize,
}

#[derive(Debug)]
enum Piece {
    Length(u64),
    Write(u64, Vec<u8>),
}

impl CutOff {
    fn take(&self, piece: Piece) {
        self.on_its_way.lock().unwrap().push(piece);
    }

    fn powered(&self) -> io::Result<()> {
        let left = self.left.load(Relaxed) > 0;
        left.then_some(()).ok_or_else(|| io::Error::other("it is cut off"))
    }
}

impl StorageBackend for CutOff {
    fn len(&self) -> io::Result<u64> {
        self.seen.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.seen.read(offset, out)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.powered()?;
        self.take(Piece::Length(length));
        self.seen.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.powered()?;
        let mut on_its_way = self.on_its_way.lock().unwrap();
        let is_last = self.left.fetch_sub(1, Relaxed) == 1;
        let arriving = if is_last { self.arriving } else { usize::MAX };
        for piece in on_its_way.drain(..).take(arriving) {
            match piece {
                Piece::Length(length) => self.file.set_len(length)?,
                Piece::Write(offset, bytes) => self.file.write(offset, &bytes)?,
            }
        }
        self.powered()
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.powered()?;
        self.take(Piece::Write(offset, bytes.to_vec()));
        self.seen.write(offset, bytes)
    }
}

/// A first start that ends at a forced write of the tables, or does not end.
fn start(folder: &Path, left: usize, arriving: usize) -> Result<(), StoreError> {
    begin(folder, &System, |file| {
        Ok(CutOff {
            seen: InMemoryBackend::new(),
            file: FileBackend::new(file)?,
            on_its_way: Mutex::default(),
            left: AtomicUsize::new(left),
            arriving,
        })
    })
}

fn open(folder: &Path) -> Result<EmbeddedStore, StoreError> {
    EmbeddedStore::open(folder, Arc::new(System))
}

#[test]
fn a_first_start_that_was_cut_off_is_begun_anew() {
    let mut cuts = 0;
    for arriving in [0, 1, 2, usize::MAX] {
        for left in 1.. {
            let folder = tempfile::tempdir().unwrap();
            let folder = folder.path();
            let begun = start(folder, left, arriving);
            // The last forced write is that of the end, which nobody waits for.
            let is_whole = begun.is_ok();
            cuts += usize::from(!is_whole);
            let store = open(folder).unwrap_or_else(|error| panic!("{left}, {arriving}: {error}"));
            assert_eq!(store.count().unwrap(), 0);
            drop(store);
            open(folder).unwrap();
            assert!(!folder.join(NEW).exists());
            if is_whole {
                break;
            }
        }
    }
    assert!(cuts > 8, "{cuts} cuts");
}

#[test]
fn one_of_many_first_starts_gets_the_folder() {
    for _ in 0..8 {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let opened: Vec<_> = thread::scope(|scope| {
            let starts: Vec<_> = (0..4).map(|_| scope.spawn(|| open(folder))).collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        let (stores, refusals): (Vec<_>, Vec<_>) = opened.into_iter().partition(Result::is_ok);
        assert!(stores.len() <= 1, "{} stores", stores.len());
        for refusal in refusals {
            assert_eq!(refusal.unwrap_err().kind(), StoreErrorKind::Misconfigured);
        }
        drop(stores);
        open(folder).unwrap();
    }
}

#[test]
fn tables_that_are_there_stay_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    drop(open(folder).unwrap());
    let before = fs::read(folder.join(FILE)).unwrap();
    fs::write(folder.join(NEW), "left behind").unwrap();
    start(folder, 0, 0).unwrap();
    assert_eq!(fs::read(folder.join(FILE)).unwrap(), before);
}
