//! HTTP/2 on the client's side: the same gate, the same promise, the same bytes.

#![cfg(feature = "proxy")]
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
#![allow(clippy::print_stdout, reason = "what was measured is shown with --nocapture")]

mod support;

#[path = "http2/floods.rs"]
mod floods;
#[path = "http2/limits.rs"]
mod limits;
#[path = "http2/smuggling.rs"]
mod smuggling;

use bytes::Bytes;
use http::{HeaderMap, Request};
use support::{
    backend::{RICH, chunked},
    client::{Answer, Connection, post, post_with, send},
    eventually,
    gate::{Gate, both},
    http2::{Client, answer, head, keyed},
    patience,
    scripted::Service,
};
use tokio::time::timeout;

/// What must be the same in every replay.
fn recorded(answer: &Answer) -> Answer {
    let mut recorded = answer.clone();
    recorded.headers.retain(|(name, _)| {
        ["set-cookie", "location", "x-name", "content-type", "trailer"].contains(&&**name)
    });
    recorded
}

#[tokio::test]
async fn a_replay_is_the_same_by_either_version() {
    let (backend, gate) = both("").await;
    backend.put("rich", RICH);
    backend.put("chunks", &chunked());
    let client = Client::open(gate.address).await;
    let ask = [("Idempotency-Key", "old"), ("TE", "trailers"), ("Connection", "te")];
    for path in ["/raw/rich", "/raw/chunks"] {
        let key = format!("new{path}");
        let first = client.post(path, &key, "pay").await;
        assert_eq!(
            (first.status, first.header("cache-status")),
            (201, "oncegate; fwd=miss; stored")
        );
        let again = client.post(path, &key, "pay").await;
        assert_eq!(again.header("idempotent-replayed"), "true");
        let mut asked = ask;
        asked[0].1 = &key;
        let by_http1 = send(gate.address, &post_with(path, &asked, "pay")).await;
        assert_eq!(by_http1.header("idempotent-replayed"), "true");
        assert_eq!(recorded(&first), recorded(&again));
        assert_eq!(recorded(&first), recorded(&by_http1));

        let key = format!("old{path}");
        asked[0].1 = &key;
        let first = send(gate.address, &post_with(path, &asked, "pay")).await;
        let again = client.post(path, &key, "pay").await;
        assert_eq!((first.status, again.header("idempotent-replayed")), (201, "true"));
        assert_eq!(recorded(&first), recorded(&again));
    }
    assert_eq!(backend.count(), 4);
}

#[tokio::test]
async fn the_upstream_hears_http_1_1() {
    let (backend, gate) = both("").await;
    let client = Client::open(gate.address).await;
    let crumbs = [("cookie", "a=1"), ("x-other", "x"), ("cookie", "b=2"), ("te", "trailers")];
    for key in [&[][..], &[("idempotency-key", "k")]] {
        let headers = [&crumbs[..], key].concat();
        let answer = client.send(head("/pay?x=1", &headers), b"pay").await;
        assert_eq!((answer.status, answer.text()), (201, "pay"));
        assert_eq!(answer.header("via"), "1.1 oncegate");
        let seen = backend.requests().pop().unwrap();
        assert_eq!((&*seen.line, &seen.body[..]), ("POST /pay?x=1 HTTP/1.1", &b"pay"[..]));
        for (name, value) in [
            ("host", "gate"),
            ("cookie", "a=1; b=2"),
            ("te", "trailers"),
            ("via", "2.0 oncegate"),
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-host", "gate"),
            ("x-forwarded-proto", "http"),
        ] {
            let all: Vec<_> = seen.headers.iter().filter(|(n, _)| n == name).collect();
            assert_eq!((all.len(), seen.header(name)), (1, Some(value)), "{name}");
        }
        let lengths = ["content-length", "transfer-encoding"].map(|name| seen.header(name));
        assert_eq!(lengths.iter().flatten().count(), 1, "{lengths:?}");
    }
    // Without a body there is a length, and no chunks that a backend would wait for.
    client.post("/pay", "empty", "").await;
    assert_eq!(backend.requests().pop().unwrap().header("content-length"), Some("0"));
}

