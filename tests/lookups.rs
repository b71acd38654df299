//! What a lookup proves, when, and for whom; on a clock of the test's own.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

#[allow(unreachable_pub, reason = "shared with other tests")]
#[path = "support/clock.rs"]
mod clock;

use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use clock::Virtual;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use oncegate::{
    Gate, IdempotencyLayer, OnUnknown, Outcome, Policy, RequestBody, Resolution, Resolved,
    UpstreamError,
    engine::{
        fingerprint::Hasher,
        problem::Fault,
        reconcile::{Matcher, Reconcile},
        record::{Fence, StoredResponse},
    },
    store::{MemoryStore, Store as _},
};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};
use tower::{Layer as _, ServiceExt as _, service_fn};

const SECOND: Duration = Duration::from_secs(1);

type Inbound = Request<RequestBody<Full<Bytes>>>;

/// What the service does with a payment.
#[derive(Clone, Copy)]
enum Payment {
    /// Resets the connection, and executes nothing.
    Lost,
    /// Executes it after so long, and answers.
    Slow(Duration),
    /// Executes it, and answers after so long.
    Paid(Duration),
    /// Never answers, and executes nothing.
    Stuck,
}

/// What it answers to a lookup.
#[derive(Clone, Copy)]
enum Lookup {
    /// 200 when a payment was executed, else 404.
    Honest,
    /// 200 after so long.
    Slow(Duration),
    /// 200 with these bytes.
    Says(&'static [u8]),
    /// Nothing.
    Stuck,
}

/// A service, the ledger of what reached it, and a gate before it.
#[derive(Clone)]
struct World {
    store: Arc<MemoryStore>,
    gate: Gate,
    reconcile: Reconcile,
    lease: Duration,
    payment: Arc<Mutex<Payment>>,
    lookup: Arc<Mutex<Lookup>>,
    payments: Arc<AtomicUsize>,
    executed: Arc<AtomicUsize>,
    lookups: Arc<Mutex<Vec<http::HeaderMap>>>,
}

impl World {
    fn new(payment: Payment, lookup: Lookup) -> Self {
        let clock = Arc::new(Virtual(Instant::now()));
        let status = |status| Matcher { status: vec![status], json: None, equals: None };
        let store = Arc::new(MemoryStore::new(clock.clone()));
        Self {
            gate: Gate::builder_on(store.clone()).ambient(clock).build(),
            store,
            reconcile: Reconcile {
                request: "GET /lookup/{key}".parse().unwrap(),
                executed: status(StatusCode::OK),
                not_executed: status(StatusCode::NOT_FOUND),
                quiescence: SECOND * 6 / 5,
                timeout: SECOND,
            },
            lease: SECOND * 3 / 10,
            payment: Arc::new(Mutex::new(payment)),
            lookup: Arc::new(Mutex::new(lookup)),
            payments: Arc::default(),
            executed: Arc::default(),
            lookups: Arc::default(),
        }
    }

    /// One whose payments are made, and another gate before the same service and on the same
    /// store, whose clock is an hour ahead.
    async fn and_a_fast_clock(payment: Payment) -> (Self, Self) {
        let fast = Arc::new(Virtual(Instant::now()));
        sleep(SECOND * 3600).await;
        let world = Self::new(payment, Lookup::Honest);
        let gate = Gate::builder_on(world.store.clone()).ambient(fast).build();
        (world.clone(), Self { gate, ..world })
    }

    /// Sends the payment with the key `k`, and gives what became of it.
    fn pay(&self) -> JoinHandle<Outcome> {
        let policy = Policy {
            lease: self.lease,
            response_timeout: Some(SECOND),
            on_unknown: OnUnknown::Reconcile(Arc::new(self.reconcile.clone())),
            ..Policy::default()
        };
        let world = self.clone();
        let service = service_fn(move |request: Inbound| world.clone().serve(request));
        let service = IdempotencyLayer::new(self.gate.clone(), policy).layer(service);
        tokio::spawn(async move {
            let request = Request::post("/pay").header("idempotency-key", "k");
            let request = request.header("accept-encoding", "gzip").body(Full::default()).unwrap();
            *service.oneshot(request).await.unwrap().extensions().get::<Outcome>().unwrap()
        })
    }

    async fn serve(self, request: Inbound) -> Result<Response<Full<Bytes>>, UpstreamError> {
        if request.method() == Method::GET {
            self.lookups.lock().unwrap().push(request.headers().clone());
            let lookup = *self.lookup.lock().unwrap();
            let (status, body) = match lookup {
                Lookup::Honest if self.executed.load(SeqCst) > 0 => (StatusCode::OK, &b"paid"[..]),
                Lookup::Honest => (StatusCode::NOT_FOUND, &b""[..]),
                Lookup::Slow(time) => {
                    sleep(time).await;
                    (StatusCode::OK, &b"found"[..])
                }
                Lookup::Says(bytes) => (StatusCode::OK, bytes),
                Lookup::Stuck => pending().await,
            };
            let response = Response::builder().status(status);
            return Ok(response.body(Full::from(Bytes::from_static(body))).unwrap());
        }
        self.payments.fetch_add(1, SeqCst);
        let payment = *self.payment.lock().unwrap();
        match payment {
            Payment::Lost => return Err(UpstreamError::sent(Fault::Terminated)),
            Payment::Slow(time) => sleep(time).await,
            Payment::Paid(time) => {
                self.executed.fetch_add(1, SeqCst);
                sleep(time).await;
                return Ok(Response::new(Full::from(Bytes::from_static(b"paid"))));
            }
            Payment::Stuck => pending().await,
        }
        self.executed.fetch_add(1, SeqCst);
        Ok(Response::new(Full::from(Bytes::from_static(b"paid"))))
    }

