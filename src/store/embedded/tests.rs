//! Responses that are not in memory.

use std::{
    sync::{
        Condvar, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Instant,
};

use http::Response;

use super::{common::Common, peeking::Peek, *};
use crate::{
    ambient::System,
    engine::{
        fingerprint::Fingerprint,
        policy::Keep,
        record::{Done, Fence, Pending, Record, Recorded, StoredResponse},
    },
    store::{Claimed, Store, Write},
};

/// A file that the system has in memory or not, on a disk that answers or not.
#[derive(Clone, Debug, Default)]
struct Cold {
    file: Common,
    is_cold: Arc<AtomicBool>,
    disk: Arc<Disk>,
}

#[derive(Debug, Default)]
struct Disk {
    hangs: Mutex<bool>,
    answers: Condvar,
}

impl Cold {
    fn hang(&self, hangs: bool) {
        *self.disk.hangs.lock().unwrap() = hangs;
        self.disk.answers.notify_all();
    }
}

impl Peek for Cold {
    fn read_now(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match self.is_cold.load(SeqCst) {
            true => Err(io::ErrorKind::WouldBlock.into()),
            false => self.file.read(offset, out),
        }
    }
}

impl StorageBackend for Cold {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let hangs = self.disk.hangs.lock().unwrap();
        // No longer than a test has patience with a thread that stands still.
        let patience = Duration::from_secs(5);
        drop(self.disk.answers.wait_timeout_while(hangs, patience, |hangs| *hangs).unwrap());
        self.file.read(offset, out)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(offset, data)
    }
}

/// The thread that serves goes on while one of its requests waits for the disk, and that one is
/// told in time.
#[tokio::test]
async fn a_response_that_is_not_in_memory_holds_up_nobody_else() {
    let (tables, responses) = (Common::default(), Cold::default());
    let journal = [Common::default(), Common::default()];
    let open = |limit| {
        let database = Database::builder().create_with_backend(tables.clone()).unwrap();
        let journal = journal.clone().map(|file| Box::new(file) as File);
        let options = EmbeddedOptions { reply_timeout: limit, ..EmbeddedOptions::default() };
        let files = (Box::new(responses.clone()) as peeking::File, journal);
        let room = Room(Box::new(|| None));
        EmbeddedStore::start(database, files, "a test", Arc::new(System), (options, room)).unwrap()
    };
    let hour = Duration::from_secs(3600);
    let keep = Keep { record: hour, response: Some(hour) };
    let (key, fence) = (StoreKey::from_bytes([7; 32]), Fence::new(System.token()));
    let fingerprint = Fingerprint::from_bytes([1; 32]);
    let (started, lease_until) = (Timestamp(1), Timestamp(2));
    let node = "test".into();
    let pending = Record::Pending(Pending { fence, fingerprint, node, started, lease_until });
    let (head, ()) = Response::new(()).into_parts();
    let done = Record::Done(Arc::new(Done {
        fence: fence.next(),
        fingerprint,
        completed: Timestamp(3),
        retained_until: System.now().after(hour),
        response: Recorded::Whole(StoredResponse::new(head, "paid".into(), None)),
    }));
    let store = open(hour);
    assert_eq!(store.claim(&key, &pending, keep).await.unwrap(), Claimed::Mine);
    assert_eq!(store.swap(&key, fence, &done, keep).await.unwrap(), Write::Applied);
    // Its end moves everything into the tables.
    drop(store);

    let store = open(hour);
    responses.is_cold.store(true, SeqCst);
    responses.hang(true);
    let begun = Instant::now();
    let mut waiting = store.get(&key);
    assert!(futures::poll!(&mut waiting).is_pending());
    // Nobody else waits, and what is new needs no look.
    let new = StoreKey::from_bytes([8; 32]);
    assert_eq!(store.claim(&new, &pending, keep).await.unwrap(), Claimed::Mine);
    assert!(begun.elapsed() < Duration::from_secs(5), "the thread has stood still");
    responses.hang(false);
    assert_eq!(waiting.await.unwrap().as_ref(), Some(&done));
    drop(store);

    let store = open(Duration::from_millis(100));
    responses.hang(true);
    let error = store.claim(&key, &pending, keep).await.unwrap_err();
    // No time-out: nothing may pass of which the store knows that it is there.
    assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains("no reply within"), "{error}");
    assert!(error.is_undone(), "it was not even asked for");
    responses.hang(false);
    let other = Record::Pending(Pending {
        fence: Fence::new(System.token()),
        fingerprint,
        node: "another".into(),
        started,
        lease_until,
    });
    assert_eq!(open_claim(&store, &key, &other, keep).await, Claimed::Held(done));
}

/// What has no room in the tables waits for it, in memory and in the journal.
#[tokio::test]
async fn what_has_no_room_is_not_moved() {
    let (tables, responses) = (Common::default(), Common::default());
    let journal = [Common::default(), Common::default()];
    let left = Arc::new(AtomicU64::new(1 << 20));
    let open = || {
        let database = Database::builder().create_with_backend(tables.clone()).unwrap();
        let files = (
            Box::new(responses.clone()) as peeking::File,
            journal.clone().map(|file| Box::new(file) as File),
        );
        let left = Arc::clone(&left);
        let room = Room(Box::new(move || Some(left.load(SeqCst))));
        let options = (EmbeddedOptions::default(), room);
        EmbeddedStore::start(database, files, "a test", Arc::new(System), options).unwrap()
    };
    let moved = |store: &EmbeddedStore| store.shared.recent().moved;
    let until = async |condition: &dyn Fn() -> bool| {
        let patience = Instant::now() + Duration::from_secs(20);
        while !condition() {
            assert!(Instant::now() < patience, "did not happen in time");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let hour = Duration::from_secs(3600);
    let keep = Keep { record: hour, response: Some(hour) };
    let claim = |number: u8| {
        let (fence, node) = (Fence::new(System.token()), "test".into());
        let fingerprint = Fingerprint::from_bytes([1; 32]);
        let (started, lease_until) = (Timestamp(1), Timestamp(2));
        let record = Pending { fence, fingerprint, node, started, lease_until };
        (StoreKey::from_bytes([number; 32]), Record::Pending(record))
    };
    let store = open();
    let (first, record) = claim(1);
    assert_eq!(store.claim(&first, &record, keep).await.unwrap(), Claimed::Mine);
    let is_waiting = || !store.shared.has_room() && store.shared.recent().moving.is_some();
    until(&is_waiting).await;
    assert_eq!(moved(&store), 0);
    // Claims go on meanwhile, and so does the end of the process.
    let (second, next) = claim(2);
    assert_eq!(store.claim(&second, &next, keep).await.unwrap(), Claimed::Mine);
    left.store(u64::MAX, SeqCst);
    until(&|| store.shared.has_room() && moved(&store) > 0).await;
    left.store(1 << 20, SeqCst);
    let (third, last) = claim(3);
    assert_eq!(store.claim(&third, &last, keep).await.unwrap(), Claimed::Mine);
    until(&is_waiting).await;
    drop(store);
    let store = open();
    for (key, record) in [(first, record), (second, next), (third, last)] {
        assert_eq!(store.get(&key).await.unwrap(), Some(record));
    }
}

/// Once the disk answers, so does the store, a moment later.
async fn open_claim(store: &EmbeddedStore, key: &StoreKey, record: &Record, keep: Keep) -> Claimed {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        match store.claim(key, record, keep).await {
            Ok(claimed) => return claimed,
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
    }
}