/// Hop-by-hop headers of the service, and those of the gate's own refusals.
#[tokio::test]
async fn nothing_in_an_answer_speaks_of_a_connection() {
    let (backend, gate) = both("").await;
    backend.put(
        "hop",
        b"HTTP/1.1 201 Created\r\nConnection: x-hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: close\r\nUpgrade: h2c\r\nX-End: 1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    );
    let client = Client::open(gate.address).await;
    for request in [head("/raw/hop", &[]), keyed("/raw/hop", "k"), keyed("/raw/hop", "k")] {
        let answer = client.send(request, b"").await;
        assert_eq!((answer.status, answer.text(), answer.header("x-end")), (201, "ok", "1"));
        for name in [
            "connection",
            "x-hop",
            "keep-alive",
            "proxy-connection",
            "upgrade",
            "transfer-encoding",
        ] {
            assert_eq!(answer.all(name).len(), 0, "{name}: {answer:?}");
        }
    }
    // HTTP/2 has no way to say that the protocol changes.
    backend.put(
        "switch",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    );
    let answer = client.send(head("/raw/switch", &[]), b"").await;
    assert_eq!((answer.status, answer.problem()), (502, "upstream-failed".to_owned()));
    let answer = client.post("/raw/switch", "switch", "").await;
    assert_eq!((answer.status, answer.problem()), (502, "outcome-unknown".to_owned()));
}

#[tokio::test]
async fn trailers_go_both_ways() {
    let (backend, gate) = both("").await;
    backend.put("chunks", &chunked());
    let client = Client::open(gate.address).await;
    let announced = [("te", "trailers"), ("trailer", "x-check")];
    for key in [&[][..], &[("idempotency-key", "k")], &[("idempotency-key", "k")]] {
        let request = head("/raw/chunks", &[&announced[..], key].concat());
        let (response, mut sending) = client.begin(request, false).await.unwrap();
        sending.send_data(Bytes::from_static(b"pay"), false).unwrap();
        let trailers = HeaderMap::from_iter([("x-check".parse().unwrap(), "7".parse().unwrap())]);
        sending.send_trailers(trailers).unwrap();
        let answer = answer(response.await.unwrap()).await.unwrap();
        assert_eq!((answer.status, answer.text()), (201, "hello world"));
        assert_eq!(answer.trailers, [("x-sum".to_owned(), b"11".to_vec())]);
    }
    let seen = backend.requests();
    assert_eq!(seen.len(), 2);
    for seen in seen {
        assert_eq!((&seen.body[..], seen.header("trailer")), (&b"pay"[..], Some("x-check")));
        assert_eq!(seen.trailers, [("x-check".to_owned(), "7".to_owned())]);
    }
}

/// What is refused before its body was read leaves the connection to the others.
#[tokio::test]
async fn refusals_do_not_wait_for_bodies() {
    let (backend, gate) = both("[server]\nbody_timeout = \"60s\"").await;
    let client = Client::open(gate.address).await;
    assert_eq!(client.post("/pay", "done", "1").await.status, 201);
    let large = "x".repeat(2 << 20);
    for round in 0..20 {
        let length = [("idempotency-key", "large"), ("content-length", "2097152")];
        let (response, mut sending) = client.begin(head("/pay", &length), false).await.unwrap();
        // Some of the body is on its way, and its end never comes.
        sending.send_data(Bytes::from(large[..60_000].to_owned()), false).unwrap();
        let refused = answer(response.await.unwrap()).await.unwrap();
        assert_eq!(
            (refused.status, refused.problem()),
            (413, "body-too-large".to_owned()),
            "{round}"
        );
    }
    assert_eq!(client.post("/pay", "a b", "1").await.problem(), "key-invalid");
    assert_eq!(client.post("/pay", "done", "2").await.problem(), "key-reused");
    assert_eq!(client.post("/pay", "done", "1").await.header("idempotent-replayed"), "true");
    assert_eq!(client.post("/pay", "after", &large[..1 << 20]).await.status, 201);
    assert_eq!(backend.count(), 2);
}

/// Fifty streams of one connection with one key; others go on meanwhile.
#[tokio::test]
async fn duplicates_on_one_connection() {
    let (backend, gate) = both("[idempotency]\non_conflict = \"wait\"").await;
    let client = Client::open(gate.address).await;
    let (waiting, other) = tokio::join!(
        futures::future::join_all((0..50).map(|_| client.post("/ticket/a", "k", "pay"))),
        async {
            eventually("one of them runs", async || backend.count() == 1).await;
            let other = client.post("/pay", "other", "pay").await;
            backend.open("a", 50);
            other
        }
    );
    assert_eq!(other.status, 201);
    assert!(waiting.iter().all(|answer| answer.text() == "execution 1"));
    assert_eq!(backend.executions("k"), 1);
}

/// Each piece reaches the other side before the next one is made.
#[tokio::test]
async fn bodies_pass_as_they_come() {
    let service = Service::start().await;
    let gate = Gate::start(&service.url(), "").await;
    let client = Client::open(gate.address).await;
    let (response, mut sending) = client.begin(head("/up", &[]), false).await.unwrap();
    sending.send_data("one".into(), false).unwrap();
    let mut peer = service.accept().await;
    peer.until("one").await;
    peer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nuno\r\n").await;
    let mut body = response.await.unwrap().into_body();
    let first = timeout(patience(), body.data()).await.expect("it does not wait for the rest");
    assert_eq!(first.unwrap().unwrap(), "uno");
    sending.send_data("two".into(), true).unwrap();
    peer.until("two").await;
    peer.write(b"3\r\ndos\r\n0\r\n\r\n").await;
    assert_eq!(body.data().await.unwrap().unwrap(), "dos");
    // The end may come in a piece of its own.
    assert!(body.data().await.is_none_or(|rest| rest.unwrap().is_empty()));
}

#[tokio::test]
async fn bodies_without_a_key_are_streamed() {
    let (backend, gate) = both("").await;
    let client = Client::open(gate.address).await;
    let large = client.send(head("/large/3000000", &[]), b"").await;
    assert_eq!((large.status, large.body.len()), (200, 3_000_000));
    let get = Request::get("http://gate/large/3000000").body(()).unwrap();
    assert_eq!(client.send(get, b"").await.body.len(), 3_000_000);
    let head = Request::head("http://gate/pay").body(()).unwrap();
    assert_eq!(client.send(head, b"").await.body.len(), 0);
    // A response that breaks off is not taken for whole.
    let cut = format!("/cut/{}", RICH.len() - 2);
    assert!(client.try_send(support::http2::head(&cut, &[]), b"").await.is_err());
    assert_eq!(backend.count(), 4);
}

/// What a client without prior knowledge gets: HTTP/1.1, whatever it offers.
#[tokio::test]
async fn no_upgrade_to_http_2_is_offered() {
    let (backend, gate) = both("").await;
    let offer = [
        ("Connection", "Upgrade, HTTP2-Settings"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "AAMAAABk"),
    ];
    let mut client = Connection::open(gate.address).await;
    client.write(&post_with("/pay", &offer, "pay")).await;
    let answer = client.answer().await.unwrap();
    assert_eq!((answer.status, answer.header("upgrade")), (201, ""));
    client.write(&post("/pay", "k", "pay")).await;
    assert_eq!(client.answer().await.unwrap().status, 201);
    assert!(backend.requests().iter().all(|seen| seen.header("upgrade").is_none()));
}

#[tokio::test]
async fn http_2_can_be_switched_off() {
    let (backend, gate) = both("[server]\nhttp2 = false").await;
    let mut raw = support::http2::Raw::open(gate.address).await;
    assert!(!raw.is_sent_away().await, "whoever does not speak HTTP/2 has no frame to say so");
    assert_eq!(send(gate.address, &post("/pay", "k", "")).await.status, 201);
    assert_eq!(backend.count(), 1);
}
