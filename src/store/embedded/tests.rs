//! Responses that are not in memory.

use std::{
    sync::{
        Condvar, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Instant,
};

use http::Response;

use super::{common::Common, disk::Space, peeking::Peek, *};
use crate::{
    ambient::System,
    engine::{
        fingerprint::Fingerprint,
        policy::Keep,
        record::{
            Done, Fence, Pending, Reason, Record, Recorded, StoreKey, StoredResponse, Timestamp,
            Unknown,
        },
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
        let room = Room::unknown();
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
    let begun = Instant::now();
    let error = store.scan(None, usize::MAX).await.unwrap_err();
    assert!(error.to_string().contains("no reply within"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(5), "the thread has stood still");
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

/// A store whose tables have so much room, for the test to say.
#[derive(Default)]
struct Small {
    tables: Common,
    responses: Common,
    journal: [Common; 2],
    left: Arc<AtomicU64>,
}

const HOUR: Duration = Duration::from_secs(3600);
const KEEP: Keep = Keep { record: HOUR, response: Some(HOUR) };

impl Small {
    fn open(&self) -> EmbeddedStore {
        let database = Database::builder().create_with_backend(self.tables.clone()).unwrap();
        let journal = self.journal.clone().map(|file| Box::new(file) as File);
        let files = (Box::new(self.responses.clone()) as peeking::File, journal);
        let left = Arc::clone(&self.left);
        let room = move || Some(Space { left: left.load(SeqCst), tables: 1 << 20 });
        let options = (EmbeddedOptions::default(), Room::new(room));
        EmbeddedStore::start(database, files, "a test", Arc::new(System), options).unwrap()
    }
}

/// A key of that number, and a claim of it.
fn claim(number: u64) -> (StoreKey, Record) {
    let (fence, node) = (Fence::new(System.token()), "test".into());
    let fingerprint = Fingerprint::from_bytes([1; 32]);
    let (started, lease_until) = (Timestamp(1), Timestamp(2));
    let record = Pending { fence, fingerprint, node, started, lease_until };
    (StoreKey::from_bytes(*blake3::hash(&number.to_be_bytes()).as_bytes()), Record::Pending(record))
}

async fn until(condition: impl Fn() -> bool) {
    let patience = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < patience, "did not happen in time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What has no room in the tables waits for it, in memory and in the journal.
#[tokio::test]
async fn what_has_no_room_is_not_moved() {
    let disk = Small::default();
    disk.left.store(1 << 20, SeqCst);
    let moved = |store: &EmbeddedStore| store.shared.recent().moved;
    let store = disk.open();
    let (first, record) = claim(1);
    assert_eq!(store.claim(&first, &record, KEEP).await.unwrap(), Claimed::Mine);
    let is_waiting = |store: &EmbeddedStore, before| {
        assert_eq!(moved(store), before, "moved without room");
        !store.shared.has_room() && store.shared.recent().moving.is_some()
    };
    until(|| is_waiting(&store, 0)).await;
    // Claims go on meanwhile, and so does the end of the process.
    let (second, next) = claim(2);
    assert_eq!(store.claim(&second, &next, KEEP).await.unwrap(), Claimed::Mine);
    disk.left.store(u64::MAX, SeqCst);
    until(|| store.shared.has_room() && store.shared.recent().moving.is_none()).await;
    until(|| moved(&store) == 2).await;
    disk.left.store(1 << 20, SeqCst);
    let (third, last) = claim(3);
    assert_eq!(store.claim(&third, &last, KEEP).await.unwrap(), Claimed::Mine);
    until(|| is_waiting(&store, 2)).await;
    drop(store);
    let store = disk.open();
    for (key, record) in [(first, record), (second, next), (third, last)] {
        assert_eq!(store.get(&key).await.unwrap(), Some(record));
    }
}

/// When claims fill it, what they lead to would find no place.
#[tokio::test]
async fn the_last_of_the_memory_is_for_the_ends() {
    let disk = Small::default();
    let store = disk.open();
    let (first, record) = claim(0);
    assert_eq!(store.claim(&first, &record, KEEP).await.unwrap(), Claimed::Mine);
    let mut number = 0;
    let refused = loop {
        assert!(number < 200_000, "never refused");
        let claims = (0..256).map(|_| {
            number += 1;
            let ((key, record), store) = (claim(number), &store);
            async move { store.claim(&key, &record, KEEP).await }
        });
        let claimed = futures::future::join_all(claims).await;
        if let Some(refused) = claimed.into_iter().find_map(Result::err) {
            break refused;
        }
    };
    assert!(refused.is_undone() && refused.to_string().contains("no room"), "{refused}");
    let next = Record::Unknown(Unknown {
        fence: record.fence().next(),
        fingerprint: Fingerprint::from_bytes([1; 32]),
        node: "test".into(),
        started: Timestamp(1),
        since: Timestamp(2),
        reason: Reason::Reset,
    });
    assert_eq!(store.swap(&first, record.fence(), &next, KEEP).await.unwrap(), Write::Applied);
    disk.left.store(u64::MAX, SeqCst);
    until(|| store.shared.has_room()).await;
    let (key, record) = claim(number + 1);
    assert_eq!(store.claim(&key, &record, KEEP).await.unwrap(), Claimed::Mine);
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
