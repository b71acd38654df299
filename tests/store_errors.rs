//! What a store's errors say of a key, and what a gate makes of them.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

#[allow(unreachable_pub, reason = "shared with other tests")]
#[path = "support/clock.rs"]
mod clock;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use clock::Virtual;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use oncegate::{
    Gate, IdempotencyLayer, Key, OnUnknown, Outcome, Policy, RequestBody, Resolution, Resolved,
    ResponseBody, UpstreamError,
    engine::{
        fingerprint::Hasher,
        policy::{Keep, OnStoreDown},
        problem::Fault,
        reconcile::{Matcher, Reconcile},
        record::{Fence, Record, StoreKey, StoredResponse},
    },
    store::{Claimed, Cursor, MemoryStore, Page, Store, StoreError, StoreErrorKind, Write},
};
use tokio::time::{Instant, sleep};
use tower::{Layer as _, ServiceExt as _, service_fn};

const SECOND: Duration = Duration::from_secs(1);

/// A store that can be told to fail.
#[derive(Clone, Debug)]
struct Failing {
    store: Arc<MemoryStore>,
    claim: Option<fn() -> StoreError>,
    /// Claims are made, and their replies are lost.
    loses_replies: Arc<AtomicBool>,
    fails_to_claim: Arc<AtomicBool>,
    fails_to_swap: Arc<AtomicBool>,
    /// The next swap comes too late, and then the store is gone.
    is_overtaken: Arc<AtomicBool>,
    removals: Arc<AtomicUsize>,
}

impl Failing {
    fn new(claim: Option<fn() -> StoreError>) -> (Self, Gate) {
        let clock = Arc::new(Virtual(Instant::now()));
        let store = Self {
            store: Arc::new(MemoryStore::new(clock.clone())),
            claim,
            loses_replies: Arc::default(),
            fails_to_claim: Arc::default(),
            fails_to_swap: Arc::default(),
            is_overtaken: Arc::default(),
            removals: Arc::default(),
        };
        let gate = Gate::builder(store.clone()).ambient(clock).build();
        (store, gate)
    }
}

#[async_trait]
impl Store for Failing {
    async fn claim(
        &self,
        key: &StoreKey,
        record: &Record,
        keep: Keep,
    ) -> Result<Claimed, StoreError> {
        // Long enough for another request to follow.
        sleep(SECOND).await;
        if self.fails_to_claim.load(SeqCst) {
            return Err(StoreError::timeout("claim", SECOND));
        }
        let claimed = match self.claim {
            Some(error) => Err(error()),
            None => self.store.claim(key, record, keep).await,
        };
        if self.loses_replies.load(SeqCst) {
            return Err(StoreError::timeout("claim", SECOND));
        }
        claimed
    }

    async fn swap(
        &self,
        key: &StoreKey,
        expect: Fence,
        record: &Record,
        keep: Keep,
    ) -> Result<Write, StoreError> {
        if self.is_overtaken.swap(false, SeqCst) {
            self.fails_to_claim.store(true, SeqCst);
            return Ok(Write::Fenced);
        }
        if self.fails_to_swap.load(SeqCst) {
            return Err(StoreError::timeout("swap", SECOND));
        }
        self.store.swap(key, expect, record, keep).await
    }

    async fn remove(&self, key: &StoreKey, expect: Fence) -> Result<Write, StoreError> {
        self.removals.fetch_add(1, SeqCst);
        self.store.remove(key, expect).await
    }

    async fn get(&self, key: &StoreKey) -> Result<Option<Record>, StoreError> {
        self.store.get(key).await
    }

    async fn age(&self, key: &StoreKey) -> Result<Option<(Fence, Duration)>, StoreError> {
        self.store.age(key).await
    }

