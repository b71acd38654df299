//! Clients that leave, who are somebody else, or who never come back: rows 14, 23 and 29.

use std::time::Duration;

use futures::StreamExt as _;

use crate::{
    is_in_use, pay,
    support::{
        backend::Backend,
        client::{Connection, post, post_with, send},
        eventually,
        gate::{Gate, Process},
        http2, patience,
        redis::Server,
    },
};

/// Row 14, before the claim: whatever the length of what arrived.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_request_is_none() {
    let backend = Backend::start().await;
    let gate = Gate::start(&backend.url(), "").await;
    let request = post("/pay", "k", "half");
    for length in 0..request.len() {
        let mut client = Connection::open(gate.address).await;
        client.write(&request[..length]).await;
        if length % 2 == 0 {
            client.reset();
        }
    }
    let whole = pay(gate.address, "/pay", "k").await;
    assert_eq!((whole.status, whole.header("idempotent-replayed")), (201, ""));
    eventually("nothing is left of the halves", async || {
        gate.metric("oncegate_buffered_bytes").await == 0.0
            && gate.metric("oncegate_pending").await == 0.0
    })
    .await;
    assert_eq!(backend.count(), 1);
}

/// Row 14, the same by HTTP/2: what a stream's reset leaves is no request, whatever its reason,
/// and nor is what is left when a connection falls silent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_stream_is_no_request() {
    let backend = Backend::start().await;
    let gate = Gate::start(&backend.url(), "").await;
    let lengths = [&[][..], &[("content-length", "4")]];
    for (number, reason) in [h2::Reason::NO_ERROR, h2::Reason::CANCEL].into_iter().enumerate() {
        for (length, more) in lengths.iter().enumerate() {
            let key = format!("k-{number}-{length}");
            let fields = [&[("idempotency-key", &*key)][..], more].concat();
            let client = http2::Client::open(gate.address).await;
            let request = http2::head("/pay", &fields);
            let (_, mut sending) = client.begin(request, false).await.unwrap();
            sending.send_data("ha".into(), false).unwrap();
            // An answer on the same connection says that the half has arrived.
            assert_eq!(client.post("/pay", &format!("{key}-between"), "").await.status, 201);
            sending.send_reset(reason);
            assert_eq!(client.post("/pay", &format!("{key}-after"), "").await.status, 201);
            let whole = client.post("/pay", &key, "half").await;
            assert_eq!((whole.status, whole.header("idempotent-replayed")), (201, ""), "{reason}");
            assert_eq!(backend.executions(&key), 1);
        }
    }
    // Who says nothing any more, not even to a ping, is given up.
    let settings = "[server]\nidle_timeout = \"2s\"\nhead_timeout = \"2s\"";
    let gate = Gate::start(&backend.url(), settings).await;
    let mut silent = http2::Raw::open(gate.address).await;
    let fields: [(&[u8], &[u8]); 5] = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":authority", b"g"),
        (b":path", b"/pay"),
        (b"idempotency-key", b"silent"),
    ];
    let head = http2::frame(http2::HEADERS, http2::END_HEADERS, 1, &http2::block(&fields));
    silent.write(&[head, http2::frame(http2::DATA, 0, 1, b"ha")].concat()).await;
    let buffered = async || gate.metric("oncegate_buffered_bytes").await;
    eventually("the half has arrived", async || buffered().await == 2.0).await;
    eventually("its connection is given up", async || buffered().await == 0.0).await;
    let whole = pay(gate.address, "/pay", "silent").await;
    assert_eq!((whole.status, whole.header("idempotent-replayed")), (201, ""));
    assert_eq!(backend.executions("silent"), 1);
}