    fn payments(&self) -> usize {
        self.payments.load(SeqCst)
    }
}

#[tokio::test(start_paused = true)]
async fn a_payment_that_is_still_waited_for_is_not_taken_for_absent() {
    let world = World::new(Payment::Slow(SECOND * 4), Lookup::Honest);
    let begin = Instant::now();
    assert_eq!(world.pay().await.unwrap(), Outcome::Unknown, "after a second");
    while begin.elapsed() < SECOND * 39 / 10 {
        assert_eq!(world.pay().await.unwrap(), Outcome::Unknown, "{:?}", begin.elapsed());
        sleep(SECOND / 10).await;
    }
    sleep(SECOND).await;
    assert_eq!(world.pay().await.unwrap(), Outcome::Replayed, "the late response is recorded");
    assert_eq!(world.payments(), 1);
}

/// However short the quiescence is.
#[tokio::test(start_paused = true)]
async fn a_record_is_renewed_before_it_is_as_old_as_the_quiescence() {
    let mut world = World::new(Payment::Slow(SECOND * 4), Lookup::Honest);
    world.reconcile.quiescence = SECOND / 5;
    world.lease = SECOND * 2;
    let begin = Instant::now();
    while begin.elapsed() < SECOND * 39 / 10 {
        assert_eq!(world.pay().await.unwrap(), Outcome::Unknown, "{:?}", begin.elapsed());
        sleep(SECOND / 20).await;
    }
    assert_eq!(world.payments(), 1);
}

/// Its owner says once more that he waits while the lookup is under way.
#[tokio::test(start_paused = true)]
async fn what_a_slow_lookup_found_is_recorded_while_its_owner_waits() {
    let mut world = World::new(Payment::Stuck, Lookup::Slow(SECOND * 9 / 10));
    world.lease = SECOND / 5;
    assert_eq!(world.pay().await.unwrap(), Outcome::Unknown);
    let begin = Instant::now();
    assert_eq!(world.pay().await.unwrap(), Outcome::Reconciled);
    assert!(begin.elapsed() < SECOND, "one lookup: {:?}", begin.elapsed());
    assert_eq!(world.pay().await.unwrap(), Outcome::Replayed);
    assert_eq!((world.payments(), world.lookups.lock().unwrap().len()), (1, 1));
}

/// An operator may think for longer than it takes the owner to say that he still waits.
#[tokio::test(start_paused = true)]
async fn an_operator_is_heard_while_the_owner_waits() {
    let world = World::new(Payment::Stuck, Lookup::Honest);
    assert_eq!(world.pay().await.unwrap(), Outcome::Unknown);
    let (head, ()) = Request::new(()).into_parts();
    let key = Hasher::new(b"").store_key(&[], &head, "k");
    let shown = world.gate.store().get(&key).await.unwrap().unwrap().fence();
    sleep(SECOND).await;
    assert_ne!(world.gate.store().get(&key).await.unwrap().unwrap().fence(), shown);
    let policy = Policy::default();
    let resolve = |resolution| world.gate.resolve(&key, shown, resolution, &policy);
    assert_eq!(resolve(Resolution::NotExecuted).await.unwrap(), Resolved::StillPending);
    let (found, ()) = Response::new(()).into_parts();
    let found = StoredResponse::new(found, Bytes::from_static(b"paid"), None);
    assert_eq!(resolve(Resolution::Executed(found)).await.unwrap(), Resolved::Applied);
    assert_eq!(world.pay().await.unwrap(), Outcome::Replayed);
}

/// The owner's first word that he still waits comes within a lease, and not at once.
#[tokio::test(start_paused = true)]
async fn an_operator_is_not_believed_before_the_owner_could_say_a_word() {
    let world = World::new(Payment::Stuck, Lookup::Honest);
    assert_eq!(world.pay().await.unwrap(), Outcome::Unknown);
    let (head, ()) = Request::new(()).into_parts();
    let key = Hasher::new(b"").store_key(&[], &head, "k");
    let policy = Policy { lease: world.lease, ..Policy::default() };
    let not_executed = async || {
        let shown = world.gate.store().get(&key).await.unwrap().unwrap().fence();
        world.gate.resolve(&key, shown, Resolution::NotExecuted, &policy).await.unwrap()
    };
    assert_eq!(not_executed().await, Resolved::StillPending);
    sleep(SECOND * 6).await;
    assert_eq!(not_executed().await, Resolved::Applied, "nobody waits any more");
}

/// The clock of his gate is ahead; the owner is at work, and says so.
#[tokio::test(start_paused = true)]
async fn an_operator_with_a_fast_clock_changes_nothing_that_runs() {
    let (near, far) = World::and_a_fast_clock(Payment::Slow(SECOND * 9 / 10)).await;
    let owner = near.pay();
    sleep(SECOND / 2).await;
    let (head, ()) = Request::new(()).into_parts();
    let key = Hasher::new(b"").store_key(&[], &head, "k");
    let shown = far.gate.store().get(&key).await.unwrap().unwrap().fence();
    let policy = Policy { lease: far.lease, ..Policy::default() };
    let (found, ()) = Response::new(()).into_parts();
    let found = StoredResponse::new(found, Bytes::from_static(b"found"), None);
    for word in [Resolution::NotExecuted, Resolution::Executed(found)] {
        let resolved = far.gate.resolve(&key, shown, word, &policy).await.unwrap();
        assert_eq!(resolved, Resolved::StillPending);
    }
    assert_eq!(owner.await.unwrap(), Outcome::Executed);
    assert_eq!(near.payments(), 1);
}

/// What the service answers the owner is what retries get.
#[tokio::test(start_paused = true)]
async fn a_gate_with_a_fast_clock_does_not_ask_about_what_runs() {
    let (near, far) = World::and_a_fast_clock(Payment::Paid(SECOND * 9 / 10)).await;
    let owner = near.pay();
    sleep(SECOND / 2).await;
    assert_eq!(far.pay().await.unwrap(), Outcome::Unknown);
    assert_eq!(owner.await.unwrap(), Outcome::Executed);
    assert_eq!(far.pay().await.unwrap(), Outcome::Replayed);
    assert_eq!((near.payments(), near.lookups.lock().unwrap().len()), (1, 0));
}

/// A take-over that is still on its way to the store must not undo it.
#[tokio::test(start_paused = true)]
async fn what_was_learnt_is_newer_than_a_take_over_before_it() {
    let world = World::new(Payment::Lost, Lookup::Says(b"paid"));
    assert_eq!(world.pay().await.unwrap(), Outcome::Unknown);
    assert_eq!(world.pay().await.unwrap(), Outcome::Reconciled);
    let (head, ()) = Request::new(()).into_parts();
    let key = Hasher::new(b"").store_key(&[], &head, "k");
    let learnt = world.store.get(&key).await.unwrap().unwrap().fence();
    let take_over = Fence::new(learnt.token);
    assert!(learnt.admits(take_over) && !take_over.admits(learnt), "{learnt:?}");
}

#[tokio::test(start_paused = true)]
async fn a_payment_that_nobody_waits_for_any_more_is_sent_once_more() {
    let world = World::new(Payment::Stuck, Lookup::Honest);
    let begin = Instant::now();
    assert_eq!(world.pay().await.unwrap(), Outcome::Unknown);
    *world.payment.lock().unwrap() = Payment::Slow(Duration::ZERO);
    while world.pay().await.unwrap() == Outcome::Unknown {
        assert!(begin.elapsed() < SECOND * 7, "the time-out, four more, and the quiescence");
        sleep(SECOND / 10).await;
    }
    assert!(begin.elapsed() > SECOND * 6, "{:?}", begin.elapsed());
    assert_eq!((world.payments(), world.executed.load(SeqCst)), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn one_lookup_answers_all_who_came_before_it() {
    let world = World::new(Payment::Lost, Lookup::Stuck);
    assert_eq!(world.pay().await.unwrap(), Outcome::Unknown);
    let begin = Instant::now();
    let mut retries: Vec<_> = (0..20).map(|_| world.pay()).collect();
    sleep(SECOND / 2).await;
    // These may know more than that lookup can say.
    retries.extend((0..20).map(|_| world.pay()));
    for retry in retries {
        assert_eq!(retry.await.unwrap(), Outcome::Unknown);
    }
    assert!(begin.elapsed() < SECOND * 21 / 10, "{:?}", begin.elapsed());
    assert_eq!(world.lookups.lock().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_proves_nothing() {
    let mut world = World::new(Payment::Lost, Lookup::Says(b"\x1f\x8b\x08 compressed"));
    // A list of what was found, which may be empty.
    world.reconcile.executed.json = Some("/0/id".to_owned());
    world.reconcile.not_executed.status = vec![StatusCode::OK];
    world.reconcile.quiescence = Duration::ZERO;
    assert_eq!(world.pay().await.unwrap(), Outcome::Unknown);
    assert_eq!(world.pay().await.unwrap(), Outcome::Unknown);
    assert_eq!(world.payments(), 1);
    let asked = world.lookups.lock().unwrap().pop().unwrap();
    assert_eq!(asked["accept-encoding"], "identity", "whatever the client can read");
    *world.lookup.lock().unwrap() = Lookup::Says(b"[]");
    *world.payment.lock().unwrap() = Payment::Slow(Duration::ZERO);
    assert_eq!(world.pay().await.unwrap(), Outcome::Executed);
    assert_eq!(world.payments(), 2);
}
