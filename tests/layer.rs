//! The layer without the proxy: in an axum app, and around plain services.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

#[allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "shared with other tests")]
mod support {
    pub mod client;
}

#[path = "../examples/axum.rs"]
#[allow(unreachable_pub, reason = "an example of its own")]
mod example;

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use oncegate::{
    Gate, IdempotencyLayer, Key, OnConflict, Outcome, Policy, RequestBody, Resolution, Resolved,
    UpstreamError,
    engine::{
        problem::Fault,
        record::{Fence, Reason, State, StoreKey, StoredResponse},
    },
    store::MemoryStore,
};
use support::client::{post, send};
use tokio::sync::Semaphore;
use tower::{Layer as _, Service, ServiceExt as _, service_fn};

type Inbound = Request<RequestBody<Full<Bytes>>>;

fn request(key: &str, body: &'static str) -> Request<Full<Bytes>> {
    Request::post("/pay").header("idempotency-key", key).body(Full::from(body)).unwrap()
}

fn gate() -> Gate {
    Gate::builder(MemoryStore::default()).build()
}

async fn text(
    response: Response<impl http_body::Body<Data = Bytes, Error = oncegate::BoxError>>,
) -> String {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

/// A service that counts, and answers when the test lets it.
#[derive(Clone, Default)]
struct Counter {
    calls: Arc<AtomicUsize>,
    answers: Option<Arc<Semaphore>>,
}

impl Counter {
    fn held() -> Self {
        Self { answers: Some(Arc::new(Semaphore::new(0))), ..Self::default() }
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// The service itself.
    fn service(
        &self,
    ) -> impl Service<Inbound, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + use<> {
        let this = self.clone();
        service_fn(move |request: Inbound| {
            let this = this.clone();
            async move {
                let number = this.calls.fetch_add(1, Ordering::SeqCst) + 1;
                if let Some(answers) = &this.answers {
                    answers.acquire().await.unwrap().forget();
                }
                let key = request.extensions().get::<Key>().map(|key| key.as_str().to_owned());
                Ok(Response::new(Full::from(format!("{number} {}", key.unwrap_or_default()))))
            }
        })
    }
}

#[tokio::test]
async fn of_a_response_with_thousands_of_headers_the_status_is_recorded() {
    let counter = Counter::default();
    let with_headers = tower::ServiceBuilder::new()
        .layer(IdempotencyLayer::new(gate(), Policy::default()))
        .map_response(|mut response: Response<Full<Bytes>>| {
            for _ in 0..5000 {
                response.headers_mut().append("link", http::HeaderValue::from_static("<1>"));
            }
            response
        })
        .service(counter.service());
    let first = with_headers.clone().oneshot(request("k", "1")).await.unwrap();
    assert_eq!(first.headers().get_all("link").iter().count(), 5000);
    let status = first.headers()["cache-status"].to_str().unwrap();
    assert!(status.contains("stored=?0"), "{status}");
    assert_eq!(text(first).await, "1 k");
    let again = with_headers.oneshot(request("k", "1")).await.unwrap();
    assert_eq!(again.status(), StatusCode::CONFLICT);
    assert!(text(again).await.contains("response-not-stored"));
    assert_eq!(counter.calls(), 1);
}

#[tokio::test]
async fn the_example_pays_once_for_a_real_client() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = example::app(gate());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let first = send(address, &post("/payments", "k1", "10")).await;
    assert_eq!((first.status, first.text()), (201, "payment 1 of 10 for key k1\n"));
    let again = send(address, &post("/payments", "k1", "10")).await;
    assert_eq!((again.text(), again.header("idempotent-replayed")), (first.text(), "true"));
    let duplicates: Vec<_> = (0..20)
        .map(|_| tokio::spawn(async move { send(address, &post("/payments", "k2", "10")).await }))
        .collect();
    for duplicate in duplicates {
        assert_eq!(duplicate.await.unwrap().text(), "payment 2 of 10 for key k2\n");
    }
    assert_eq!(send(address, &post("/payments", "k1", "11")).await.status, 422);
    let executed = send(address, b"GET /executed HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(executed.text(), "2");
}

#[tokio::test]
async fn extensions_carry_the_key_in_and_the_outcome_out() {
    let counter = Counter::default();
    let service = IdempotencyLayer::new(gate(), Policy::default()).layer(counter.service());
    let mut keyed = Request::post("/pay").body(Full::from("")).unwrap();
    keyed.extensions_mut().insert(Key::new("from-code").unwrap());
    let first = service.clone().oneshot(keyed.clone()).await.unwrap();
    assert_eq!(first.extensions().get::<Outcome>(), Some(&Outcome::Executed));
    assert_eq!(text(first).await, "1 from-code");
    let again = service.clone().oneshot(keyed).await.unwrap();
    assert_eq!(again.extensions().get::<Outcome>(), Some(&Outcome::Replayed));
    let unkeyed = Request::post("/pay").body(Full::from("")).unwrap();
    let passed = service.oneshot(unkeyed).await.unwrap();
    assert_eq!(passed.extensions().get::<Outcome>(), None);
    assert_eq!(counter.calls(), 2);
}

#[tokio::test]
async fn it_is_always_ready_and_a_duplicate_never_queues_behind_its_owner() {
    let counter = Counter::held();
    // One slot, and the owner has it.
    let limited = tower::limit::ConcurrencyLimit::new(counter.service(), 1);
    let limited = IdempotencyLayer::new(gate(), Policy::default()).layer(limited);
    let owner = tokio::spawn(limited.clone().oneshot(request("k", "1")));
    while counter.calls() == 0 {
        tokio::task::yield_now().await;
    }
    let duplicate =
        tokio::time::timeout(Duration::from_secs(5), limited.clone().oneshot(request("k", "1")));
    assert_eq!(duplicate.await.unwrap().unwrap().status(), StatusCode::CONFLICT);
    counter.answers.as_ref().unwrap().add_permits(1);
    assert_eq!(owner.await.unwrap().unwrap().status(), StatusCode::OK);
}

/// Nothing has left before the service takes the request.
#[tokio::test(start_paused = true)]
async fn waiting_for_a_busy_service_is_no_dispatch() {
    let (gate, counter) = (gate(), Counter::held());
    let limited = tower::limit::ConcurrencyLimit::new(counter.service(), 1);
    let patient = IdempotencyLayer::new(gate.clone(), Policy::default()).layer(limited.clone());
    let hasty = Policy { response_timeout: Some(Duration::from_millis(50)), ..Policy::default() };
    let hasty = IdempotencyLayer::new(gate, hasty).layer(limited);
    let owner = tokio::spawn(patient.clone().oneshot(request("a", "1")));
    while counter.calls() == 0 {
        tokio::task::yield_now().await;
    }
    let refused = hasty.clone().oneshot(request("b", "1")).await.unwrap();
    assert_eq!(refused.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(refused.extensions().get::<Outcome>(), Some(&Outcome::Unreachable));
    counter.answers.as_ref().unwrap().add_permits(2);
    assert_eq!(owner.await.unwrap().unwrap().status(), StatusCode::OK);
    // The key is free, and nothing that was given up comes after all.
    let retry = patient.oneshot(request("b", "1")).await.unwrap();
    assert_eq!(text(retry).await, "2 b");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(counter.calls(), 2);
}

/// A key must not be locked for as long as somebody takes to say nothing.
#[tokio::test(start_paused = true)]
async fn a_response_that_never_ends_is_an_unknown_outcome() {
    type Endless = http_body_util::StreamBody<
        futures::stream::Pending<Result<http_body::Frame<Bytes>, Infallible>>,
    >;
    for kind in ["application/json", "text/event-stream"] {
        let gate = gate();
        let policy = Policy { response_timeout: Some(Duration::from_secs(1)), ..Policy::default() };
        let service = IdempotencyLayer::new(gate.clone(), policy).layer(service_fn(
            move |_: Inbound| async move {
                let body: Endless = http_body_util::StreamBody::new(futures::stream::pending());
                let response = Response::builder().header("content-type", kind).body(body);
                Ok::<_, Infallible>(response.unwrap())
            },
        ));
        let answer = service.clone().oneshot(request("k", "1"));
        let answer = tokio::time::timeout(Duration::from_secs(60), answer).await;
        let answer = answer.expect("it is answered").unwrap();
        let is_stream = kind == "text/event-stream";
        let status = if is_stream { StatusCode::OK } else { StatusCode::GATEWAY_TIMEOUT };
        assert_eq!(answer.status(), status);
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert_eq!(gate.pending(), 0, "nobody is busy with it any more");
        let retry = service.oneshot(request("k", "1")).await.unwrap();
        assert_eq!(retry.extensions().get::<Outcome>(), Some(&Outcome::Unknown));
        assert_eq!(gate.unknown(Reason::Timeout), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn for_ever_is_a_time_like_any_other() {
    let counter = Counter::held();
    let policy = Policy {
        retention: Duration::MAX,
        tombstone: Duration::MAX,
        unknown_retention: Duration::MAX,
        lease: Duration::MAX,
        on_conflict: OnConflict::Wait(Duration::MAX),
        response_timeout: Some(Duration::MAX),
        ..Policy::default()
    };
    let service = IdempotencyLayer::new(gate(), policy).layer(counter.service());
    let [first, second] =
        [(); 2].map(|()| tokio::spawn(service.clone().oneshot(request("k", "1"))));
    while counter.calls() == 0 {
        tokio::task::yield_now().await;
    }
    counter.answers.as_ref().unwrap().add_permits(1);
    for answer in [first, second] {
        assert_eq!(text(answer.await.unwrap().unwrap()).await, "1 k");
    }
}

/// What is known of a key is a reason to refuse, also when somebody else's patience with it
/// is not at its end.
#[tokio::test(start_paused = true)]
async fn another_request_is_told_so_while_others_wait() {
    let store = Arc::new(MemoryStore::default());
    let gates = [(); 2].map(|()| Gate::builder_on(store.clone()).build());
    let (owner, counter) = (Counter::held(), Counter::default());
    let elsewhere =
        IdempotencyLayer::new(gates[0].clone(), Policy::default()).layer(owner.service());
    let owned = tokio::spawn(elsewhere.oneshot(request("k", "1")));
    while owner.calls() == 0 {
        tokio::task::yield_now().await;
    }
    let patient =
        Policy { on_conflict: OnConflict::Wait(Duration::from_secs(5)), ..Policy::default() };
    let patient = IdempotencyLayer::new(gates[1].clone(), patient).layer(counter.service());
    let waiting = tokio::spawn(patient.oneshot(request("k", "1")));
    tokio::time::sleep(Duration::from_millis(1)).await;
    let hasty = IdempotencyLayer::new(gates[1].clone(), Policy::default()).layer(counter.service());
    let other = hasty.oneshot(request("k", "another body")).await.unwrap();
    assert_eq!(other.extensions().get::<Outcome>(), Some(&Outcome::Mismatch));
    owner.answers.as_ref().unwrap().add_permits(1);
    assert_eq!(text(owned.await.unwrap().unwrap()).await, "1 k");
    assert_eq!(text(waiting.await.unwrap().unwrap()).await, "1 k");
    assert_eq!(counter.calls(), 0);
}

/// A service that takes nothing more.
#[derive(Clone)]
struct Closed;

impl Service<Inbound> for Closed {
    type Response = Response<Full<Bytes>>;
    type Error = oncegate::BoxError;
    type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Err("closed".into()))
    }

    fn call(&mut self, _: Inbound) -> Self::Future {
        panic!("it was not ready")
    }
}

#[tokio::test]
async fn a_service_that_takes_nothing_was_sent_nothing() {
    let (gate, counter) = (gate(), Counter::default());
    let closed = IdempotencyLayer::new(gate.clone(), Policy::default()).layer(Closed);
    let refused = closed.oneshot(request("k", "1")).await.unwrap();
    assert_eq!(refused.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(refused.extensions().get::<Outcome>(), Some(&Outcome::Unreachable));
    let open = IdempotencyLayer::new(gate, Policy::default()).layer(counter.service());
    assert_eq!(text(open.oneshot(request("k", "1")).await.unwrap()).await, "1 k");
}

#[tokio::test]
async fn an_exchange_outlives_its_caller() {
    let counter = Counter::held();
    let gate = gate();
    let service = IdempotencyLayer::new(gate.clone(), Policy::default()).layer(counter.service());
    let caller = tokio::spawn(service.clone().oneshot(request("k", "1")));
    while counter.calls() == 0 {
        tokio::task::yield_now().await;
    }
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    counter.answers.as_ref().unwrap().add_permits(1);
    assert_eq!(gate.drain(Duration::from_secs(5)).await, 0, "it was finished, not given up");
    let record_of_it = service.oneshot(request("k", "1")).await.unwrap();
    assert_eq!(
        record_of_it.status(),
        StatusCode::SERVICE_UNAVAILABLE,
        "a drained gate claims nothing"
    );
    assert_eq!(counter.calls(), 1);
}

#[tokio::test]
async fn a_panic_goes_on_and_leaves_an_unknown_outcome() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let service =
        IdempotencyLayer::new(gate(), Policy::default()).layer(service_fn(move |_: Inbound| {
            counted.fetch_add(1, Ordering::SeqCst);
            async {
                if true {
                    panic!("a bug of the handler's")
                } else {
                    Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
                }
            }
        }));
    let caller = tokio::spawn(service.clone().oneshot(request("k", "1")));
    assert!(caller.await.unwrap_err().is_panic());
    let until = tokio::time::Instant::now() + Duration::from_secs(5);
    loop {
        let retry = service.clone().oneshot(request("k", "1")).await.unwrap();
        assert_eq!(retry.status(), StatusCode::CONFLICT);
        let body = text(retry).await;
        if body.contains("owner_lost") {
            break;
        }
        assert!(body.contains("key-in-use") && tokio::time::Instant::now() < until, "{body}");
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_error_releases_only_with_a_proof() {
    for (error, status, calls_after_retry) in [
        (UpstreamError::unsent(Fault::Refused), StatusCode::BAD_GATEWAY, 2),
        (UpstreamError::unsent(Fault::ConnectTimeout), StatusCode::GATEWAY_TIMEOUT, 2),
        (UpstreamError::sent(Fault::Terminated), StatusCode::BAD_GATEWAY, 1),
        (UpstreamError::sent(Fault::ResponseTimeout), StatusCode::GATEWAY_TIMEOUT, 1),
    ] {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let what = error.to_string();
        let error = Arc::new(std::sync::Mutex::new(vec![error]));
        let service = IdempotencyLayer::new(gate(), Policy::default()).layer(service_fn(
            move |_: Inbound| {
                counted.fetch_add(1, Ordering::SeqCst);
                let error = error.lock().unwrap().pop();
                async move {
                    match error {
                        Some(error) => Err(oncegate::BoxError::from(error)),
                        None => Ok(Response::new(Full::<Bytes>::default())),
                    }
                }
            },
        ));
        let first = service.clone().oneshot(request("k", "1")).await.unwrap();
        assert_eq!(first.status(), status, "{what}");
        let _ = service.oneshot(request("k", "1")).await.unwrap();
        assert_eq!(calls.load(Ordering::SeqCst), calls_after_retry, "{what}");
    }
}

#[tokio::test]
async fn an_operator_resolves_what_he_was_shown() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let gate = gate();
    let policy = Policy::default();
    let service =
        IdempotencyLayer::new(gate.clone(), policy.clone()).layer(service_fn(move |_: Inbound| {
            let number = counted.fetch_add(1, Ordering::SeqCst);
            async move {
                if number < 2 {
                    return Err(oncegate::BoxError::from(UpstreamError::sent(Fault::Terminated)));
                }
                Ok(Response::new(Full::<Bytes>::from("executed by the retry")))
            }
        }));
    let ask = |key: &'static str| service.clone().oneshot(request(key, "1"));
    let shown = async || {
        let page = gate.store().scan(None, 10).await.unwrap();
        page.records.into_iter().find(|(_, summary)| summary.state == State::Unknown).unwrap()
    };
    assert_eq!(ask("a").await.unwrap().status(), StatusCode::BAD_GATEWAY);
    let (key, summary) = shown().await;
    let found = || {
        let (head, ()) = Response::builder().status(201).body(()).unwrap().into_parts();
        Resolution::Executed(StoredResponse::new(head, Bytes::from("found by hand"), None))
    };
    let stale = Fence { revision: summary.fence.revision + 1, ..summary.fence };
    assert_eq!(gate.resolve(&key, stale, found(), &policy).await.unwrap(), Resolved::Changed);
    assert_eq!(ask("a").await.unwrap().status(), StatusCode::CONFLICT, "nothing has changed");
    assert_eq!(
        gate.resolve(&key, summary.fence, found(), &policy).await.unwrap(),
        Resolved::Applied
    );
    let replay = ask("a").await.unwrap();
    assert_eq!(
        (replay.status(), text(replay).await),
        (StatusCode::CREATED, "found by hand".to_owned())
    );
    assert_eq!(
        gate.resolve(&key, summary.fence, found(), &policy).await.unwrap(),
        Resolved::Changed
    );

    assert_eq!(ask("b").await.unwrap().status(), StatusCode::BAD_GATEWAY);
    let (key, summary) = shown().await;
    let resolved = gate.resolve(&key, summary.fence, Resolution::NotExecuted, &policy).await;
    assert_eq!(resolved.unwrap(), Resolved::Applied);
    assert_eq!(text(ask("b").await.unwrap()).await, "executed by the retry");
    let absent = StoreKey::from_bytes([0; 32]);
    let resolved = gate.resolve(&absent, summary.fence, Resolution::NotExecuted, &policy).await;
    assert_eq!(resolved.unwrap(), Resolved::Absent);
    assert_eq!(calls.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn waiting_ends_when_the_owner_releases() {
    let counter = Counter::held();
    let gate = gate();
    let policy = Policy {
        on_conflict: OnConflict::Wait(Duration::from_secs(5)),
        release: vec![StatusCode::OK],
        ..Policy::default()
    };
    let service = IdempotencyLayer::new(gate.clone(), policy).layer(counter.service());
    let first = tokio::spawn(service.clone().oneshot(request("k", "1")));
    while counter.calls() == 0 {
        tokio::task::yield_now().await;
    }
    let second = tokio::spawn(service.clone().oneshot(request("k", "1")));
    counter.answers.as_ref().unwrap().add_permits(2);
    let outcome = |response: Response<_>| *response.extensions().get::<Outcome>().unwrap();
    assert_eq!(outcome(first.await.unwrap().unwrap()), Outcome::Released);
    assert_eq!(outcome(second.await.unwrap().unwrap()), Outcome::Released);
    assert_eq!(counter.calls(), 2, "who waited executes in his turn");
    assert_eq!(gate.pending(), 0);
}
