//! A store whose replies take longer than a lease, or get lost: what they say was
//! true when the store was asked, and nothing more.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

#[allow(unreachable_pub, reason = "shared with other tests")]
#[path = "support/clock.rs"]
mod clock;

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use clock::Virtual;
use http::{Request, Response};
use http_body_util::Full;
use oncegate::{
    Gate, IdempotencyLayer, OnConflict, OnUnknown, Outcome, Policy, RequestBody, Resolution,
    Resolved, UpstreamError,
    ambient::Ambient,
    engine::{
        fingerprint::Hasher,
        policy::{Keep, OnLateRetry},
        problem::Fault,
        record::{Fence, Record, StoreKey, StoredResponse, Timestamp, Token},
    },
    store::{Claimed, Cursor, MemoryStore, Page, Store, StoreError, Write},
};
use tokio::time::{Instant, sleep};
use tower::{Layer as _, ServiceExt as _, service_fn};

const LEASE: Duration = Duration::from_secs(1);

/// A view of a store whose replies to writes are on their way for this long. Replies to
/// removals get lost after that time, and so do the first few replies to swaps.
#[derive(Clone, Debug)]
struct Far(Arc<MemoryStore>, Duration, Arc<AtomicUsize>);

#[async_trait]
impl Store for Far {
    async fn claim(
        &self,
        key: &StoreKey,
        record: &Record,
        keep: Keep,
    ) -> Result<Claimed, StoreError> {
        let claimed = self.0.claim(key, record, keep).await;
        sleep(self.1).await;
        claimed
    }

