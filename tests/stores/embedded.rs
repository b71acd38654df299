//! The embedded store: what it acknowledged survives.

use std::{
    env, fs,
    io::{self, BufRead, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use oncegate::{
    ambient::System,
    engine::{
        policy::Keep,
        record::{Done, Fence, Record, Recorded, StoreKey, StoredResponse},
    },
    store::{
        Claimed, EmbeddedOptions, EmbeddedStore, Store, StoreErrorKind, Write,
        conformance::{Passing, RealTime, Suite},
    },
};
use redb::{ReadableDatabase, backends::InMemoryBackend};

use super::{
    Simulated,
    sample::{KEEP, done, key, owner, pending},
    support::{disk::Disk, eventually},
};

fn open(folder: &Path) -> EmbeddedStore {
    EmbeddedStore::open(folder, Arc::new(System)).unwrap()
}

fn in_memory(clock: Arc<Simulated>) -> EmbeddedStore {
    let journal = [InMemoryBackend::new(), InMemoryBackend::new()];
    let (tables, responses) = (InMemoryBackend::new(), InMemoryBackend::new());
    let options = EmbeddedOptions::default();
    EmbeddedStore::with_backends(tables, responses, journal, clock, options).unwrap()
}

/// A store whose files are all on one disk.
fn on(disk: &Disk) -> EmbeddedStore {
    with(disk, EmbeddedOptions::default())
}

fn with(disk: &Disk, options: EmbeddedOptions) -> EmbeddedStore {
    let (journal, clock) = ([disk.file(), disk.file()], Arc::new(System));
    EmbeddedStore::with_backends(disk.file(), disk.file(), journal, clock, options).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_conforms() {
    let folder = tempfile::tempdir().unwrap();
    Suite::new(Arc::new(open(folder.path())), Arc::new(RealTime)).run().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_conforms_by_a_clock_of_ones_own() {
    let clock = Simulated::clock();
    let store = in_memory(clock.clone());
    Suite::new(Arc::new(store), clock).run().await;
}

#[tokio::test]
async fn without_a_page_cache_a_record_is_read_from_the_file() {
    let disk = Disk::default();
    let store = with(&disk, EmbeddedOptions { page_cache: 0, ..EmbeddedOptions::default() });
    let fence = owner();
    // More than fit the first page of a table, which is kept with it.
    let keys: Vec<StoreKey> = (0..500).map(|_| key()).collect();
    for key in &keys {
        store.claim(key, &pending(fence), KEEP).await.unwrap();
    }
    let key = keys[0];
    let reads = async || {
        let before = disk.gate().reads();
        assert_eq!(store.get(&key).await.unwrap(), Some(pending(fence)));
        disk.gate().reads() - before
    };
    // With the usual one all of these pages stay in memory from the moment they are written.
    eventually("it has left the memory of recent changes", async || reads().await > 0).await;
}

#[tokio::test]
async fn records_are_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("new/data");
    let (pending_key, done_key, fence) = (key(), key(), owner());
    let record = done(fence.next());
    let store = open(&folder);
    store.claim(&pending_key, &pending(fence), KEEP).await.unwrap();
    store.claim(&done_key, &pending(fence), KEEP).await.unwrap();
    assert_eq!(store.swap(&done_key, fence, &record, KEEP).await.unwrap(), Write::Applied);
    drop(store);

    let store = open(&folder);
    assert_eq!(store.get(&pending_key).await.unwrap(), Some(pending(fence)));
    assert_eq!(store.get(&done_key).await.unwrap(), Some(record));
    #[cfg(unix)]
    {
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&folder).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o700, "a data folder is its owner's alone");
    }
}

#[test]
fn a_folder_in_use_is_refused_in_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    let error = EmbeddedStore::open(folder.path(), Arc::new(System)).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured);
    let line = error.to_string();
    assert!(line.starts_with("store.url: another gate uses "), "{line}");
    assert!(line.contains(&folder.path().display().to_string()), "{line}");
    drop(first);
    open(folder.path());
}

#[test]
fn what_is_no_data_folder_is_refused_in_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("records.redb"), [b'x'; 8192]).unwrap();
    let error = EmbeddedStore::open(folder.path(), Arc::new(System)).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
    assert!(error.to_string().starts_with("store.url: "), "{error}");

    let file = folder.path().join("a-file");
    fs::write(&file, "").unwrap();
    let error = EmbeddedStore::open(&file, Arc::new(System)).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
}

