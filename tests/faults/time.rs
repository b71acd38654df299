//! Clocks that step, and keys that outlive their responses: rows 19 and 22.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use oncegate::{
    Gate as LayerGate, IdempotencyLayer, Key, Policy, RequestBody, ResponseBody,
    ambient::{Ambient, System},
    engine::record::{Timestamp, Token},
    store::{RedisOptions, RedisStore},
};
use tokio::sync::Semaphore;
use tower::{Layer as _, Service, ServiceExt as _, service_fn, util::BoxCloneSyncService};

use crate::{
    pay,
    support::{
        backend::Backend,
        client::{post, send},
        eventually,
        gate::Gate,
        redis::Server,
    },
};

const HOUR: i64 = 3_600_000;

/// The system's clock, off by what the test says.
#[derive(Debug, Default)]
struct Stepping(AtomicI64);

impl Ambient for Stepping {
    fn now(&self) -> Timestamp {
        Timestamp(System.now().0.saturating_add_signed(self.0.load(SeqCst)))
    }

    fn token(&self) -> Token {
        System.token()
    }
}

type Inbound = Request<RequestBody<Full<Bytes>>>;
type Outbound = Response<ResponseBody<Full<Bytes>>>;

/// A service that notes what it executes and answers when it may.
#[derive(Clone, Default)]
struct Ledger {
    executions: Arc<Mutex<HashMap<String, usize>>>,
    may_answer: Arc<Mutex<HashMap<String, Arc<Semaphore>>>>,
}

impl Ledger {
    fn executions(&self, key: &str) -> usize {
        self.executions.lock().unwrap().get(key).copied().unwrap_or_default()
    }

    fn gate(&self, key: &str) -> Arc<Semaphore> {
        let mut gates = self.may_answer.lock().unwrap();
        Arc::clone(gates.entry(key.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(0))))
    }

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
                let key = request.extensions().get::<Key>().unwrap().as_str().to_owned();
                let gate = this.gate(&key);
                *this.executions.lock().unwrap().entry(key.clone()).or_default() += 1;
                gate.acquire().await.unwrap().forget();
                Ok(Response::new(Full::from(format!("paid {key}"))))
            }
        })
    }
}

/// One gate with a clock of its own.
#[derive(Clone)]
struct Clocked {
    clock: Arc<Stepping>,
    service: BoxCloneSyncService<Request<Full<Bytes>>, Outbound, Infallible>,
}

impl Clocked {
    fn new(redis: &Server, ledger: &Ledger) -> Self {
        let clock = Arc::new(Stepping::default());
        let store = RedisStore::connect(&redis.url(), RedisOptions::default()).unwrap();
        let gate = LayerGate::builder(store).ambient(clock.clone()).build();
        let policy = Policy { lease: Duration::from_millis(300), ..Policy::default() };
        let service = IdempotencyLayer::new(gate, policy).layer(ledger.service());
        Self { clock, service: BoxCloneSyncService::new(service) }
    }

    async fn pay(&self, key: &str) -> (u16, String) {
        let request = Request::post("/pay").header("idempotency-key", key);
        let request = request.body(Full::default()).unwrap();
        let answer = self.service.clone().oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    fn is_off_by(&self, milliseconds: i64) {
        self.clock.0.store(milliseconds, SeqCst);
    }
}

/// Row 19: each gate's clock steps by an hour, forth and back, while a request runs
/// and after it. Clocks say when something is answered, never whether it runs again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_that_step_by_an_hour() {
    let (redis, ledger) = (Server::start(&[]), Ledger::default());
    let [owner, other] = [(); 2].map(|()| Clocked::new(&redis, &ledger));
    for (name, stepping, by) in [
        ("owner+", &owner, HOUR),
        ("owner-", &owner, -HOUR),
        ("other+", &other, HOUR),
        ("other-", &other, -HOUR),
    ] {
        let first = tokio::spawn({
            let owner = owner.clone();
            async move { owner.pay(name).await }
        });
        eventually("it runs", async || ledger.executions(name) >= 1).await;
        for step in [by, 0, by] {
            stepping.is_off_by(step);
            // Over several renewals, which carry the owner's clock into the store.
            for _ in 0..20 {
                for gate in [&owner, &other] {
                    let duplicate = tokio::time::timeout(Duration::from_secs(2), gate.pay(name));
                    let (status, body) = duplicate.await.expect("answered at once");
                    assert_eq!(status, 409, "{name}: {body}");
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        ledger.gate(name).add_permits(1000);
        let paid = (200, format!("paid {name}"));
        assert_eq!(first.await.unwrap(), paid);
        for step in [by, 0] {
            stepping.is_off_by(step);
            for gate in [&owner, &other] {
                assert_eq!(gate.pay(name).await, paid, "replayed");
            }
        }
        assert_eq!(ledger.executions(name), 1, "{name}");
    }
}

/// Row 22: the key remembers its request in every state, at every gate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_request_is_refused_in_every_state() {
    let (redis, backend) = (Server::start(&[]), Backend::start().await);
    let settings = "[upstream]\nresponse_timeout = \"2s\"\n[idempotency]\nretention = \"300ms\"\n";
    let gate = Gate::on(&redis.url(), &backend.url(), settings).await;
    let other = Gate::on(&redis.url(), &backend.url(), settings).await;
    let refused = async |path: &str, key: &str| {
        for gate in [&gate, &other] {
            let answer = send(gate.address, &post(path, key, "pay more")).await;
            assert_eq!((answer.status, answer.problem()), (422, "key-reused".to_owned()), "{path}");
        }
        assert_eq!(backend.executions(key), 1, "{path}");
    };
    let running = crate::spawn_pay(gate.address, "/gate/a", "k");
    eventually("it runs", async || backend.executions("k") == 1).await;
    refused("/gate/a", "k").await;
    backend.open("a", 1000);
    assert_eq!(running.await.unwrap().unwrap().status, 201);
    refused("/gate/a", "k").await;
    eventually("the response expires", async || {
        let late = pay(other.address, "/gate/a", "k").await;
        late.status == 409 && late.problem() == "key-expired"
    })
    .await;
    refused("/gate/a", "k").await;
    assert_eq!(pay(gate.address, "/reset", "unknown").await.problem(), "outcome-unknown");
    refused("/reset", "unknown").await;
}