    async fn swap(
        &self,
        key: &StoreKey,
        expect: Fence,
        record: &Record,
        keep: Keep,
    ) -> Result<Write, StoreError> {
        let written = self.0.swap(key, expect, record, keep).await;
        sleep(self.1).await;
        match self.2.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)) {
            Ok(_) => Err(StoreError::timeout("swap", LEASE)),
            Err(_) => written,
        }
    }

    async fn remove(&self, key: &StoreKey, expect: Fence) -> Result<Write, StoreError> {
        let _ = self.0.remove(key, expect).await;
        sleep(self.1).await;
        Err(StoreError::timeout("remove", LEASE))
    }

    async fn get(&self, key: &StoreKey) -> Result<Option<Record>, StoreError> {
        self.0.get(key).await
    }

    async fn scan(&self, cursor: Option<Cursor>, limit: usize) -> Result<Page, StoreError> {
        self.0.scan(cursor, limit).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Two gates on one store, of which the second hears of it late; the backend takes
/// `work` for each request.
struct Pair {
    near: Gate,
    far: Gate,
    work: Duration,
    patience: Option<Duration>,
    on_conflict: OnConflict,
}

impl Pair {
    fn new(work: Duration, patience: Option<Duration>) -> Self {
        let clock = Arc::new(Virtual(Instant::now()));
        let store = Arc::new(MemoryStore::new(clock.clone()));
        let near = Gate::builder_on(store.clone()).ambient(clock.clone()).build();
        let far = Gate::builder(Far(store, LEASE * 2, Arc::default())).ambient(clock).build();
        Self { near, far, work, patience, on_conflict: OnConflict::Reject }
    }

    fn send(&self, gate: &Gate) -> tokio::task::JoinHandle<Outcome> {
        let policy = Policy {
            lease: LEASE,
            response_timeout: self.patience,
            on_conflict: self.on_conflict,
            ..Policy::default()
        };
        let work = self.work;
        let service = IdempotencyLayer::new(gate.clone(), policy).layer(service_fn(
            move |_: Request<RequestBody<Full<Bytes>>>| async move {
                sleep(work).await;
                Ok::<_, Infallible>(Response::new(Full::from(Bytes::from_static(b"paid"))))
            },
        ));
        tokio::spawn(async move {
            let request = Request::post("/pay").header("idempotency-key", "k");
            let request = request.body(Full::default()).unwrap();
            let answer = service.oneshot(request).await.unwrap();
            *answer.extensions().get::<Outcome>().unwrap()
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_reply_does_not_make_a_healthy_owner_lost() {
    let pair = Pair::new(LEASE * 10, None);
    let owner = pair.send(&pair.near);
    sleep(LEASE / 2).await;
    assert_eq!(pair.send(&pair.far).await.unwrap(), Outcome::Conflict);
    assert_eq!(owner.await.unwrap(), Outcome::Executed);
}

#[tokio::test(start_paused = true)]
async fn an_owner_who_hears_late_of_his_own_word_does_not_repeat_it() {
    let on_conflict = OnConflict::Wait(LEASE * 5);
    let pair = Pair { on_conflict, ..Pair::new(Duration::ZERO, None) };
    let breaking = IdempotencyLayer::new(pair.far.clone(), Policy::default()).layer(service_fn(
        |_: Request<RequestBody<Full<Bytes>>>| async {
            Err::<Response<Full<Bytes>>, _>(UpstreamError::sent(Fault::Terminated))
        },
    ));
    let request = Request::post("/pay").header("idempotency-key", "k");
    let broken = tokio::spawn(breaking.oneshot(request.body(Full::<Bytes>::default()).unwrap()));
    sleep(LEASE * 5 / 2).await;
    let (head, ()) = Request::new(()).into_parts();
    let key = Hasher::new(b"").store_key(&[], &head, "k");
    let unknown = pair.near.store().get(&key).await.unwrap().unwrap();
    let found = Response::new(()).into_parts().0;
    let found = Resolution::Executed(StoredResponse::new(found, Bytes::from_static(b"paid"), None));
    let policy = Policy::default();
    let resolved = pair.near.resolve(&key, unknown.fence(), found, &policy).await.unwrap();
    assert_eq!(resolved, Resolved::Applied);
    assert_eq!(pair.send(&pair.near).await.unwrap(), Outcome::Replayed);
    let late = pair.send(&pair.far);
    let broken = broken.await.unwrap().unwrap();
    assert_eq!(broken.extensions().get(), Some(&Outcome::Unknown), "as he saw it");
    assert_eq!(late.await.unwrap(), Outcome::Replayed);
}

#[tokio::test(start_paused = true)]
async fn who_lets_go_of_a_key_does_not_refuse_its_next_owner() {
    let pair = Pair::new(Duration::ZERO, None);
    let refusing = IdempotencyLayer::new(pair.far.clone(), Policy::default()).layer(service_fn(
        |_: Request<RequestBody<Full<Bytes>>>| async {
            Err::<Response<Full<Bytes>>, _>(UpstreamError::unsent(Fault::Refused))
        },
    ));
    let request = Request::post("/another").header("idempotency-key", "k");
    let refused = tokio::spawn(refusing.oneshot(request.body(Full::<Bytes>::default()).unwrap()));
    sleep(LEASE * 5 / 2).await;
    assert_eq!(pair.send(&pair.near).await.unwrap(), Outcome::Executed, "the key is free");
    let early = pair.send(&pair.far);
    let refused = refused.await.unwrap().unwrap();
    assert_eq!(refused.extensions().get(), Some(&Outcome::Unreachable));
    let late = pair.send(&pair.far);
    assert_eq!(early.await.unwrap(), Outcome::Replayed);
    assert_eq!(late.await.unwrap(), Outcome::Replayed);
}

#[tokio::test(start_paused = true)]
async fn who_may_have_seen_an_answer_is_not_told_an_older_unknown() {
    let pair = Pair::new(LEASE * 3, Some(LEASE));
    let overdue = pair.send(&pair.near).await.unwrap();
    assert_eq!(overdue, Outcome::Unknown, "after one second");
    sleep(LEASE * 3 / 2).await;
    let early = pair.send(&pair.far);
    sleep(LEASE).await;
    let recorded = pair.send(&pair.near).await.unwrap();
    assert_eq!(recorded, Outcome::Replayed, "the response came in the third second");
    let late = pair.send(&pair.far);
    assert_eq!(early.await.unwrap(), Outcome::Unknown, "it was, when he asked");
    assert_eq!(late.await.unwrap(), Outcome::Replayed);
}

/// What a key was before it was taken over is true again when the take-over came to nothing,
/// also when nobody knows whether the store has it.
#[tokio::test(start_paused = true)]
async fn a_take_over_whose_reply_is_lost_is_taken_back() {
    type Inbound = Request<RequestBody<Full<Bytes>>>;
    let clock = Arc::new(Virtual(Instant::now()));
    let store = Arc::new(MemoryStore::new(clock.clone()));
    let near = Gate::builder_on(store.clone()).ambient(clock.clone()).build();
    let far = Far(store, Duration::ZERO, Arc::new(AtomicUsize::new(1)));
    let lost = Arc::clone(&far.2);
    let far = Gate::builder(far).ambient(clock).build();
    let calls = Arc::new(AtomicUsize::new(0));
    let policy = Policy {
        on_unknown: OnUnknown::Retry,
        on_late_retry: OnLateRetry::Execute,
        retention: LEASE,
        ..Policy::default()
    };
    let send = async |gate: &Gate, policy: &Policy, key: &str, path: &str| {
        let called = Arc::clone(&calls);
        let service = service_fn(move |request: Inbound| {
            called.fetch_add(1, SeqCst);
            let breaks = request.uri().path() == "/break";
            async move {
                match breaks {
                    true => Err(UpstreamError::sent(Fault::Terminated)),
                    false => Ok(Response::new(Full::<Bytes>::default())),
                }
            }
        });
        let service = IdempotencyLayer::new(gate.clone(), policy.clone()).layer(service);
        let request = Request::post(path).header("idempotency-key", key);
        let answer = service.oneshot(request.body(Full::default()).unwrap()).await.unwrap();
        *answer.extensions().get::<Outcome>().unwrap()
    };
    for (key, path, before) in
        [("unknown", "/break", Outcome::Unknown), ("expired", "/pay", Outcome::Executed)]
    {
        assert_eq!(send(&near, &policy, key, path).await, before);
        sleep(LEASE * 2).await;
        lost.store(1, SeqCst);
        assert_eq!(send(&far, &policy, key, path).await, Outcome::StoreUnavailable);
        assert_eq!(lost.load(SeqCst), 0, "a reply was lost");
        sleep(LEASE).await;
        let hold = Policy::default();
        assert_eq!(send(&near, &hold, key, "/other").await, Outcome::Mismatch, "{key}");
        let held = send(&near, &hold, key, path).await;
        assert!([Outcome::Unknown, Outcome::LateRetry].contains(&held), "{key}: {held:?}");
    }
    assert_eq!(calls.load(SeqCst), 2, "the first ones");
}

/// The store lost a claim while its owner waited for a busy service, and another gate has the
/// key: a renewal has told the owner so.
#[tokio::test(start_paused = true)]
async fn an_owner_who_learns_that_he_was_replaced_sends_nothing() {
    type Inbound = Request<RequestBody<Full<Bytes>>>;
    let clock = Arc::new(Virtual(Instant::now()));
    let store = Arc::new(MemoryStore::new(clock.clone()));
    let gate = || Gate::builder_on(store.clone()).ambient(clock.clone()).build();
    let payments = Arc::new(AtomicUsize::new(0));
    let paid = Arc::clone(&payments);
    let service = service_fn(move |request: Inbound| {
        let is_slow = request.uri().path() == "/slow";
        paid.fetch_add(usize::from(!is_slow), SeqCst);
        async move {
            sleep(if is_slow { LEASE / 2 } else { Duration::ZERO }).await;
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
        }
    });
    let policy = Policy { lease: LEASE, ..Policy::default() };
    let busy = tower::limit::ConcurrencyLimit::new(service.clone(), 1);
    let busy = IdempotencyLayer::new(gate(), policy.clone()).layer(busy);
    let free = IdempotencyLayer::new(gate(), policy).layer(service);
    let request = |path: &str, key: &str| {
        let request = Request::post(path).header("idempotency-key", key);
        request.body(Full::<Bytes>::default()).unwrap()
    };
    let slow = tokio::spawn(busy.clone().oneshot(request("/slow", "other")));
    sleep(LEASE / 10).await;
    let waiting = tokio::spawn(busy.oneshot(request("/pay", "k")));
    sleep(LEASE / 10).await;
    let (head, ()) = Request::new(()).into_parts();
    let key = Hasher::new(b"").store_key(&[], &head, "k");
    let claim = store.get(&key).await.unwrap().unwrap();
    assert_eq!(store.remove(&key, claim.fence()).await.unwrap(), Write::Applied);
    let replaced = free.oneshot(request("/pay", "k")).await.unwrap();
    assert_eq!(replaced.extensions().get(), Some(&Outcome::Executed));
    assert_eq!(slow.await.unwrap().unwrap().extensions().get(), Some(&Outcome::Executed));
    let waited = waiting.await.unwrap().unwrap();
    assert_eq!(waited.extensions().get(), Some(&Outcome::StoreUnavailable));
    assert_eq!(payments.load(SeqCst), 1);
}

/// A wall clock that can be moved on.
#[derive(Debug)]
struct Stepping(Virtual, AtomicUsize);

impl Ambient for Stepping {
    fn now(&self) -> Timestamp {
        self.0.now().after(LEASE * self.1.load(SeqCst) as u32)
    }

    fn token(&self) -> Token {
        self.0.token()
    }
}

/// The machine slept after the claim: its monotonic clock did not run, and the store lost the
/// claim meanwhile.
#[tokio::test(start_paused = true)]
async fn a_machine_that_slept_looks_before_it_sends() {
    let clock = Arc::new(Stepping(Virtual(Instant::now()), AtomicUsize::new(0)));
    let store = Arc::new(MemoryStore::new(clock.clone()));
    let far = Far(store.clone(), LEASE / 2, Arc::default());
    let gate = Gate::builder(far).ambient(clock.clone()).build();
    let policy = Policy { lease: LEASE, ..Policy::default() };
    let service = IdempotencyLayer::new(gate, policy).layer(service_fn(
        async |_: Request<RequestBody<Full<Bytes>>>| -> Result<Response<Full<Bytes>>, Infallible> {
            panic!("it was sent")
        },
    ));
    let request = Request::post("/pay").header("idempotency-key", "k");
    let answer = tokio::spawn(service.oneshot(request.body(Full::<Bytes>::default()).unwrap()));
    sleep(LEASE / 4).await;
    let (head, ()) = Request::new(()).into_parts();
    let key = Hasher::new(b"").store_key(&[], &head, "k");
    let claim = store.get(&key).await.unwrap().unwrap();
    assert_eq!(store.remove(&key, claim.fence()).await.unwrap(), Write::Applied);
    clock.1.store(2, SeqCst);
    let answer = answer.await.unwrap().unwrap();
    assert_eq!(answer.extensions().get(), Some(&Outcome::StoreUnavailable));
}