#[test]
fn another_format_is_named_as_such() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let file = folder.path().join("records.redb");
    let meta = redb::TableDefinition::<&str, u64>::new("meta");
    let ours = {
        let database = redb::Database::open(&file).unwrap();
        let table = database.begin_read().unwrap().open_table(meta).unwrap();
        table.get("format").unwrap().unwrap().value()
    };
    for format in [1, ours - 1, ours + 1] {
        let database = redb::Database::open(&file).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(meta).unwrap().insert("format", format).unwrap();
        transaction.commit().unwrap();
        drop(database);
        let error = EmbeddedStore::open(folder.path(), Arc::new(System)).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Misconfigured);
        assert!(error.to_string().contains(&format!("has format {format}")), "{error}");
    }
}

/// Who claims does not compete with the thread that works on the tables.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_thread_of_the_tables_lets_others_go_first() {
    let folder = tempfile::tempdir().unwrap();
    let _store = open(folder.path());
    // The name in parentheses is the second field of a thread's `stat`, its nice value the
    // nineteenth (proc_pid_stat(5)). Threads of other tests come and go meanwhile.
    let nice_of = |wanted: &str| {
        let tasks = fs::read_dir("/proc/self/task").unwrap();
        let mut all =
            tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("stat")).ok());
        all.find_map(|stat| {
            let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
            (name == wanted).then(|| rest.split(' ').nth(16)?.parse::<i32>().ok())?
        })
    };
    eventually("the tables' thread is nicer", || async {
        match (nice_of("oncegate-tables"), nice_of("oncegate-commit")) {
            (Some(tables), Some(commits)) => tables == (commits + 10).min(19),
            _ => false,
        }
    })
    .await;
}

/// A gate that was killed between its first steps.
#[tokio::test]
async fn a_folder_without_any_change_gets_its_journal() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    fs::remove_file(folder.path().join("journal.0")).unwrap();
    fs::remove_file(folder.path().join("journal.1")).unwrap();
    let (key, fence) = (key(), owner());
    let store = open(folder.path());
    store.claim(&key, &pending(fence), KEEP).await.unwrap();
    drop(store);
    assert_eq!(open(folder.path()).get(&key).await.unwrap(), Some(pending(fence)));
}

#[tokio::test]
async fn a_folder_that_has_lost_its_journal_is_refused() {
    for file in ["journal.0", "journal.1"] {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        store.claim(&key(), &pending(owner()), KEEP).await.unwrap();
        drop(store);
        fs::remove_file(folder.path().join(file)).unwrap();
        let error = EmbeddedStore::open(folder.path(), Arc::new(System)).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{file}: {error}");
    }
}

#[tokio::test]
async fn a_folder_that_has_lost_its_tables_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store.claim(&key(), &pending(owner()), KEEP).await.unwrap();
    drop(store);
    fs::remove_file(folder.path().join("records.redb")).unwrap();
    for _ in 0..2 {
        let error = EmbeddedStore::open(folder.path(), Arc::new(System)).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains("is missing"), "{error}");
    }
}

#[tokio::test]
async fn a_folder_that_has_lost_its_responses_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (key, fence) = (key(), owner());
    let store = open(folder.path());
    store.claim(&key, &pending(fence), KEEP).await.unwrap();
    store.swap(&key, fence, &done(fence.next()), KEEP).await.unwrap();
    drop(store);
    fs::remove_file(folder.path().join("responses")).unwrap();
    let error = EmbeddedStore::open(folder.path(), Arc::new(System)).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains("the file of responses"), "{error}");
}

/// A recorded response with a body.
fn paid(fence: Fence, body: &'static [u8]) -> Record {
    let response = http::Response::new(());
    let response = StoredResponse::new(response.into_parts().0, body.into(), None);
    let Record::Done(done) = done(fence) else { unreachable!("it says so") };
    let response = Recorded::Whole(response);
    Record::Done(Arc::new(Done { response, ..Arc::unwrap_or_clone(done) }))
}

