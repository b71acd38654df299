//! What a Redis server is worth at this moment: replicas that do not follow, promotions,
//! restarts, a memory that is full.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use oncegate::store::{
    Claimed, Durability, RedisOptions, RedisStore, Store, StoreErrorKind, Write,
};

use super::{
    sample::{KEEP, done, key, owner, pending},
    support::{
        eventually,
        redis::{Link, Server},
    },
};

const FORCED: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

fn connect(url: &str, durability: Durability) -> RedisStore {
    let options = RedisOptions { durability, refuse_after_loss: true, ..RedisOptions::default() };
    RedisStore::connect(url, options).unwrap()
}

async fn copying(primary: SocketAddr, arguments: &'static [&str]) -> Server {
    tokio::task::spawn_blocking(move || Server::copying(primary, arguments)).await.unwrap()
}

fn scripts(server: &Server) -> u64 {
    let calls: Option<String> = server.every_info().get("cmdstat_evalsha");
    let calls = calls.as_deref().and_then(|calls| calls.strip_prefix("calls=")?.split(',').next());
    calls.map_or(0, |calls| calls.parse().unwrap())
}

fn configure(server: &Server, setting: &str, value: &str) {
    redis::cmd("CONFIG").arg(&["SET", setting, value]).exec(&mut server.connection()).unwrap();
}

/// Has everything written to the file that was acknowledged: with `everysec` a write may wait
/// for an earlier one to be forced, and a kill would take it along.
fn flush(server: &Server) {
    configure(server, "appendfsync", "always");
    redis::cmd("SET").arg("flushed").arg(1).exec(&mut server.connection()).unwrap();
}

async fn claim(store: &RedisStore) -> Result<Claimed, StoreErrorKind> {
    let claimed = store.claim(&key(), &pending(owner()), KEEP).await;
    claimed.map_err(|error| error.kind())
}

/// A claim that is made again writes nothing, and from Redis 7.2 on a connection that has
/// written nothing waits for no replica. So what is there is written once more.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_whose_reply_was_lost_waits_for_its_replicas() {
    let primary = Server::start(&[]);
    let _replica = copying(primary.address(), &[]).await;
    let link = Link::to(primary.address()).await;
    let store = connect(&link.url(), Durability::Replicated(1));
    let warm = owner();
    let known = key();
    store.claim(&known, &pending(warm), KEEP).await.unwrap();
    assert_eq!(store.swap(&known, warm, &done(warm.next()), KEEP).await.unwrap(), Write::Applied);
    let before = scripts(&primary);
    link.lose_next_reply();
    assert_eq!(claim(&store).await, Ok(Claimed::Mine));
    assert!(!link.waits_to_cut(), "a reply was lost");
    assert_eq!(scripts(&primary), before + 1, "it was written once more");
}

/// Nobody waits for them one after another, and nothing else waits behind that.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_do_not_follow_hold_up_nobody() {
    let primary = Server::start(&[]);
    let link = Link::to(primary.address()).await;
    let _replica = copying(link.address(), &[]).await;
    let store = Arc::new(connect(&primary.url(), Durability::Replicated(1)));
    let (recorded, fence) = (key(), owner());
    store.claim(&recorded, &pending(fence), KEEP).await.unwrap();
    link.hold();
    assert_eq!(claim(&store).await, Err(StoreErrorKind::Unavailable), "no replica has it");
    let begin = Instant::now();
    let asked = (0..20).map(|number| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            match number % 2 {
                0 => claim(&store).await.map(drop),
                _ => {
                    let written = store.swap(&recorded, fence, &done(fence.next()), KEEP).await;
                    written.map(drop).map_err(|error| error.kind())
                }
            }
        })
    });
    for asked in asked.collect::<Vec<_>>() {
        assert_eq!(asked.await.unwrap(), Err(StoreErrorKind::Unavailable));
    }
    assert!(store.get(&recorded).await.unwrap().is_some());
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    link.release();
    // Everybody goes on asking meanwhile, and takes back what may be there.
    let stop = Arc::new(AtomicBool::new(false));
    let others: Vec<_> = (0..8)
        .map(|_| {
            let (store, stop) = (Arc::clone(&store), Arc::clone(&stop));
            tokio::spawn(async move {
                while !stop.load(SeqCst) {
                    let (other, fence) = (key(), owner());
                    let _ = store.claim(&other, &pending(fence), KEEP).await;
                    assert_eq!(store.remove(&other, fence).await.unwrap(), Write::Applied);
                    let _ = store.swap(&recorded, fence, &done(fence.next()), KEEP).await;
                }
            })
        })
        .collect();
    eventually("the replica catches up, and stays in step", async || {
        for _ in 0..20 {
            if claim(&store).await.is_err() {
                return false;
            }
        }
        true
    })
    .await;
    stop.store(true, SeqCst);
    for other in others {
        other.await.unwrap();
    }
}

