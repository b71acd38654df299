//! Power cuts below the embedded store: what it acknowledged was on the disk.
//!
//! A disk keeps what was not forced apart. At every forced write in turn the power
//! goes: of what was on its way each piece arrives, is lost, or is torn, as a seed
//! says. Then the file is opened anew.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use oncegate::{
    ambient::{Ambient, System},
    engine::{
        policy::Keep,
        record::{Fence, Record, StoreKey, Timestamp, Token},
    },
    store::{EmbeddedOptions, EmbeddedStore, Store, StoreError},
};
use redb::StorageBackend;

use super::{
    sample::{self, KEEP, done, key, owner, pending},
    support::seed,
};

/// Disks lose or keep whole sectors.
const SECTOR: usize = 512;

/// A file on a disk whose power can go.
#[derive(Clone, Debug)]
struct Disk(Arc<Mutex<Platter>>, usize);

/// The tables, the two files of the journal, and the responses.
const FILES: usize = 4;

/// What is on the disk, by file.
type Content = [Vec<u8>; FILES];

#[derive(Debug, Default)]
struct Platter {
    files: [File; FILES],
    syncs: usize,
    power: Power,
}

#[derive(Debug, Default)]
struct File {
    /// What a reader sees.
    seen: Vec<u8>,
    /// What is there after a power cut.
    forced: Vec<u8>,
    on_its_way: Vec<Piece>,
}

#[derive(Clone, Debug)]
enum Piece {
    Write(usize, Vec<u8>),
    Length(usize),
}

#[derive(Debug, Default)]
enum Power {
    #[default]
    On,
    /// It goes at this forced write, and this decides what is left.
    GoesAt(usize, fastrand::Rng),
    Gone,
}

impl Disk {
    fn new(content: Content) -> Self {
        let files = content.map(|content| File {
            seen: content.clone(),
            forced: content,
            on_its_way: Vec::new(),
        });
        Self(Arc::new(Mutex::new(Platter { files, ..Platter::default() })), 0)
    }

    fn file(&self, number: usize) -> Self {
        Self(Arc::clone(&self.0), number)
    }

    /// What is there after a power cut.
    fn forced(&self) -> Content {
        self.platter().files.each_ref().map(|file| file.forced.clone())
    }

    fn cut_at(&self, sync: usize, seed: u64) {
        self.platter().power = Power::GoesAt(sync, fastrand::Rng::with_seed(seed));
    }

    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap()
    }

    fn powered(&self) -> io::Result<MutexGuard<'_, Platter>> {
        let platter = self.platter();
        match platter.power {
            Power::Gone => Err(io::Error::other("the power is gone")),
            Power::On | Power::GoesAt(..) => Ok(platter),
        }
    }
}

impl Piece {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Length(length) => content.resize(*length, 0),
            Self::Write(offset, data) => {
                let end = offset + data.len();
                content.resize(content.len().max(end), 0);
                content[*offset..end].copy_from_slice(data);
            }
        }
    }

    /// The sectors of a piece that arrive.
    fn torn(&self, random: &mut fastrand::Rng) -> Vec<Self> {
        match self {
            Self::Length(_) => vec![self.clone()],
            Self::Write(offset, data) => data
                .chunks(SECTOR)
                .enumerate()
                .filter(|_| random.bool())
                .map(|(number, sector)| Self::Write(offset + number * SECTOR, sector.to_vec()))
                .collect(),
        }
    }
}

impl Platter {
    /// The power goes.
    fn lose(&mut self, mut random: fastrand::Rng) {
        for File { forced, on_its_way, .. } in &mut self.files {
            for piece in std::mem::take(on_its_way) {
                match random.u8(0..3) {
                    0 => piece.apply(forced),
                    1 => {}
                    _ => piece.torn(&mut random).iter().for_each(|piece| piece.apply(forced)),
                }
            }
        }
    }
}

impl File {
    fn take(&mut self, piece: Piece) {
        piece.apply(&mut self.seen);
        self.on_its_way.push(piece);
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.powered()?.files[self.1].seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let platter = self.powered()?;
        let offset = usize::try_from(offset).unwrap();
        let there = platter.files[self.1].seen.get(offset..offset + out.len());
        out.copy_from_slice(there.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.powered()?.files[self.1].take(Piece::Length(usize::try_from(len).unwrap()));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut platter = self.powered()?;
        platter.syncs += 1;
        if matches!(platter.power, Power::GoesAt(sync, _) if platter.syncs == sync) {
            if let Power::GoesAt(_, random) = std::mem::replace(&mut platter.power, Power::Gone) {
                platter.lose(random);
            }
            return Err(io::Error::other("the power goes"));
        }
        let File { forced, on_its_way, .. } = &mut platter.files[self.1];
        std::mem::take(on_its_way).iter().for_each(|piece| piece.apply(forced));
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).unwrap();
        self.powered()?.files[self.1].take(Piece::Write(offset, data.to_vec()));
        Ok(())
    }
}

/// A clock by which the journal is moved into the tables after every few operations.
#[derive(Debug)]
struct Hasty(AtomicU64);

impl Ambient for Hasty {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.fetch_add(3000, SeqCst))
    }

    fn token(&self) -> Token {
        System.token()
    }
}

/// What the store has said is there.
type Acknowledged = Vec<(StoreKey, Record)>;

/// How many claims are made and recorded.
const ROUNDS: usize = 16;

/// How many there are before. Where rules can be broken, the index has such small generations
/// that eight of them become one during the rounds.
const EARLIER: usize = 120;

/// For a few looks at the clock: what has expired is removed while the power goes, and its
/// room is used again.
const BRIEF: Keep =
    Keep { record: Duration::from_secs(60), response: Some(Duration::from_secs(15)) };