#[tokio::test]
async fn a_damaged_response_is_not_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let (key, fence) = (key(), owner());
    let body = b"paid once";
    let record = paid(fence.next(), body);
    let store = open(folder.path());
    store.claim(&key, &pending(fence), KEEP).await.unwrap();
    store.swap(&key, fence, &record, KEEP).await.unwrap();
    drop(store);
    let file = folder.path().join("responses");
    let sound = fs::read(&file).unwrap();
    let at = sound.windows(body.len()).position(|bytes| bytes == body).unwrap();
    // The row begins with the key, and its times are not far behind.
    let start = sound.windows(32).position(|bytes| bytes == key.as_bytes()).unwrap();
    let times = (start + 33..start + 41).flat_map(|at| [(at, 0x80), (at, 0xff)]);
    let flipped = [(at, 1)].into_iter().chain(times).map(|(at, bits)| {
        let mut damaged = sound.clone();
        damaged[at] ^= bits;
        (damaged, false)
    });
    let zeroed = start + 33..start + 41;
    let mut without_times = sound.clone();
    without_times[zeroed].fill(0);
    let cases: Vec<_> = flipped.chain([(without_times, false), (sound.clone(), true)]).collect();
    for (content, is_sound) in cases {
        fs::write(&file, content).unwrap();
        let store = open(folder.path());
        match store.get(&key).await {
            Ok(found) => assert!(is_sound && found.as_ref() == Some(&record), "{found:?}"),
            Err(error) => {
                assert_eq!((is_sound, error.kind()), (false, StoreErrorKind::Corrupt))
            }
        }
        if !is_sound {
            // Whoever was refused takes his claim back, and the next one is refused like him.
            for _ in 0..2 {
                let other = owner();
                store.claim(&key, &pending(other), KEEP).await.unwrap_err();
                let _ = store.remove(&key, other).await;
            }
        }
    }
}

#[tokio::test]
async fn a_damaged_response_that_is_over_stops_nothing() {
    const HOUR: Duration = Duration::from_secs(3600);
    let folder = tempfile::tempdir().unwrap();
    let clock = Simulated::clock();
    let open = || EmbeddedStore::open(folder.path(), clock.clone()).unwrap();
    let (damaged, fence, body) = (key(), owner(), b"paid once");
    let keep = |response| Keep { record: 1000 * HOUR, response: Some(response) };
    let store = open();
    store.claim(&damaged, &pending(fence), keep(HOUR)).await.unwrap();
    store.swap(&damaged, fence, &paid(fence.next(), body), keep(HOUR)).await.unwrap();
    drop(store);
    let file = folder.path().join("responses");
    let mut content = fs::read(&file).unwrap();
    let at = content.windows(body.len()).position(|bytes| bytes == body).unwrap();
    content[at] ^= 1;
    fs::write(&file, content).unwrap();
    for _ in 0..2 {
        let store = open();
        // It is over after the damaged one, so that was met when this is gone.
        let (later, fence) = (key(), owner());
        let short = Keep { record: 2 * HOUR, response: Some(2 * HOUR) };
        store.claim(&later, &pending(fence), short).await.unwrap();
        store.swap(&later, fence, &done(fence.next()), short).await.unwrap();
        let count = store.count().unwrap();
        clock.elapse(3 * HOUR).await;
        eventually("what has expired is gone", async || store.count().unwrap() < count).await;
        store.ping().await.unwrap();
        store.claim(&key(), &pending(owner()), keep(HOUR)).await.unwrap();
        store.get(&damaged).await.unwrap_err();
        store.claim(&damaged, &pending(owner()), keep(HOUR)).await.unwrap_err();
        drop(store);
    }
    // When the record is over the key is nobody's, whatever the disk says of it.
    clock.elapse(1000 * HOUR).await;
    for expected in [None, Some(pending(fence))] {
        let store = open();
        assert_eq!(store.get(&damaged).await.unwrap(), expected);
        let claimed = store.claim(&damaged, &pending(fence), keep(HOUR)).await.unwrap();
        assert_eq!(claimed, Claimed::Mine);
    }
}

