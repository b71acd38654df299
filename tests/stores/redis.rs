//! The Redis store: round trips, lost replies, servers that go and come back.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use oncegate::engine::record::Record;
use oncegate::store::{
    Claimed, RedisOptions, RedisStore, Store, StoreErrorKind, Write,
    conformance::{RealTime, Suite},
};
use rustix::process::{Pid, Signal, kill_process};

use super::{
    sample::{KEEP, done, key, owner, pending},
    support::redis::{Link, Server},
};

fn connect(url: &str) -> RedisStore {
    RedisStore::connect(url, RedisOptions::default()).unwrap()
}

/// Lets the server learn both scripts.
async fn warm(store: &RedisStore) {
    let (key, fence) = (key(), owner());
    store.claim(&key, &pending(fence), KEEP).await.unwrap();
    store.swap(&key, fence, &done(fence.next()), KEEP).await.unwrap();
    store.remove(&key, fence.next()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_conforms() {
    let server = Server::start(&[]);
    let store = connect(&server.url());
    store.verify().await.unwrap();
    let other = Arc::new(connect(&server.url()));
    Suite::new(Arc::new(store), Arc::new(RealTime)).beside(other).run().await;
}

/// Other people's keys neither disturb a listing nor appear in it, nor does what is damaged.
#[tokio::test]
async fn a_listing_passes_over_what_is_not_ours() {
    let server = Server::start(&[]);
    let mut connection = server.connection();
    for number in 0..500 {
        redis::cmd("SET").arg(format!("other:{number}")).arg(1).exec(&mut connection).unwrap();
    }
    redis::cmd("SET").arg("oncegate:{not-a-key}").arg(1).exec(&mut connection).unwrap();
    let damaged = format!("oncegate:{{{}}}", key());
    redis::cmd("SET").arg(damaged).arg("no record").exec(&mut connection).unwrap();
    let store = connect(&server.url());
    let (key, fence) = (key(), owner());
    store.claim(&key, &pending(fence), KEEP).await.unwrap();
    let (mut found, mut cursor) = (Vec::new(), None);
    loop {
        let page = store.scan(cursor, 10).await.unwrap();
        found.extend(page.records.into_iter().map(|(key, _)| key));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(found, [key]);
}

#[tokio::test]
async fn every_operation_is_one_round_trip() {
    let server = Server::start(&[]);
    let store = connect(&server.url());
    warm(&store).await;
    let (key, fence) = (key(), owner());
    let record = done(fence.next());
    let mut reads = server.info("total_reads_processed");
    let mut trips = |operation: &str| {
        // The look itself connects and asks, which the server counts too.
        let now = server.info("total_reads_processed");
        let own = server.info("total_reads_processed") - now;
        let trips = now - reads - own;
        reads = now + own;
        assert_eq!(trips, 1, "round trips of {operation}");
    };
    store.claim(&key, &pending(fence), KEEP).await.unwrap();
    trips("claim");
    assert_eq!(store.swap(&key, fence, &record, KEEP).await.unwrap(), Write::Applied);
    trips("swap");
    assert_eq!(store.get(&key).await.unwrap(), Some(record.clone()));
    trips("get");
    let claimed = store.claim(&key, &pending(owner()), KEEP).await.unwrap();
    assert_eq!(claimed, Claimed::Held(record));
    trips("a claim that replays");
    assert_eq!(store.remove(&key, fence.next()).await.unwrap(), Write::Applied);
    trips("remove");
}

#[tokio::test]
async fn a_lost_reply_changes_nothing() {
    let server = Server::start(&[]);
    let link = Link::to(server.address()).await;
    let store = connect(&link.url());
    warm(&store).await;
    let (key, fence) = (key(), owner());

    link.lose_next_reply();
    let claimed = store.claim(&key, &pending(fence), KEEP).await.unwrap();
    assert_eq!(claimed, Claimed::Mine, "a claim whose reply was lost");
    assert!(!link.waits_to_cut());

    link.lose_next_reply();
    let write = store.swap(&key, fence, &done(fence.next()), KEEP).await.unwrap();
    assert_eq!(write, Write::Applied, "a swap whose reply was lost");
    assert!(!link.waits_to_cut());

    link.lose_next_reply();
    let write = store.remove(&key, fence.next()).await.unwrap();
    assert_eq!(write, Write::Applied, "a removal whose reply was lost");
    assert!(!link.waits_to_cut());
    assert_eq!(store.get(&key).await.unwrap(), None);
}

#[tokio::test]
async fn a_server_that_is_gone_is_an_error_until_it_is_back() {
    let mut server = Server::start(&[]);
    let store = connect(&server.url());
    warm(&store).await;
    server.kill();
    let start = Instant::now();
    for _ in 0..20 {
        let error = store.claim(&key(), &pending(owner()), KEEP).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains(&server.address().to_string()), "{error}");
        assert!(error.to_string().contains("claim"), "{error}");
    }
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    server.restart();
    let deadline = Instant::now() + Duration::from_secs(10);
    while store.ping().await.is_err_and(|error| error.kind() == StoreErrorKind::Unavailable) {
        assert!(Instant::now() < deadline, "the store did not come back");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    warm(&store).await;
}

/// A server that is started later is found: a gate need not start after it.
#[tokio::test]
async fn connecting_is_left_to_the_first_operation() {
    let mut server = Server::start(&[]);
    server.kill();
    let store = connect(&server.url());
    assert_eq!(store.ping().await.unwrap_err().kind(), StoreErrorKind::Unavailable);
    server.restart();
    let deadline = Instant::now() + Duration::from_secs(10);
    while store.ping().await.is_err() {
        assert!(Instant::now() < deadline, "the store did not come back");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_a_time_out() {
    let server = Server::start(&[]);
    let limit = Duration::from_millis(500);
    let options =
        RedisOptions { reply_timeout: limit, connect_timeout: limit, ..RedisOptions::default() };
    let store = RedisStore::connect(&server.url(), options).unwrap();
    warm(&store).await;
    let process = Pid::from_raw(server.id()).unwrap();
    kill_process(process, Signal::STOP).unwrap();
    let start = Instant::now();
    let claims = (0..50).map(|_| async { store.claim(&key(), &pending(owner()), KEEP).await });
    let claims = futures::future::join_all(claims).await;
    let took = start.elapsed();
    kill_process(process, Signal::CONT).unwrap();
    for claimed in claims {
        let error = claimed.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Timeout, "{error}");
    }
    assert!(took < Duration::from_secs(3), "twice the time-out is the bound: {took:?}");
    let deadline = Instant::now() + Duration::from_secs(10);
    while store.ping().await.is_err() {
        assert!(Instant::now() < deadline, "the store did not come back");
    }
    warm(&store).await;
}

#[tokio::test]
async fn a_server_that_evicts_is_refused() {
    let server = Server::start(&[]);
    let mut connection = server.connection();
    let kinds = ["allkeys", "volatile"];
    let named =
        kinds.iter().flat_map(|keys| ["lru", "lfu", "random"].map(|how| format!("{keys}-{how}")));
    for policy in named.chain(["volatile-ttl".to_owned()]) {
        redis::cmd("CONFIG")
            .arg(&["SET", "maxmemory-policy", &policy])
            .exec(&mut connection)
            .unwrap();
        let error = connect(&server.url()).verify().await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Misconfigured);
        for words in [&*policy, "maxmemory-policy noeviction", "store.allow_eviction = true"] {
            assert!(error.to_string().contains(words), "{error}");
        }
    }
    let options = RedisOptions { allow_eviction: true, ..RedisOptions::default() };
    RedisStore::connect(&server.url(), options).unwrap().verify().await.unwrap();
}

/// Somebody changes the setting while gates run.
#[tokio::test]
async fn a_server_that_begins_to_evict_gets_no_claims() {
    let server = Server::start(&[]);
    let store = connect(&server.url());
    warm(&store).await;
    let set = async |policy: &str| {
        let mut connection = server.connection();
        let change = ["SET", "maxmemory-policy", policy];
        redis::cmd("CONFIG").arg(&change).exec(&mut connection).unwrap();
        store.ping().await
    };
    let error = set("allkeys-lru").await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured, "{error}");
    let error = store.claim(&key(), &pending(owner()), KEEP).await.unwrap_err();
    assert!(error.to_string().contains("maxmemory-policy noeviction"), "{error}");
    set("noeviction").await.unwrap();
    warm(&store).await;
}

/// A response is never taken together with a head that is not its own.
#[tokio::test]
async fn a_response_of_another_owner_is_not_replayed() {
    let server = Server::start(&[]);
    let store = connect(&server.url());
    let keys = [key(), key()];
    let fences = [owner(), owner()];
    for (key, fence) in keys.iter().zip(fences) {
        store.claim(key, &pending(fence), KEEP).await.unwrap();
        store.swap(key, fence, &done(fence.next()), KEEP).await.unwrap();
    }
    let [one, other] = keys.map(|key| format!("oncegate:{{{key}}}:r"));
    redis::cmd("COPY").arg(&[&*one, &*other, "REPLACE"]).exec(&mut server.connection()).unwrap();
    let claimed = store.claim(&keys[1], &pending(owner()), KEEP).await.unwrap();
    let Claimed::Held(Record::Expired(held)) = claimed else { panic!("{claimed:?}") };
    assert_eq!(held.fence, fences[1].next());
}

#[tokio::test]
async fn a_full_server_refuses_claims_and_keeps_records() {
    let server = Server::start(&["--maxmemory-policy", "noeviction"]);
    let store = connect(&server.url());
    let (key_there, fence) = (key(), owner());
    store.claim(&key_there, &pending(fence), KEEP).await.unwrap();
    let mut connection = server.connection();
    let full = ["SET", "maxmemory", "1"];
    redis::cmd("CONFIG").arg(&full).exec(&mut connection).unwrap();
    let error = store.claim(&key(), &pending(owner()), KEEP).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("maxmemory"), "{error}");
    assert_eq!(store.get(&key_there).await.unwrap(), Some(pending(fence)));
    // What is there is told to whoever wants to claim it: it can be replayed.
    let held = store.claim(&key_there, &pending(owner()), KEEP).await.unwrap();
    assert_eq!(held, Claimed::Held(pending(fence)));
}

/// A record that cannot be read is there, whatever else is wrong: where requests may pass a store
/// that is down, this one must not.
#[tokio::test]
async fn a_server_that_takes_no_claims_tells_of_damaged_records() {
    let settings = [
        ["maxmemory", "1"],
        // A server that evicts is refused before it is asked.
        ["maxmemory-policy", "allkeys-lru"],
    ];
    for [name, value] in settings {
        let server = Server::start(&["--maxmemory-policy", "noeviction"]);
        let store = connect(&server.url());
        let key = key();
        let mut connection = server.connection();
        let damaged = format!("oncegate:{{{key}}}");
        redis::cmd("SET").arg(damaged).arg("no record").exec(&mut connection).unwrap();
        redis::cmd("CONFIG").arg(&["SET", name, value]).exec(&mut connection).unwrap();
        let _ = store.ping().await;
        let error = store.claim(&key, &pending(owner()), KEEP).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{name}: {error}");
    }
}

#[tokio::test]
async fn scripts_that_the_server_forgot_are_loaded_again() {
    let server = Server::start(&[]);
    let store = connect(&server.url());
    for _ in 0..3 {
        warm(&store).await;
        let mut connection = server.connection();
        redis::cmd("SCRIPT").arg("FLUSH").exec(&mut connection).unwrap();
    }
}

#[tokio::test]
async fn a_wrong_password_is_a_setting_to_change_and_never_told() {
    let server = Server::start(&[]);
    let store = connect(&format!("redis://user:hunter2@{}", server.address()));
    let error = store.ping().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured, "{error}");
    for text in [error.to_string(), format!("{error:?}"), format!("{store:?}")] {
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn a_url_that_is_none_is_refused_without_being_told() {
    for url in ["redis://user:hunter2@:port", "http://:hunter2@host", "hunter2"] {
        let error = RedisStore::connect(url, RedisOptions::default()).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Misconfigured);
        assert!(error.to_string().starts_with("store.url: "), "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