    async fn scan(&self, cursor: Option<Cursor>, limit: usize) -> Result<Page, StoreError> {
        self.store.scan(cursor, limit).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

type Inbound = Request<RequestBody<Full<Bytes>>>;

fn payment() -> Request<Full<Bytes>> {
    Request::post("/pay").header("idempotency-key", "k").body(Full::default()).unwrap()
}

fn outcome<B>(answer: Result<Response<B>, UpstreamError>) -> Outcome {
    *answer.unwrap().extensions().get::<Outcome>().unwrap()
}

/// What breaks the connection each time that it executes.
type Breaking = tower::util::BoxCloneService<
    Request<Full<Bytes>>,
    Response<ResponseBody<Full<Bytes>>>,
    UpstreamError,
>;

/// A gate that sends again what is unknown, before such a service, which has executed once.
async fn unknown_once() -> (Failing, Breaking, Arc<AtomicUsize>) {
    let (store, gate) = Failing::new(None);
    let on_unknown = OnUnknown::Retry;
    let policy = Policy { on_store_down: OnStoreDown::Pass, on_unknown, ..Policy::default() };
    let payments = Arc::new(AtomicUsize::new(0));
    let paid = Arc::clone(&payments);
    let service = service_fn(move |_: Inbound| {
        paid.fetch_add(1, SeqCst);
        async { Err::<Response<Full<Bytes>>, _>(UpstreamError::sent(Fault::Terminated)) }
    });
    let service = Breaking::new(IdempotencyLayer::new(gate, policy).layer(service));
    assert_eq!(outcome(service.clone().oneshot(payment()).await), Outcome::Unknown);
    (store, service, payments)
}

/// A key that the store knows, or may know, is no key of which it says nothing.
#[tokio::test(start_paused = true)]
async fn whose_key_has_a_record_does_not_pass() {
    let errors: [(fn() -> StoreError, Outcome); 3] = [
        (|| StoreError::new(StoreErrorKind::Corrupt, "damaged"), Outcome::StoreUnavailable),
        (|| StoreError::new(StoreErrorKind::DataLost, "lost"), Outcome::StoreUnavailable),
        (|| StoreError::new(StoreErrorKind::Unavailable, "gone"), Outcome::Bypassed),
    ];
    for (error, expected) in errors {
        let (_, gate) = Failing::new(Some(error));
        let policy = Policy { on_store_down: OnStoreDown::Pass, ..Policy::default() };
        let service = IdempotencyLayer::new(gate, policy).layer(service_fn(|request: Inbound| {
            let named = request.extensions().get::<Key>().map(|key| key.as_str().to_owned());
            assert_eq!(named.as_deref(), Some("k"), "it has its key, whoever asked the store");
            async { Ok::<_, UpstreamError>(Response::new(Full::<Bytes>::default())) }
        }));
        let both = [(); 2].map(|()| service.clone().oneshot(payment()));
        for answer in futures::future::join_all(both).await {
            assert_eq!(outcome(answer), expected);
        }
    }
}

/// The service says that it was executed, and the store does not take that.
#[tokio::test(start_paused = true)]
async fn what_was_found_to_be_executed_does_not_pass() {
    let (store, gate) = Failing::new(None);
    let policy =
        Policy { on_store_down: OnStoreDown::Pass, on_unknown: lookup(), ..Policy::default() };
    let payments = Arc::new(AtomicUsize::new(0));
    let paid = Arc::clone(&payments);
    let service = IdempotencyLayer::new(gate, policy).layer(service_fn(move |request: Inbound| {
        let is_lookup = request.method() == Method::GET;
        paid.fetch_add(usize::from(!is_lookup), SeqCst);
        async move {
            match is_lookup {
                true => Ok(Response::new(Full::<Bytes>::from("paid"))),
                false => Err(UpstreamError::sent(Fault::Terminated)),
            }
        }
    }));
    let pay = || service.clone().oneshot(payment());
    assert_eq!(outcome(pay().await), Outcome::Unknown);
    store.fails_to_swap.store(true, SeqCst);
    for answer in futures::future::join_all([pay(), pay()]).await {
        assert_eq!(outcome(answer), Outcome::StoreUnavailable);
    }
    store.fails_to_swap.store(false, SeqCst);
    assert_eq!(outcome(pay().await), Outcome::Reconciled);
    assert_eq!(payments.load(SeqCst), 1);
}

/// The store says what is there, and then no more.
#[tokio::test(start_paused = true)]
async fn what_was_to_be_taken_over_does_not_pass() {
    let (store, service, payments) = unknown_once().await;
    store.fails_to_swap.store(true, SeqCst);
    assert_eq!(outcome(service.oneshot(payment()).await), Outcome::StoreUnavailable);
    assert_eq!(payments.load(SeqCst), 1);
}

/// The store shows a record, somebody else changes it, and the store says no more.
#[tokio::test(start_paused = true)]
async fn what_was_seen_does_not_pass() {
    let (store, service, payments) = unknown_once().await;
    store.is_overtaken.store(true, SeqCst);
    assert_eq!(outcome(service.oneshot(payment()).await), Outcome::StoreUnavailable);
    assert!(!store.is_overtaken.load(SeqCst));
    assert_eq!(payments.load(SeqCst), 1);
}

/// The store has made the claim, and its reply was lost.
#[tokio::test(start_paused = true)]
async fn what_has_passed_is_unknown_where_its_claim_was_made() {
    let (store, gate) = Failing::new(None);
    let policy = Policy { on_store_down: OnStoreDown::Pass, ..Policy::default() };
    let payments = Arc::new(AtomicUsize::new(0));
    let paid = Arc::clone(&payments);
    let service = IdempotencyLayer::new(gate, policy).layer(service_fn(move |_: Inbound| {
        paid.fetch_add(1, SeqCst);
        async { Ok::<_, UpstreamError>(Response::new(Full::<Bytes>::default())) }
    }));
    store.loses_replies.store(true, SeqCst);
    assert_eq!(outcome(service.clone().oneshot(payment()).await), Outcome::Bypassed);
    store.loses_replies.store(false, SeqCst);
    sleep(SECOND).await;
    assert_eq!(outcome(service.oneshot(payment()).await), Outcome::Unknown);
    assert_eq!((payments.load(SeqCst), store.removals.load(SeqCst)), (1, 0));
}

/// The same, and the service takes its time: until it has answered nobody knows.
#[tokio::test(start_paused = true)]
async fn what_passes_is_renewed_where_its_claim_was_made() {
    let (store, gate) = Failing::new(None);
    let policy = Policy { on_store_down: OnStoreDown::Pass, ..Policy::default() };
    let lease = policy.lease;
    let service = IdempotencyLayer::new(gate.clone(), policy.clone()).layer(service_fn(
        move |_: Inbound| async move {
            sleep(lease * 3 / 2).await;
            Ok::<_, UpstreamError>(Response::new(Full::<Bytes>::default()))
        },
    ));
    store.loses_replies.store(true, SeqCst);
    let passing = tokio::spawn(service.oneshot(payment()));
    sleep(lease * 5 / 4).await;
    let (head, ()) = Request::new(()).into_parts();
    let key = Hasher::new(b"").store_key(&[], &head, "k");
    let shown = store.get(&key).await.unwrap().unwrap().fence();
    let resolved = gate.resolve(&key, shown, Resolution::NotExecuted, &policy).await.unwrap();
    assert_eq!(resolved, Resolved::StillPending);
    assert_eq!(outcome(passing.await.unwrap()), Outcome::Bypassed);
}

/// The store is gone while the service is waited for.
#[tokio::test(start_paused = true)]
async fn what_this_gate_still_waits_for_does_not_pass() {
    for asks in [false, true] {
        what_is_waited_for_does_not_pass(asks).await;
    }
}

/// The service is asked, and believed after a second.
fn lookup() -> OnUnknown {
    let status = |status| Matcher { status: vec![status], json: None, equals: None };
    OnUnknown::Reconcile(Arc::new(Reconcile {
        request: "GET /lookup/{key}".parse().unwrap(),
        executed: status(StatusCode::OK),
        not_executed: status(StatusCode::NOT_FOUND),
        quiescence: SECOND,
        timeout: SECOND,
    }))
}

async fn what_is_waited_for_does_not_pass(asks: bool) {
    let (store, gate) = Failing::new(None);
    let on_unknown = if asks { lookup() } else { OnUnknown::Hold };
    let policy = Policy {
        on_store_down: OnStoreDown::Pass,
        response_timeout: Some(SECOND * 10),
        on_unknown,
        ..Policy::default()
    };
    let payments = Arc::new(AtomicUsize::new(0));
    let paid = Arc::clone(&payments);
    let service =
        IdempotencyLayer::new(gate.clone(), policy.clone()).layer(service_fn(move |_: Inbound| {
            paid.fetch_add(1, SeqCst);
            std::future::pending::<Result<Response<Full<Bytes>>, UpstreamError>>()
        }));
    let first = tokio::spawn(service.clone().oneshot(payment()));
    sleep(SECOND * 5).await;
    store.fails_to_swap.store(true, SeqCst);
    store.fails_to_claim.store(true, SeqCst);
    assert_eq!(outcome(first.await.unwrap()), Outcome::Unknown);
    // Where a lookup could find out, it is still under way to this gate.
    let told = if asks { Outcome::Conflict } else { Outcome::Unknown };
    assert_eq!(outcome(service.clone().oneshot(payment()).await), told);
    // When the store has heard of it, others see for themselves, and an operator is heard.
    store.fails_to_swap.store(false, SeqCst);
    store.fails_to_claim.store(false, SeqCst);
    sleep(policy.lease).await;
    let (head, ()) = Request::new(()).into_parts();
    let key = Hasher::new(b"").store_key(&[], &head, "k");
    let shown = store.get(&key).await.unwrap().unwrap().fence();
    let (found, ()) = Response::new(()).into_parts();
    let found = Resolution::Executed(StoredResponse::new(found, Bytes::new(), None));
    assert_eq!(gate.resolve(&key, shown, found, &policy).await.unwrap(), Resolved::Applied);
    assert_eq!(outcome(service.oneshot(payment()).await), Outcome::Replayed);
    assert_eq!(payments.load(SeqCst), 1);
}

/// A store that is down for a minute refuses thousands: what it certainly did not do leaves
/// nothing behind.
#[tokio::test(start_paused = true)]
async fn a_claim_that_cannot_be_there_is_not_taken_back() {
    let errors: [(fn() -> StoreError, bool); 2] = [
        (|| StoreError::new(StoreErrorKind::Unavailable, "not reached").undone(), false),
        (|| StoreError::timeout("claim", SECOND), true),
    ];
    for (error, may_be_there) in errors {
        let (store, gate) = Failing::new(Some(error));
        let service = IdempotencyLayer::new(gate.clone(), Policy::default()).layer(service_fn(
            |_: Inbound| async { Ok::<_, UpstreamError>(Response::new(Full::<Bytes>::default())) },
        ));
        assert_eq!(outcome(service.oneshot(payment()).await), Outcome::StoreUnavailable);
        sleep(SECOND).await;
        assert_eq!(store.removals.load(SeqCst) > 0, may_be_there);
        assert_eq!(gate.drain(Duration::ZERO).await, 0, "nothing was sent that could be given up");
    }
}