/// Both would have one place in the tables, so the second is refused before it is acknowledged.
#[tokio::test]
async fn keys_that_share_a_place_do_not_come_there_together() {
    let disk = Disk::default();
    let gate = disk.gate();
    let store = on(&disk);
    let (first, fence) = (key(), owner());
    let mut twin = *first.as_bytes();
    twin[31] ^= 1;
    let twin = StoreKey::from_bytes(twin);
    gate.close();
    let (one, other) = (pending(fence), pending(owner()));
    let claims =
        async { tokio::join!(store.claim(&first, &one, KEEP), store.claim(&twin, &other, KEEP)) };
    let mut claims = Box::pin(claims);
    assert!(futures::poll!(&mut claims).is_pending());
    gate.open();
    let (one, other) = claims.await;
    assert_eq!(one.unwrap(), Claimed::Mine);
    assert_eq!(other.unwrap_err().kind(), StoreErrorKind::Corrupt);
    eventually("it is in the tables", async || store.get(&twin).await.is_err()).await;
    store.ping().await.unwrap();
    store.claim(&key(), &pending(owner()), KEEP).await.unwrap();
}

/// A disk says so of a bad sector. What lies there is lost, and nothing else.
#[tokio::test]
async fn a_response_that_cannot_be_read_stops_nothing() {
    let (disk, clock) = (Disk::default(), Simulated::clock());
    let responses = disk.file();
    let bad = responses.bad();
    let (journal, options) = ([disk.file(), disk.file()], EmbeddedOptions::default());
    let store =
        EmbeddedStore::with_backends(disk.file(), responses, journal, clock.clone(), options);
    let store = store.unwrap();
    let short = Keep { record: 4 * KEEP.record, response: Some(Duration::from_secs(60)) };
    let (lost, fence) = (key(), owner());
    store.claim(&lost, &pending(fence), short).await.unwrap();
    store.swap(&lost, fence, &done(fence.next()), short).await.unwrap();
    let reads = async || {
        let before = disk.gate().reads();
        store.get(&lost).await.unwrap();
        disk.gate().reads() - before
    };
    eventually("it has left the memory of recent changes", async || reads().await > 0).await;
    bad.store(true, std::sync::atomic::Ordering::SeqCst);
    clock.elapse(Duration::from_secs(120)).await;
    let gone = async || disk.gate().bad_reads() > 0;
    eventually("somebody has tried to read it", gone).await;
    store.ping().await.unwrap();
    store.claim(&key(), &pending(owner()), KEEP).await.unwrap();
    assert_eq!(store.get(&lost).await.unwrap_err().kind(), StoreErrorKind::Corrupt);
}

#[tokio::test]
async fn what_cannot_be_read_is_an_error_to_nobody_else() {
    let disk = Disk::default();
    let gate = disk.gate();
    let store = on(&disk);
    let (there, fence) = (key(), owner());
    // Two keys that share half of their hash have one place in the tables.
    let mut twin = *there.as_bytes();
    twin[31] ^= 1;
    let twin = StoreKey::from_bytes(twin);
    store.claim(&there, &pending(fence), KEEP).await.unwrap();
    eventually("the tables have it", async || store.get(&twin).await.is_err()).await;
    gate.close();
    let claims = |count| {
        let claim = async || store.claim(&key(), &pending(owner()), KEEP).await.unwrap();
        futures::future::join_all((0..count).map(move |_| claim()))
    };
    let record = done(fence.next());
    let all = async {
        tokio::join!(
            claims(4),
            store.swap(&twin, fence, &record, KEEP),
            store.remove(&twin, fence),
            claims(4),
            store.swap(&there, fence, &record, KEEP),
        )
    };
    let mut all = std::pin::pin!(all);
    assert!(futures::poll!(&mut all).is_pending(), "they wait for the disk together");
    gate.open();
    let (_, swapped, removed, _, own) = all.await;
    for error in [swapped.unwrap_err(), removed.unwrap_err()] {
        assert_eq!(error.kind(), StoreErrorKind::Corrupt);
        assert!(error.to_string().contains("cannot read"), "{error}");
    }
    assert_eq!(own.unwrap(), Write::Applied);
}

const CRASH_FOLDER: &str = "ONCEGATE_TEST_CRASH_FOLDER";
const ACKNOWLEDGED: &str = "acknowledged ";

/// The victim of the next test; does nothing in an ordinary run.
#[tokio::test(flavor = "multi_thread")]
async fn claims_until_killed() {
    let Ok(folder) = env::var(CRASH_FOLDER) else { return };
    let store = Arc::new(open(Path::new(&folder)));
    let mut claims = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let store = Arc::clone(&store);
        claims.spawn(async move {
            loop {
                let key = key();
                store.claim(&key, &pending(owner()), KEEP).await.unwrap();
                writeln!(io::stdout(), "{ACKNOWLEDGED}{key}").unwrap();
            }
        });
    }
    claims.join_all().await;
}

