//! A disk below the embedded store that does not answer, and then does.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::poll;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use oncegate::{
    Gate, IdempotencyLayer, Policy,
    ambient::System,
    store::{Claimed, EmbeddedOptions, EmbeddedStore, Store, StoreErrorKind, Write},
};
use tokio::time::timeout;
use tower::{Layer as _, ServiceExt as _, service_fn};

use super::{
    sample::{KEEP, done, key, owner, pending},
    support::{
        disk::{self, Disk},
        eventually, patience,
    },
};

/// A store whose files are all on one disk, which has `limit` for an answer.
fn on(disk: &Disk, limit: Duration) -> EmbeddedStore {
    let (journal, clock) = ([disk.file(), disk.file()], Arc::new(System));
    let options = EmbeddedOptions { reply_timeout: limit, ..EmbeddedOptions::default() };
    EmbeddedStore::with_backends(disk.file(), disk.file(), journal, clock, options).unwrap()
}

const LIMIT: Duration = Duration::from_millis(500);

/// A disk that hangs until this is dropped, at the latest: the store waits for it at its end.
pub(crate) struct Hanging(Arc<disk::Gate>);

impl Hanging {
    pub(crate) fn now(disk: &Disk) -> Self {
        disk.gate().close();
        Self(disk.gate())
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// Waits until an operation waits for the disk.
pub(crate) async fn hangs(disk: &Disk) {
    eventually("something waits for the disk", async || disk.gate().waiting() > 0).await;
}

#[tokio::test]
async fn it_is_an_error_in_time() {
    let disk = Disk::default();
    let store = on(&disk, LIMIT);
    let (there, fence) = (key(), owner());
    store.claim(&there, &pending(fence), KEEP).await.unwrap();
    let hanging = Hanging::now(&disk);
    let (doubtful, first) = (key(), owner());
    let claimed = timeout(patience(), store.claim(&doubtful, &pending(first), KEEP)).await;
    let errors = [
        claimed.expect("it was answered").unwrap_err(),
        store.swap(&there, fence, &done(fence.next()), KEEP).await.unwrap_err(),
        store.remove(&there, fence).await.unwrap_err(),
        store.ping().await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), StoreErrorKind::Timeout, "{error}");
    }
    assert_eq!(store.get(&there).await.unwrap(), Some(pending(fence)), "what lasts can be read");
    drop(hanging);
    eventually("it works again", async || store.ping().await.is_ok()).await;
    let other = store.claim(&doubtful, &pending(owner()), KEEP).await.unwrap();
    assert_eq!(other, Claimed::Held(pending(first)), "it was on its way to the disk");
}

/// Thousands that come in a second must not pile up behind a disk that hangs for a minute.
#[tokio::test]
async fn what_comes_meanwhile_is_refused_at_once() {
    let disk = Disk::default();
    let store = on(&disk, LIMIT);
    let hanging = Hanging::now(&disk);
    let first = store.claim(&key(), &pending(owner()), KEEP).await.unwrap_err();
    assert_eq!(first.kind(), StoreErrorKind::Timeout);
    eventually("another one need not wait", async || {
        let (key, record) = (key(), pending(owner()));
        let mut claim = store.claim(&key, &record, KEEP);
        poll!(&mut claim).is_ready()
    })
    .await;
    drop(hanging);
    eventually("it works again", async || store.ping().await.is_ok()).await;
}

/// Nobody would end it, and it would be an unknown outcome of a request that was never sent.
#[tokio::test]
async fn a_claim_is_not_made_for_somebody_who_has_left() {
    let disk = Disk::default();
    let store = on(&disk, patience());
    let (unknown, before) = (key(), owner());
    assert_eq!(store.claim(&unknown, &pending(before), KEEP).await.unwrap(), Claimed::Mine);
    let hanging = Hanging::now(&disk);
    let (in_hand, first) = (key(), pending(owner()));
    let mut written = store.claim(&in_hand, &first, KEEP);
    assert!(poll!(&mut written).is_pending());
    hangs(&disk).await;
    let (waiting, second) = (key(), pending(owner()));
    let mut queued = store.claim(&waiting, &second, KEEP);
    assert!(poll!(&mut queued).is_pending());
    let taking_over = pending(owner());
    let mut takeover = store.swap(&unknown, before, &taking_over, KEEP);
    assert!(poll!(&mut takeover).is_pending());
    drop((queued, takeover));
    drop(hanging);
    assert_eq!(written.await.unwrap(), Claimed::Mine);
    let fence = owner();
    assert_eq!(store.claim(&waiting, &pending(fence), KEEP).await.unwrap(), Claimed::Mine);
    assert_eq!(store.remove(&waiting, fence).await.unwrap(), Write::Applied);
    assert_eq!(store.get(&unknown).await.unwrap(), Some(pending(before)), "nobody took it over");
}

/// Who is refused was sent nowhere, and his key is free when the disk is back.
#[tokio::test]
async fn requests_are_refused_in_time_and_can_be_sent_again() {
    let disk = Disk::default();
    let calls = Arc::new(AtomicUsize::new(0));
    let gate = Gate::builder(on(&disk, LIMIT)).build();
    let counted = Arc::clone(&calls);
    // The disk hangs for longer than anybody tries to take something back.
    let policy = Policy { lease: LIMIT, ..Policy::default() };
    let service = IdempotencyLayer::new(gate, policy).layer(service_fn(move |_| {
        counted.fetch_add(1, SeqCst);
        async { Ok::<_, std::convert::Infallible>(Response::new(Full::<Bytes>::from("paid"))) }
    }));
    let pay = |key: usize| {
        let request = Request::post("/pay").header("idempotency-key", key.to_string());
        service.clone().oneshot(request.body(Full::<Bytes>::from("1")).unwrap())
    };
    let hanging = Hanging::now(&disk);
    let refused = futures::future::join_all((0..8).map(pay));
    for answer in timeout(patience(), refused).await.expect("they were answered") {
        assert_eq!(answer.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!(calls.load(SeqCst), 0, "nothing was sent");
    tokio::time::sleep(4 * LIMIT).await;
    drop(hanging);
    for key in 0..8 {
        eventually("the key is free again", async || {
            pay(key).await.unwrap().status() == StatusCode::OK
        })
        .await;
    }
    assert_eq!(calls.load(SeqCst), 8);
}