/// Row 14, from the last byte to the answer: two hundred clients leave, each at a moment
/// of its own, twenty more while the service works for certain, and everybody comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gone_at_any_moment() {
    let (redis, backend) = (Server::start(&[]), Backend::start().await);
    let gate = Process::start(&redis.url(), &backend.url(), None);
    let address = gate.address;
    let clients = (0..200_u64).map(|number| {
        tokio::spawn(async move {
            let request = post("/slow/10", &format!("k-{number}"), "pay");
            let mut client = Connection::open(address).await;
            client.write(&request).await;
            let moment = Duration::from_micros(150 * number);
            let _ = tokio::time::timeout(moment, client.answer()).await;
            if number % 2 == 0 {
                client.reset();
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    for number in 200..220 {
        let key = format!("k-{number}");
        let mut client = Connection::open(address).await;
        client.write(&post("/gate/a", &key, "pay")).await;
        eventually("it runs", async || backend.executions(&key) == 1).await;
        client.leave().await;
    }
    backend.open("a", 1000);
    for number in 0..220 {
        let key = format!("k-{number}");
        let path = if number < 200 { "/slow/10" } else { "/gate/a" };
        eventually("who comes back is answered", async || {
            let answer = pay(address, path, &key).await;
            assert!(answer.status == 201 || is_in_use(&answer), "{answer:?}");
            answer.status == 201
        })
        .await;
        assert_eq!(backend.executions(&key), 1);
    }
}

/// Row 14, the same by HTTP/2: two hundred streams are reset at moments of their own,
/// twenty more while the service works for certain. The connections live on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_reset_at_any_moment() {
    let (redis, backend) = (Server::start(&[]), Backend::start().await);
    let gate = Process::start(&redis.url(), &backend.url(), None);
    let address = gate.address;
    // Four connections, so that none has more streams than it may have open.
    let connections = futures::future::join_all([address; 4].map(http2::Client::open)).await;
    let of = |number: u64| &connections[(number % 4) as usize];
    let path = |number: u64| if number < 200 { "/slow/10" } else { "/gate/a" };
    let streams = (0..220).map(|number| {
        let backend = &backend;
        async move {
            let key = format!("k-{number}");
            let request = http2::keyed(path(number), &key);
            let (response, mut sending) = of(number).begin(request, false).await.unwrap();
            sending.send_data("pay".into(), true).unwrap();
            if number < 200 {
                let moment = Duration::from_micros(500 * number);
                if tokio::time::timeout(moment, response).await.is_ok() {
                    return;
                }
            } else {
                eventually("it runs", async || backend.executions(&key) == 1).await;
            }
            sending.send_reset(h2::Reason::CANCEL);
        }
    });
    futures::future::join_all(streams).await;
    // An answer on the same connection says that the gate has seen the resets.
    for number in 0..4 {
        assert_eq!(of(number).post("/pay", &format!("after-{number}"), "").await.status, 201);
    }
    backend.open("a", 1000);
    for number in 0..220 {
        let key = format!("k-{number}");
        eventually("who comes back is answered", async || {
            let answer = of(number).post(path(number), &key, "pay").await;
            assert!(answer.status == 201 || is_in_use(&answer), "{answer:?}");
            answer.status == 201
        })
        .await;
        assert_eq!(backend.executions(&key), 1);
    }
}

/// Row 29: each key is a record in the store, and in the gate no more than its cache holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_without_end() {
    const KEYS: usize = 20_000;
    let (redis, backend) = (Server::start(&[]), Backend::start().await);
    backend.put(
        "ok",
        format!("HTTP/1.1 201 Created\r\nContent-Length: 1000\r\n\r\n{:1000}", "").as_bytes(),
    );
    let gate = Process::configured(&redis.url(), &backend.url(), "[store]\ncache = \"2MiB\"");
    let client = http2::Client::open(gate.address).await;
    let mut sent = 0;
    let mut after = async |keys: usize| {
        let requests = (sent..keys).map(|number| {
            let key = format!("k-{number}");
            let client = &client;
            async move { assert_eq!(client.post("/raw/ok", &key, "").await.status, 201) }
        });
        futures::stream::iter(requests).buffer_unordered(64).collect::<()>().await;
        sent = keys;
        gate.resident()
    };
    let early = after(KEYS / 5).await;
    let late = after(KEYS).await;
    let grown = late.saturating_sub(early);
    println!("{KEYS} keys: {} KiB, and {} KiB at a fifth of them", late >> 10, early >> 10);
    assert!(grown < 8 << 20, "grown by {grown} bytes");
    assert_eq!(backend.count(), KEYS);
    assert_eq!(client.post("/raw/ok", "k-0", "").await.header("idempotent-replayed"), "true");
}

/// Row 23, in every state and at a gate that waits for another's answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_elses_key_says_nothing() {
    let (redis, backend) = (Server::start(&[]), Backend::start().await);
    let settings = "[idempotency]\non_conflict = \"wait\"\nconflict_wait = \"2s\"\n\
                    [upstream]\nresponse_timeout = \"2s\"\n";
    let [gate, other] =
        [(); 2].map(|()| Process::configured(&redis.url(), &backend.url(), settings));
    let as_caller = |who: &str, path: &str, key: &str| {
        post_with(path, &[("Idempotency-Key", key), ("Authorization", who)], "secret of ann")
    };
    let nothing_for_bob = async |path: &str, key: &str| {
        for gate in [&gate, &other] {
            let answer = send(gate.address, &as_caller("Bearer bob", path, key)).await;
            assert_eq!((answer.status, answer.problem()), (422, "key-reused".to_owned()));
            assert!(!answer.text().contains("secret") && answer.header("location").is_empty());
        }
        assert_eq!(backend.executions(key), 1, "{path}");
    };
    let running = as_caller("Bearer ann", "/gate/a", "pending");
    let address = gate.address;
    let running = tokio::spawn(async move { send(address, &running).await });
    eventually("it runs", async || backend.count() == 1).await;
    nothing_for_bob("/gate/a", "pending").await;
    backend.open("a", 1000);
    assert_eq!(running.await.unwrap().text(), "secret of ann");
    nothing_for_bob("/gate/a", "pending").await;
    let unknown = send(gate.address, &as_caller("Bearer ann", "/reset", "unknown")).await;
    assert_eq!(unknown.problem(), "outcome-unknown");
    nothing_for_bob("/reset", "unknown").await;
}

/// Row 29: who asks for more than the system keeps for him and reads nothing of it has one of
/// the connections, and not for ever.
#[tokio::test]
async fn answers_that_nobody_reads() {
    let backend = Backend::start().await;
    let settings = "[server]\nmax_connections = 1\nidle_timeout = \"300ms\"";
    let gate = Gate::start(&backend.url(), settings).await;
    let mut silent = Connection::open(gate.address).await;
    silent.write(b"GET /large/67108864 HTTP/1.1\r\nHost: g\r\n\r\n").await;
    eventually("it is answered", async || backend.count() == 1).await;
    let other = tokio::time::timeout(patience(), pay(gate.address, "/pay", "k")).await;
    assert_eq!(other.expect("the other client is served").status, 201);
    assert!(silent.answer().await.is_none(), "the answer was cut");
}
