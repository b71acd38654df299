//! A disk below the embedded store that is full, and then has room.

use std::sync::Arc;

use oncegate::{
    ambient::System,
    engine::record::{Fence, StoreKey},
    store::{Claimed, EmbeddedOptions, EmbeddedStore, Store, StoreErrorKind, Write},
};

use super::{
    hanging::{Hanging, hangs},
    sample::{KEEP, done, key, owner, pending},
    support::disk::Disk,
};

/// A store whose journal is on a disk of its own, and somebody's claim in it. What it has is on its
/// way into the tables, whose disk hangs: so the journal does not begin its other file.
async fn with_journal_on(disk: &Disk) -> (EmbeddedStore, Hanging, StoreKey, Fence) {
    let (rest, journal) = (Disk::default(), [disk.file(), disk.file()]);
    let options = EmbeddedOptions::default();
    let store =
        EmbeddedStore::with_backends(rest.file(), rest.file(), journal, Arc::new(System), options);
    let (store, running, fence) = (store.unwrap(), key(), owner());
    let hanging = Hanging::now(&rest);
    assert_eq!(store.claim(&running, &pending(fence), KEEP).await.unwrap(), Claimed::Mine);
    hangs(&rest).await;
    (store, hanging, running, fence)
}

/// Nothing is in doubt, so it goes on by itself.
#[tokio::test]
async fn a_journal_without_room_refuses_until_there_is_some() {
    let disk = Disk::default();
    let (store, _hanging, running, fence) = with_journal_on(&disk).await;
    disk.gate().limit(Some(1 << 20));
    // What has the room that is left is done.
    let mut there = Vec::new();
    let error = loop {
        assert!(there.len() < 10_000, "the disk is never full");
        let (key, fence) = (key(), owner());
        match store.claim(&key, &pending(fence), KEEP).await {
            Ok(claimed) => assert_eq!(claimed, Claimed::Mine),
            Err(error) => break error,
        }
        there.push((key, fence));
    };
    assert_eq!((error.kind(), error.is_undone()), (StoreErrorKind::Unavailable, true));
    assert!(error.to_string().contains("no room"), "{error}");
    // It is told until there is, and what is there is told as well.
    assert!(store.ping().await.unwrap_err().to_string().contains("no room"));
    assert_eq!(store.get(&running).await.unwrap(), Some(pending(fence)));
    let held = store.claim(&running, &pending(owner()), KEEP).await.unwrap();
    assert_eq!(held, Claimed::Held(pending(fence)));
    disk.gate().limit(None);
    store.ping().await.unwrap();
    let written = store.swap(&running, fence, &done(fence.next()), KEEP).await.unwrap();
    assert_eq!(written, Write::Applied);
    assert_eq!(store.claim(&key(), &pending(owner()), KEEP).await.unwrap(), Claimed::Mine);
    for (key, fence) in there {
        assert_eq!(store.get(&key).await.unwrap(), Some(pending(fence)));
    }
}

/// The end of what runs has more to say than a claim, whose end would have no room either.
#[tokio::test]
async fn where_an_end_had_no_room_nothing_is_begun() {
    let disk = Disk::default();
    let (store, _hanging, running, fence) = with_journal_on(&disk).await;
    disk.gate().limit(Some(1 << 20));
    let large = super::sample::answered(fence.next(), 2 << 20);
    let error = store.swap(&running, fence, &large, KEEP).await.unwrap_err();
    assert!(error.to_string().contains("no room"), "{error}");
    // A claim would have room.
    let (new, first) = (key(), owner());
    let claimed = store.claim(&new, &pending(first), KEEP).await;
    assert!(claimed.unwrap_err().is_undone());
    let taken_over = store.swap(&running, fence, &pending(owner()), KEEP).await;
    assert!(taken_over.unwrap_err().to_string().contains("no room"));
    disk.gate().limit(None);
    assert_eq!(store.swap(&running, fence, &large, KEEP).await.unwrap(), Write::Applied);
    assert_eq!(store.get(&running).await.unwrap(), Some(large));
    assert_eq!(store.get(&new).await.unwrap(), None);
}