/// What was to be taken of the old history never will be.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_were_behind_need_not_catch_up_with_another_history() {
    let mut primary = Server::start(&[]);
    let mut connection = primary.connection();
    let large = "x".repeat(1 << 20);
    redis::cmd("SET").arg("large").arg(large).exec(&mut connection).unwrap();
    let link = Link::to(primary.address()).await;
    let _replica = copying(link.address(), &[]).await;
    redis::cmd("SET").arg("large").arg("x".repeat(1 << 20)).exec(&mut connection).unwrap();
    let options = RedisOptions { durability: Durability::Replicated(1), ..RedisOptions::default() };
    let store = RedisStore::connect(&primary.url(), options).unwrap();
    link.hold();
    assert_eq!(claim(&store).await, Err(StoreErrorKind::Unavailable));
    let _ = store.ping().await;
    primary.kill();
    link.release();
    primary.restart();
    eventually("claims go on", async || claim(&store).await.is_ok()).await;
}

/// What the replica had not heard of is gone, however it writes what it hears.
#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_is_noticed_however_the_server_writes() {
    let mut primary = Server::start(&FORCED);
    let replica = copying(primary.address(), &FORCED).await;
    let store = connect(&primary.url(), Durability::Fsync);
    assert_eq!(claim(&store).await, Ok(Claimed::Mine));
    eventually("the replica has the marker", async || replica.has_all_of(&primary)).await;
    primary.kill();
    replica.promote();
    let store = connect(&replica.url(), Durability::Fsync);
    assert_eq!(claim(&store).await, Err(StoreErrorKind::DataLost));
    store.acknowledge_loss().await.unwrap();
    assert_eq!(claim(&store).await, Ok(Claimed::Mine));
    assert_eq!(store.losses(), 1);
}

/// A primary that was one before, and a replica between: what it had acknowledged last
/// was thrown away when it began to copy.
#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_was_a_replica_meanwhile_is_noticed() {
    let primary = Server::start(&FORCED);
    let other = copying(primary.address(), &FORCED).await;
    let store = connect(&primary.url(), Durability::Acknowledged);
    assert_eq!(claim(&store).await, Ok(Claimed::Mine));
    eventually("the replica has the marker", async || other.has_all_of(&primary)).await;
    other.promote();
    primary.follow(&other);
    eventually("it copies the other", async || {
        primary.every_info().get::<String>("master_link_status").as_deref() == Some("up")
    })
    .await;
    primary.promote();
    assert_eq!(store.ping().await.unwrap_err().kind(), StoreErrorKind::DataLost);
    assert_eq!(claim(&store).await, Err(StoreErrorKind::DataLost));
}

