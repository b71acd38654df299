//! A keyed request is executed at most once, and every retry gets the recorded
//! response.
//!
//! This crate is the `oncegate` program (a reverse proxy for services that cannot
//! recognise a retry) and, in this form, a [tower] layer for services of one's own.
//! Wrap a service in an [`IdempotencyLayer`]: a request that carries an
//! `Idempotency-Key` claims the key in a [`Store`](store::Store), runs, and leaves
//! its response there; the next request with the same key is answered from the
//! store. An exchange goes on when its caller leaves, a panic or a broken connection
//! leaves an *unknown* outcome that is never silently executed again, and another
//! request under the same key is refused.
//!
//! # Twice asked, once executed
//!
//! ```
//! use std::{convert::Infallible, sync::{Arc, atomic::{AtomicU32, Ordering}}};
//!
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::{BodyExt as _, Full};
//! use oncegate::{IdempotencyLayer, Outcome, RequestBody, store::MemoryStore};
//! use tower::{Layer as _, ServiceExt as _, service_fn};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let paid = Arc::new(AtomicU32::new(0));
//! let counter = Arc::clone(&paid);
//! // Not idempotent at all: each call is one more payment.
//! let pay = service_fn(move |_: Request<RequestBody<Full<Bytes>>>| {
//!     let number = counter.fetch_add(1, Ordering::SeqCst) + 1;
//!     async move { Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(format!("payment {number}")))) }
//! });
//! let service = IdempotencyLayer::with_store(MemoryStore::default()).layer(pay);
//!
//! for outcome in [Outcome::Executed, Outcome::Replayed] {
//!     let request = Request::post("/payments")
//!         .header("idempotency-key", "order-1")
//!         .body(Full::<Bytes>::from("10 euros"))
//!         .unwrap();
//!     let response = service.clone().oneshot(request).await.unwrap();
//!     assert_eq!(response.extensions().get::<Outcome>(), Some(&outcome));
//!     let body = response.into_body().collect().await.unwrap().to_bytes();
//!     assert_eq!(body, "payment 1");
//! }
//! assert_eq!(paid.load(Ordering::SeqCst), 1);
//! # });
//! ```
//!
//! # One gate for several routes, and keys from code
//!
//! What a process shares (store, cache, who waits for whom) is a [`Gate`]; what a
//! route wants is a [`Policy`]. A [`Key`] in the request's extensions keys it without
//! a header; the service inside finds the key there in any case. Before the process
//! ends, [`Gate::drain`] finishes and records what runs.
//!
//! ```
//! use std::{convert::Infallible, time::Duration};
//!
//! use bytes::Bytes;
//! use http::{Request, Response, StatusCode};
//! use http_body_util::Full;
//! use oncegate::{Gate, IdempotencyLayer, Key, OnConflict, Policy, RequestBody, store::MemoryStore};
//! use tower::{Layer as _, ServiceExt as _, service_fn};
//!
//! type Inbound = Request<RequestBody<Full<Bytes>>>;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let gate = Gate::builder(MemoryStore::default()).secret("the same in every process").build();
//! let strict = Policy {
//!     require_key: true,
//!     on_conflict: OnConflict::Wait(Duration::from_secs(10)),
//!     ..Policy::default()
//! };
//! let work = service_fn(async |request: Inbound| {
//!     let keyed = request.extensions().get::<Key>().is_some();
//!     let status = if keyed { StatusCode::CREATED } else { StatusCode::ACCEPTED };
//!     Ok::<_, Infallible>(Response::builder().status(status).body(Full::<Bytes>::default()).unwrap())
//! });
//! let payments = IdempotencyLayer::new(gate.clone(), strict).layer(work.clone());
//! let reports = IdempotencyLayer::new(gate.clone(), Policy::default()).layer(work);
//!
//! // No key: refused where one is required, passed through elsewhere.
//! let unkeyed = || Request::post("/").body(Full::<Bytes>::default()).unwrap();
//! assert_eq!(payments.clone().oneshot(unkeyed()).await.unwrap().status(), StatusCode::BAD_REQUEST);
//! assert_eq!(reports.oneshot(unkeyed()).await.unwrap().status(), StatusCode::ACCEPTED);
//!
//! // A key from code.
//! let mut keyed = unkeyed();
//! keyed.extensions_mut().insert(Key::new("order-1").unwrap());
//! assert_eq!(payments.oneshot(keyed).await.unwrap().status(), StatusCode::CREATED);
//!
//! assert_eq!(gate.drain(Duration::from_secs(30)).await, 0, "nothing had to be given up");
//! # });
//! ```
//!
//! # Features
//!
//! Features add parts and change no behaviour. All of them are on by default
//! (`codec` comes with the stores that need it); a service takes
//! `default-features = false` and the store that it wants.
//!
//! | feature | adds |
//! |---|---|
//! | none | the layer, the engine, [`store::MemoryStore`], [`store::conformance`] |
//! | `codec` | records as bytes, for stores outside this process |
//! | `redis` | `store::RedisStore`: Redis 7 or later, shared by several processes |
//! | `embedded` | `store::EmbeddedStore`: a durable file, for one process |
//! | `proxy` | the program: `proxy`, `config`, `cli`, the admin listener |
//! | `demo` | `oncegate demo` |
//!
//! # Where to read on
//!
//! The README says what is promised, what a client gets in each situation, and how
//! to run the proxy. `docs/architecture.md` is the map of the code, with the
//! invariants and what enforces each of them.
//!
//! [tower]: https://docs.rs/tower

#[cfg(feature = "proxy")]
mod admin;
pub mod ambient;
#[cfg(feature = "proxy")]
pub mod cli;
mod closing;
#[cfg(feature = "proxy")]
pub mod config;
#[cfg(feature = "demo")]
pub mod demo;
pub mod engine;
mod layer;
#[doc(hidden)]
pub mod mutants;
#[cfg(feature = "proxy")]
pub mod proxy;
pub mod store;
#[cfg(any(feature = "proxy", feature = "redis"))]
mod timer;

pub use engine::{
    key::Key,
    policy::{OnConflict, OnLateRetry, OnStoreDown, OnUnknown, Policy},
};
pub use layer::{
    Gate, GateBuilder, IdempotencyLayer, IdempotencyService, Outcome, RequestBody, Resolution,
    Resolved, ResponseBody, ResponseFuture, UpstreamError,
};

/// Its examples are compiled like those of this documentation.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Any error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An error and everything that it lies on, outermost first.
pub(crate) fn chain<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}
