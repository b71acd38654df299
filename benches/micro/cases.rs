//! What is counted. Each case prepares its inputs once and gives back the call.

use std::{convert::Infallible, hint::black_box, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode, request::Parts};
use http_body_util::{BodyExt as _, Full};
use oncegate::{
    Gate, IdempotencyLayer, Policy, RequestBody,
    engine::{
        codec,
        decision::decide,
        fingerprint::Hasher,
        key::glance,
        policy::BodyMatch,
        record::{Done, Fence, Record, Recorded, StoreKey, StoredResponse, Timestamp, Token},
    },
    store::{MemoryStore, ResponseCache},
};
use tokio::runtime::Runtime;
use tower::{Layer as _, ServiceExt as _, service_fn};

/// A case.
pub(crate) struct Case {
    /// Its name in the baseline.
    pub(crate) name: &'static str,
    /// The code that runs.
    pub(crate) what: &'static str,
    pub(crate) prepare: fn() -> Call,
}

type Call = Box<dyn FnMut()>;

pub(crate) const CASES: &[Case] = &[
    Case { name: "key", what: "engine::key::glance", prepare: || key("7c9e6679-7425-40de-944b") },
    Case {
        name: "key_quoted",
        what: "engine::key::glance, RFC 8941",
        prepare: || key("\"7c9e6679-7425-40de-944b\""),
    },
    Case { name: "store_key", what: "Hasher::store_key", prepare: store_key },
    Case {
        name: "fingerprint",
        what: "Hasher::fingerprint, 40 bytes",
        prepare: || fingerprint(BodyMatch::Exact),
    },
    Case {
        name: "fingerprint_json",
        what: "Hasher::fingerprint, JSON by meaning",
        prepare: || fingerprint(BodyMatch::Json),
    },
    Case { name: "encode", what: "engine::codec::encode", prepare: encode },
    Case { name: "decode", what: "engine::codec::decode", prepare: decode },
    Case { name: "decision", what: "engine::decision::decide", prepare: decision },
    Case { name: "cache_hit", what: "ResponseCache::peek", prepare: cache_hit },
    Case {
        name: "layer_unkeyed",
        what: "IdempotencyService, no key",
        prepare: || layer(Keys::None),
    },
    Case {
        name: "layer_replay",
        what: "IdempotencyService, replay from the cache",
        prepare: || layer(Keys::One),
    },
    Case {
        name: "layer_first",
        what: "IdempotencyService, first request, memory store",
        prepare: || layer(Keys::Another),
    },
];

const BODY: &[u8] = br#"{"amount":1999,"currency":"EUR","to":42}"#;
const KEEP: Duration = Duration::from_secs(86_400);

fn request(key: &str) -> Request<()> {
    let request = Request::post("/payments?dry=1")
        .header("host", "pay.example.org")
        .header("content-type", "application/json")
        .header("content-length", "40")
        .header("authorization", "Bearer 3f1d0c8a")
        .header("user-agent", "client/1.0")
        .header("idempotency-key", key);
    request.body(()).expect("the parts are valid")
}

fn head(key: &str) -> Parts {
    request(key).into_parts().0
}

fn done() -> Arc<Done> {
    let policy = Policy::default();
    let response = Response::builder()
        .header("content-type", "application/json")
        .header("date", "Sat, 21 Nov 2026 12:00:00 GMT")
        .header("location", "/payments/8f14e45f");
    let (head, ()) = response.body(()).expect("the parts are valid").into_parts();
    let body = Bytes::from_static(br#"{"payment":"pay_8f14e45fceea16","status":"paid"}"#);
    Arc::new(Done {
        fence: Fence::new(Token([7; 16])),
        fingerprint: Hasher::new(b"").fingerprint(&policy, &self::head("1"), BODY),
        completed: Timestamp(1_000),
        retained_until: Timestamp(u64::MAX),
        response: Recorded::Whole(StoredResponse::new(head, body, None)),
    })
}

fn key(value: &str) -> Call {
    let (policy, request) = (Policy::default(), request(value));
    Box::new(move || drop(black_box(glance(black_box(&policy), black_box(&request)))))
}

fn store_key() -> Call {
    let (hasher, head) = (Hasher::new(b"secret"), head("1"));
    Box::new(move || {
        black_box(hasher.store_key(&[], black_box(&head), black_box("7c9e6679-7425-40de-944b")));
    })
}

fn fingerprint(fingerprint_body: BodyMatch) -> Call {
    let policy = Policy { fingerprint_body, ..Policy::default() };
    let (hasher, head) = (Hasher::new(b"secret"), head("1"));
    Box::new(move || {
        black_box(hasher.fingerprint(&policy, black_box(&head), black_box(BODY)));
    })
}

fn encode() -> Call {
    let record = Record::Done(done());
    Box::new(move || drop(black_box(codec::encode(black_box(&record), KEEP))))
}

fn decode() -> Call {
    let encoded = codec::encode(&Record::Done(done()), KEEP);
    Box::new(move || {
        let response = encoded.response.clone();
        drop(black_box(codec::decode(black_box(&encoded.head), response)));
    })
}

fn decision() -> Call {
    let done = done();
    let (print, record, policy) = (done.fingerprint, Record::Done(done), Policy::default());
    Box::new(move || {
        drop(black_box(decide(black_box(&record), print, &policy, black_box(Timestamp(2_000)))));
    })
}

fn cache_hit() -> Call {
    let (cache, key) = (ResponseCache::new(64 << 20), StoreKey::from_bytes([9; 32]));
    cache.insert(key, done());
    Box::new(move || drop(black_box(cache.peek(black_box(&key), Timestamp(2_000)))))
}

/// Which keys requests through the layer carry.
#[derive(Clone, Copy)]
enum Keys {
    None,
    One,
    Another,
}

/// A request through the whole layer, to the last byte of its answer.
fn layer(keys: Keys) -> Call {
    let runtime = runtime();
    let gate = Gate::builder(MemoryStore::default()).build();
    let pay = service_fn(async |_: Request<RequestBody<Full<Bytes>>>| {
        let paid = Bytes::from_static(br#"{"payment":"pay_8f14e45fceea16","status":"paid"}"#);
        Ok::<_, Infallible>(Response::new(Full::new(paid)))
    });
    let service = IdempotencyLayer::new(gate, Policy::default()).layer(pay);
    let mut number = 0_u64;
    Box::new(move || {
        let key = match keys {
            Keys::None => None,
            Keys::One => Some("7c9e6679-7425-40de-944b".to_owned()),
            Keys::Another => {
                number += 1;
                Some(format!("7c9e6679-7425-40de-{number:016x}"))
            }
        };
        let mut request = Request::post("/payments").header("content-type", "application/json");
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let request = request.body(Full::new(Bytes::from_static(BODY))).expect("valid parts");
        runtime.block_on(async {
            let response = service.clone().oneshot(request).await.expect("an infallible service");
            assert_eq!(response.status(), StatusCode::OK);
            drop(black_box(response.into_body().collect().await));
        });
    })
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime without threads needs nothing but epoll")
}