/// Only who writes is told by the server that it has become a replica. Who looks sees it, and
/// does not stay: the name leads to the new primary, while the old one closes no connection.
#[tokio::test(flavor = "multi_thread")]
async fn who_sees_that_a_server_is_no_primary_connects_anew() {
    let primary = Server::start(&[]);
    let other = copying(primary.address(), &[]).await;
    let link = Link::to(primary.address()).await;
    let store = connect(&link.url(), Durability::Acknowledged);
    assert_eq!(claim(&store).await, Ok(Claimed::Mine));
    eventually("the replica has the claim", async || other.has_all_of(&primary)).await;
    other.promote();
    primary.follow(&other);
    assert_eq!(store.ping().await.unwrap_err().kind(), StoreErrorKind::Misconfigured);
    link.lead_to(other.address());
    eventually("it is at the new primary", async || match store.ping().await {
        Ok(()) => true,
        Err(error) if error.kind() == StoreErrorKind::DataLost => {
            store.acknowledge_loss().await.is_ok()
        }
        Err(_) => false,
    })
    .await;
    assert_eq!(claim(&store).await, Ok(Claimed::Mine));
}

/// It shows no marker, and says what is to be done all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_without_its_primary_names_it() {
    let mut primary = Server::start(&[]);
    let replica = copying(primary.address(), &["--replica-serve-stale-data", "no"]).await;
    let port = primary.address().port().to_string();
    primary.kill();
    eventually("it has noticed", async || {
        replica.every_info().get::<String>("master_link_status").as_deref() == Some("down")
    })
    .await;
    let store = connect(&replica.url(), Durability::Acknowledged);
    let error = store.verify().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured, "{error}");
    assert!(error.to_string().contains(&format!("name its primary, 127.0.0.1:{port}")), "{error}");
}

#[tokio::test]
async fn a_server_that_forces_nothing_while_it_rewrites_is_refused() {
    let server = Server::start(&[&FORCED[..], &["--no-appendfsync-on-rewrite", "yes"]].concat());
    let error = connect(&server.url(), Durability::Fsync).verify().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured);
    assert!(error.to_string().contains("no-appendfsync-on-rewrite"), "{error}");
}

/// It forces every write now, and did not when it was stopped.
#[tokio::test]
async fn a_restart_is_judged_by_how_the_server_wrote_before() {
    let mut server = Server::start(&["--appendonly", "yes"]);
    for loses in [true, false] {
        let store = connect(&server.url(), Durability::Acknowledged);
        let _ = store.ping().await;
        store.acknowledge_loss().await.unwrap();
        flush(&server);
        server.kill();
        server.restart();
        configure(&server, "appendfsync", "always");
        let store = connect(&server.url(), Durability::Acknowledged);
        assert_eq!(store.ping().await.is_err(), loses, "the first time it had not");
        assert_eq!(store.losses(), u64::from(loses));
    }
}

/// Records can be read and removed there, and that it was restarted is not overlooked.
#[tokio::test]
async fn a_server_that_is_full_when_it_comes_back_is_read_from() {
    let mut server = Server::start(&["--appendonly", "yes"]);
    let store = connect(&server.url(), Durability::Acknowledged);
    let (there, fence) = (key(), owner());
    store.claim(&there, &pending(fence), KEEP).await.unwrap();
    flush(&server);
    server.kill();
    server.restart();
    configure(&server, "maxmemory", "1");
    let store = connect(&server.url(), Durability::Acknowledged);
    assert_eq!(store.get(&there).await.unwrap(), Some(pending(fence)));
    // Both are told, and the kind is of what nobody may pass.
    let error = store.claim(&key(), &pending(owner()), KEEP).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::DataLost);
    assert!(error.to_string().contains("takes no writes"), "{error}");
    assert_eq!(store.remove(&there, fence).await.unwrap(), Write::Applied);
    configure(&server, "maxmemory", "0");
    assert_eq!(store.ping().await.unwrap_err().kind(), StoreErrorKind::DataLost);
    assert_eq!(store.losses(), 1);
    // Whether it will do is another question than whether it has lost something.
    store.verify().await.unwrap();
    configure(&server, "maxmemory-policy", "allkeys-lru");
    assert_eq!(store.verify().await.unwrap_err().kind(), StoreErrorKind::Misconfigured);
    assert_eq!(store.ping().await.unwrap_err().kind(), StoreErrorKind::DataLost);
}