/// Claims and records until something fails.
async fn work(
    store: &EmbeddedStore,
    rounds: usize,
    acknowledged: &mut Acknowledged,
) -> Result<(), StoreError> {
    for round in 0..rounds {
        let (key, fence): (StoreKey, Fence) = (key(), owner());
        if round % 4 == 0 {
            let (key, fence) = (sample::key(), owner());
            store.claim(&key, &pending(fence), BRIEF).await?;
            store.swap(&key, fence, &done(fence.next()), BRIEF).await?;
        }
        store.claim(&key, &pending(fence), KEEP).await?;
        acknowledged.push((key, pending(fence)));
        let record = done(fence.next());
        // Until this is acknowledged, either of the two may be there.
        let claim = acknowledged.pop();
        match store.swap(&key, fence, &record, KEEP).await {
            Ok(_) => acknowledged.push((key, record)),
            Err(error) => {
                acknowledged.extend(claim);
                return Err(error);
            }
        }
    }
    Ok(())
}

fn open(disk: &Disk) -> Result<EmbeddedStore, StoreError> {
    let (journal, options) = ([disk.file(1), disk.file(2)], EmbeddedOptions::default());
    let clock = Arc::new(Hasty(AtomicU64::new(0)));
    EmbeddedStore::with_backends(disk.file(0), disk.file(3), journal, clock, options)
}

/// Row 15 of the faults.
#[expect(clippy::print_stdout, reason = "shown with --nocapture")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_claim_survives_a_power_cut() {
    let seed = seed();
    let disk = Disk::new(Content::default());
    let mut earlier = Acknowledged::new();
    work(&open(&disk).unwrap(), EARLIER, &mut earlier).await.unwrap();
    let store = open(&disk).unwrap();
    let started = disk.platter().syncs;
    let before = disk.forced();
    work(&store, ROUNDS, &mut Acknowledged::new()).await.unwrap();
    // Its end waits for what is still being moved into the tables.
    drop(store);
    let syncs = disk.platter().syncs - started;
    assert!(syncs > 2 * ROUNDS, "{syncs} forced writes for as many operations and a move");

    let (mut cuts, mut cuts_in_opening, mut survivors) = (0, 0, 0);
    for sync in 1..=syncs + 4 {
        for attempt in 0..4 {
            let seed = seed.wrapping_add((sync * 4 + attempt) as u64);
            let disk = Disk::new(before.clone());
            let Ok(store) = open(&disk) else { panic!("the file was sound") };
            let at = disk.platter().syncs + sync;
            disk.cut_at(at, seed);
            let mut acknowledged = earlier.clone();
            // A cut while the tables are written need not disturb any operation.
            let _ = work(&store, ROUNDS, &mut acknowledged).await;
            drop(store);
            cuts += usize::from(disk.powered().is_err());

            // The power goes once more while the files are opened, or just after.
            let reopened = Disk::new(disk.forced());
            reopened.cut_at(attempt + 1, seed);
            cuts_in_opening += usize::from(open(&reopened).is_err());

            let after = Disk::new(reopened.forced());
            let store = open(&after).unwrap_or_else(|error| panic!("sync {sync}, {seed}: {error}"));
            for (key, record) in &acknowledged {
                let held = store.get(key).await.unwrap();
                let held = held.unwrap_or_else(|| panic!("sync {sync}, {seed}: {key} is lost"));
                let later = matches!((record, &held), (Record::Pending(_), Record::Done(_)));
                assert!(held == *record || later, "sync {sync}, {seed}: {held:?}");
                survivors += 1;
            }
            // Listing reads the record of every key that the tables hold.
            let listed = store.scan(None, EARLIER + 4 * ROUNDS).await;
            let listed = listed.unwrap_or_else(|error| panic!("sync {sync}, {seed}: {error}"));
            assert!(listed.records.len() >= acknowledged.len(), "sync {sync}, {seed}");
        }
    }
    println!(
        "{cuts} power cuts at {syncs} forced writes, {cuts_in_opening} while the files were \
         opened again, {survivors} records looked at"
    );
    assert!(cuts >= 4 * 2 * ROUNDS, "{cuts} cuts");
}

/// What a first start does when its tables have their name, up to its first claims. What it does
/// before is looked at beside the code.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_start_survives_a_power_cut() {
    let folder = tempfile::tempdir().unwrap();
    drop(EmbeddedStore::open(folder.path(), Arc::new(System)).unwrap());
    let tables = std::fs::read(folder.path().join("records.redb")).unwrap();
    let before: Content = [tables, vec![], vec![], vec![]];
    let (seed, mut cuts) = (seed(), 0);
    for sync in 1.. {
        let mut is_over = true;
        for attempt in 0..4 {
            let seed = seed.wrapping_add(sync * 4 + attempt);
            let disk = Disk::new(before.clone());
            disk.cut_at(usize::try_from(sync).unwrap(), seed);
            let mut acknowledged = Acknowledged::new();
            if let Ok(store) = open(&disk) {
                let _ = work(&store, 2, &mut acknowledged).await;
            }
            if disk.powered().is_err() {
                (is_over, cuts) = (false, cuts + 1);
            }
            let after = Disk::new(disk.forced());
            let store = open(&after).unwrap_or_else(|error| panic!("sync {sync}, {seed}: {error}"));
            for (key, _) in &acknowledged {
                assert!(store.get(key).await.unwrap().is_some(), "sync {sync}, {seed}: {key}");
            }
            work(&store, 1, &mut acknowledged).await.unwrap();
        }
        if is_over {
            break;
        }
    }
    assert!(cuts >= 4 * 6, "{cuts} cuts");
}