#[tokio::test]
async fn every_acknowledged_claim_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    for round in 1..=3 {
        let mut victim = Command::new(env::current_exe().unwrap())
            .args(["--exact", "embedded::claims_until_killed", "--nocapture"])
            .env(CRASH_FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(victim.stdout.take().unwrap()).split(b'\n');
        let mut acknowledged = Vec::new();
        let mut read = |enough: usize| {
            while acknowledged.len() < enough
                && let Some(line) = lines.next()
            {
                let line = String::from_utf8(line.unwrap()).unwrap();
                // The kill may cut the last line short, and libtest has lines of its own.
                if let Some((_, key)) = line.split_once(ACKNOWLEDGED) {
                    acknowledged.extend(StoreKey::from_hex(key));
                }
            }
        };
        read(100 * round);
        victim.kill().unwrap();
        read(usize::MAX);
        victim.wait().unwrap();
        assert!(acknowledged.len() >= 100 * round, "{} claims", acknowledged.len());

        let store = open(folder.path());
        for key in acknowledged {
            assert!(store.get(&key).await.unwrap().is_some(), "{key} was acknowledged");
        }
    }
}

#[tokio::test]
async fn claims_that_come_together_are_committed_together() {
    let disk = Disk::default();
    let gate = disk.gate();
    let store = on(&disk);
    let before = store.commits();
    gate.close();
    let claims: Vec<_> = (0..64)
        .map(|_| {
            let (key, record) = (key(), pending(owner()));
            let store = &store;
            async move { store.claim(&key, &record, KEEP).await.unwrap() }
        })
        .collect();
    let mut claims = futures::future::join_all(claims);
    assert!(futures::poll!(&mut claims).is_pending(), "nobody is answered before the disk is");
    gate.open();
    assert!(claims.await.iter().all(|claimed| *claimed == Claimed::Mine));
    let commits = store.commits() - before;
    assert!(commits <= 4, "{commits} commits for 64 claims");
}

#[tokio::test]
async fn a_disk_that_fails_is_an_error_for_everybody_and_no_panic() {
    let disk = Disk::default();
    let gate = disk.gate();
    let store = on(&disk);
    let (there, fence) = (key(), owner());
    store.claim(&there, &pending(fence), KEEP).await.unwrap();
    gate.fail(true);
    let claims = (0..8).map(|_| {
        let store = &store;
        async move { store.claim(&key(), &pending(owner()), KEEP).await }
    });
    for claimed in futures::future::join_all(claims).await {
        assert_eq!(claimed.unwrap_err().kind(), StoreErrorKind::Unavailable);
    }
    gate.fail(false);
    // What was acknowledged before is told: it can be replayed, and nobody runs it again.
    assert_eq!(store.get(&there).await.unwrap(), Some(pending(fence)));
    let held = store.claim(&there, &pending(owner()), KEEP).await.unwrap();
    assert_eq!(held, Claimed::Held(pending(fence)));
    let refusals = [
        store.ping().await.unwrap_err(),
        store.claim(&key(), &pending(owner()), KEEP).await.unwrap_err(),
        store.swap(&there, fence, &done(fence.next()), KEEP).await.unwrap_err(),
        store.remove(&there, fence).await.unwrap_err(),
    ];
    for error in refusals {
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    }
}

#[tokio::test]
async fn what_has_expired_leaves_the_file_by_itself() {
    let clock = Simulated::clock();
    let store = in_memory(clock.clone());
    let short =
        Keep { record: Duration::from_millis(20), response: Some(Duration::from_millis(10)) };
    for _ in 0..200 {
        let (key, fence) = (key(), owner());
        store.claim(&key, &pending(fence), short).await.unwrap();
        store.swap(&key, fence, &done(fence.next()), short).await.unwrap();
    }
    assert_eq!(store.count().unwrap(), 200);
    clock.elapse(Duration::from_millis(20)).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    while store.count().unwrap() > 0 {
        assert!(Instant::now() < deadline, "{} are left", store.count().unwrap());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
