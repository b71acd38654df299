//! Bad input gets a clear answer and changes nothing: nothing claimed, backend
//! untouched, and whatever hides behind it is never taken for a request.

#![cfg(feature = "proxy")]

mod support;

use std::{future::pending, time::Duration};

use support::{
    backend::Backend,
    client::{Connection, post, post_with, send, try_send},
    eventually,
    gate::{Gate, both},
    patience,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// The backend has seen nothing, and the key can still be used.
async fn is_untouched(backend: &Backend, gate: &Gate, key: &str) {
    assert_eq!(backend.count(), 0);
    let answer = send(gate.address, &post("/pay", key, "fresh")).await;
    assert_eq!(
        (answer.status, answer.header("idempotent-replayed")),
        (201, ""),
        "{key} was claimed"
    );
}

#[tokio::test]
async fn malformed_keys() {
    let (backend, gate) = both("").await;
    let long = "x".repeat(256);
    for key in ["", "\"\"", &long, "two words", "a,b", "\"open", "\"a\"b", "caf\u{e9}"] {
        let answer = send(gate.address, &post("/pay", key, "")).await;
        assert_eq!((answer.status, answer.problem()), (400, "key-invalid".to_owned()), "{key:?}");
    }
    let twice = post_with("/pay", &[("Idempotency-Key", "a"), ("idempotency-key", "a")], "");
    assert_eq!(send(gate.address, &twice).await.problem(), "key-invalid");
    let nominated =
        post_with("/pay", &[("Idempotency-Key", "a"), ("Connection", "idempotency-key")], "");
    assert_eq!(send(gate.address, &nominated).await.problem(), "key-invalid");
    assert_eq!(gate.outcomes("invalid").await, 10);
    is_untouched(&backend, &gate, "a").await;
}

#[tokio::test]
async fn quoted_and_bare_forms_are_one_key() {
    let (backend, gate) = both("").await;
    for key in ["k-1", "\"k-1\"", "k-1"] {
        assert_eq!(send(gate.address, &post("/pay", key, "")).await.status, 201);
    }
    assert_eq!(backend.count(), 1);
}

#[tokio::test]
async fn control_characters_in_header_values() {
    let (backend, gate) = both("").await;
    for evil in ["a\0b", "a\rb", "a\x0bb", "a\x7fb"] {
        let answer = send(
            gate.address,
            &post_with("/pay", &[("Idempotency-Key", "k"), ("X-Evil", evil)], ""),
        )
        .await;
        assert_eq!(answer.status, 400, "{evil:?}");
        let answer = send(gate.address, &post("/pay", evil, "")).await;
        assert_eq!(answer.status, 400, "{evil:?}");
    }
    is_untouched(&backend, &gate, "k").await;
}

#[tokio::test]
async fn bodies_that_do_not_match_their_length() {
    let (backend, gate) = both("").await;
    // Shorter: the client closes early.
    let mut short = Connection::open(gate.address).await;
    short
        .write(
            b"POST /pay HTTP/1.1\r\nHost: g\r\nIdempotency-Key: k\r\nContent-Length: 9\r\n\r\nfour",
        )
        .await;
    drop(short);
    // Two lengths that differ, no number, negative.
    for length in ["4\r\nContent-Length: 5", "four", "-1", "4, 5", "+4", ""] {
        let request = format!(
            "POST /pay HTTP/1.1\r\nHost: g\r\nIdempotency-Key: k\r\nContent-Length: {length}\r\n\r\nbody"
        );
        assert_eq!(send(gate.address, request.as_bytes()).await.status, 400, "{length}");
    }
    is_untouched(&backend, &gate, "k").await;
}

#[tokio::test]
async fn what_exceeds_a_body_is_not_part_of_it() {
    let (backend, gate) = both("").await;
    let mut client = Connection::open(gate.address).await;
    client.write(b"POST /pay HTTP/1.1\r\nHost: g\r\nIdempotency-Key: k\r\nContent-Length: 4\r\n\r\nbodyrest\r\n\r\n").await;
    assert_eq!(client.answer().await.unwrap().text(), "body");
    assert_eq!(
        client.answer().await.map(|answer| answer.status),
        Some(400),
        "the rest is no request"
    );
    assert!(client.is_closed().await);
    assert_eq!(backend.count(), 1);
}

#[tokio::test]
async fn chunks_that_are_wrong() {
    let (backend, gate) = both("").await;
    for chunks in [
        "fffffffffffffffff\r\nx",
        "5\r\nfourXX\r\n0\r\n\r\n",
        "zz\r\n",
        "-1\r\n",
        "4\r\nbody0\r\n\r\n",
    ] {
        let request = format!(
            "POST /pay HTTP/1.1\r\nHost: g\r\nIdempotency-Key: k\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"
        );
        let answer = send(gate.address, request.as_bytes()).await;
        assert_eq!(
            (answer.status, answer.problem()),
            (400, "body-incomplete".to_owned()),
            "{chunks}"
        );
    }
    for coding in [
        "gzip, chunked, identity",
        "identity",
        "chunked, gzip",
        "xchunked",
        "gzip, chunked",
        "gzip\r\nTransfer-Encoding: chunked",
        "chunked, chunked",
    ] {
        let request = format!(
            "POST /pay HTTP/1.1\r\nHost: g\r\nIdempotency-Key: k\r\nTransfer-Encoding: {coding}\r\n\r\n0\r\n\r\n"
        );
        assert_eq!(send(gate.address, request.as_bytes()).await.status, 400, "{coding}");
    }
    is_untouched(&backend, &gate, "k").await;
}

#[tokio::test]
async fn a_length_and_chunks_at_once() {
    let (backend, gate) = both("").await;
    for framing in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 4",
    ] {
        let hidden = "POST /hidden HTTP/1.1\r\nHost: g\r\nContent-Length: 0\r\n\r\n";
        let request = format!(
            "POST /pay HTTP/1.1\r\nHost: g\r\nIdempotency-Key: k\r\n{framing}\r\n\r\n0\r\n\r\n{hidden}"
        );
        let mut client = Connection::open(gate.address).await;
        client.write(request.as_bytes()).await;
        let answer = client.answer().await.unwrap();
        assert_eq!((answer.status, answer.problem()), (400, "bad-request".to_owned()), "{framing}");
        assert!(client.is_closed().await, "what follows is of doubtful framing");
    }
    is_untouched(&backend, &gate, "k").await;
}

#[tokio::test]
async fn heads_that_are_too_long() {
    let (backend, gate) = both("").await;
    let lines = |length: usize| vec!["x".repeat(1000); length / 1000].join("\r\nX-Long: ");
    for framing in
        ["Content-Length: 3\r\n\r\npay", "Transfer-Encoding: chunked\r\n\r\n3\r\npay\r\n0\r\n\r\n"]
    {
        for (length, status) in [(60_000, 201), (90_000, 431), (400_000, 431)] {
            let long = lines(length);
            let request = format!("POST /pay HTTP/1.1\r\nHost: g\r\nX-Long: {long}\r\n{framing}");
            let mut client = Connection::open(gate.address).await;
            client.try_write(request.as_bytes()).await;
            let answer = client.answer().await.unwrap();
            assert_eq!(answer.status, status, "{length}");
        }
    }
    assert_eq!(backend.count(), 2);
    backend.put(
        "long",
        format!("HTTP/1.1 200 OK\r\nX-Long: {}\r\nContent-Length: 2\r\n\r\nok", lines(60_000))
            .as_bytes(),
    );
    assert_eq!(send(gate.address, &post("/raw/long", "k", "")).await.text(), "ok");
}

/// A hundred fields, those that frame the message among them.
#[tokio::test]
async fn heads_of_too_many_fields() {
    let (backend, gate) = both("").await;
    let fields = |count: usize| "X-Field: 1\r\n".repeat(count);
    for (more, status) in [(97, 201), (98, 431)] {
        let key = format!("Idempotency-Key: {more}\r\n");
        let more = fields(more);
        let request =
            format!("POST /pay HTTP/1.1\r\nHost: g\r\n{key}{more}Content-Length: 3\r\n\r\npay");
        assert_eq!(send(gate.address, request.as_bytes()).await.status, status);
    }
    assert_eq!(backend.count(), 1);
    for (name, more, status) in [("all", 99, 200), ("more", 100, 502)] {
        let more = fields(more);
        let response = format!("HTTP/1.1 200 OK\r\n{more}Content-Length: 2\r\n\r\nok");
        backend.put(name, response.as_bytes());
        let answer = send(gate.address, &post(&format!("/raw/{name}"), name, "")).await;
        assert_eq!(answer.status, status, "{name}");
    }
    let retry = send(gate.address, &post("/raw/more", "more", "")).await;
    assert_eq!((retry.status, retry.problem()), (409, "outcome-unknown".to_owned()));
}

#[tokio::test]
async fn http_1_0() {
    let (backend, gate) = both("").await;
    let answer = send(
        gate.address,
        b"POST /pay HTTP/1.0\r\nIdempotency-Key: k\r\nContent-Length: 3\r\n\r\npay",
    )
    .await;
    assert_eq!((answer.status, answer.text()), (201, "pay"));
    assert_eq!(backend.requests()[0].header("host"), Some(&*backend.address.to_string()));
    // The target may name the host, which the service hears of like any other.
    let absolute =
        b"POST http://shop.example/pay HTTP/1.0\r\nIdempotency-Key: t\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(send(gate.address, absolute).await.status, 201);
    let named = ["host", "x-forwarded-host"]
        .map(|name| backend.requests()[1].header(name).map(str::to_owned));
    assert_eq!(named, [(); 2].map(|()| Some("shop.example".to_owned())));
    // An upgrade is not for HTTP/1.0 (RFC 9110, 7.8).
    let upgrade =
        b"POST /pay HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: echo\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(send(gate.address, upgrade).await.status, 201);
    assert_eq!(backend.requests()[2].header("upgrade"), None);
    let chunked =
        b"POST /pay HTTP/1.0\r\nIdempotency-Key: c\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(send(gate.address, chunked).await.status, 400);
    assert_eq!(backend.count(), 3);
}

#[tokio::test]
async fn hosts_that_are_missing_or_contradict_each_other() {
    let (backend, gate) = both("").await;
    for head in [
        "POST /pay HTTP/1.1",
        "POST /pay HTTP/1.1\r\nHost: a\r\nHost: b",
        "POST http://a/pay HTTP/1.1\r\nHost: b",
        "POST http://u:p@a/pay HTTP/1.1\r\nHost: u:p@a",
        "POST /pay HTTP/1.1\r\nHost: u@a",
        "POST /pay HTTP/1.1\r\nHost: a, b",
        "POST /pay HTTP/1.1\r\nHost: a/b",
        "POST /pay HTTP/1.1\r\nHost: a:x",
        "POST /pay HTTP/1.0\r\nHost: a:b:1",
        "POST * HTTP/1.1\r\nHost: a",
    ] {
        let request = format!("{head}\r\nIdempotency-Key: k\r\nContent-Length: 0\r\n\r\n");
        let answer = send(gate.address, request.as_bytes()).await;
        assert_eq!((answer.status, answer.problem()), (400, "bad-request".to_owned()), "{head}");
    }
    is_untouched(&backend, &gate, "k").await;
    for host in ["", "g:", "g:80", "127.0.0.1:80", "[::1]", "[::1]:80", "my_service:80"] {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(send(gate.address, request.as_bytes()).await.status, 201, "{host}");
    }
    let absolute = b"POST http://g/pay?x=1 HTTP/1.1\r\nHost: g\r\nIdempotency-Key: abs\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(send(gate.address, absolute).await.status, 201);
    assert_eq!(backend.requests().last().unwrap().line, "POST /pay?x=1 HTTP/1.1");
}

#[tokio::test]
async fn methods_that_a_reverse_proxy_does_not_serve() {
    let (backend, gate) = both("").await;
    for line in ["CONNECT pay:443 HTTP/1.1\r\nHost: pay:443", "TRACE / HTTP/1.1\r\nHost: g"] {
        let answer = send(gate.address, format!("{line}\r\n\r\n").as_bytes()).await;
        assert_eq!(
            (answer.status, answer.problem()),
            (405, "method-not-served".to_owned()),
            "{line}"
        );
        assert!(answer.header("allow").contains("POST"));
    }
    assert_eq!(backend.count(), 0);
}

#[tokio::test]
async fn a_json_pointer_into_a_body_that_is_not_json() {
    let backend = Backend::start().await;
    let settings = "[idempotency]\nkeys = [\"json:/id\"]\nrequire_key = true";
    let gate = Gate::start(&backend.url(), settings).await;
    for body in ["", "not json", "[1,2]", r#"{"id":null}"#, r#"{"id":"#, r#"{"di":"1"}"#] {
        let answer = send(gate.address, &post_with("/pay", &[], body)).await;
        assert_eq!((answer.status, answer.problem()), (400, "key-missing".to_owned()), "{body}");
    }
    for body in [r#"{"id":"a b"}"#, r#"{"id":{}}"#, r#"{"id":true}"#, r#"{"id":"\ud800"}"#] {
        let answer = send(gate.address, &post_with("/pay", &[], body)).await;
        assert_eq!(answer.problem(), "key-invalid", "{body}");
    }
    assert_eq!(backend.count(), 0);
}

/// A request hidden in a body that nobody reads must never come to life.
#[tokio::test]
async fn a_request_hidden_in_an_unread_body() {
    let (backend, gate) = both("").await;
    let address = gate.address;
    let hidden = "POST /hidden HTTP/1.1\r\nHost: g\r\nContent-Length: 0\r\n\r\n";
    let replayed = post("/pay", "done", hidden);
    assert_eq!(send(address, &replayed).await.text(), hidden);
    let pending = post("/gate/a", "pending", hidden);
    let running = tokio::spawn({
        let pending = pending.clone();
        async move { send(address, &pending).await }
    });
    eventually("it runs", async || backend.executions("pending") == 1).await;
    let too_large = hidden.repeat(1 + (1 << 20) / hidden.len());
    let cases = [
        ("a replay", replayed.clone(), 201, true),
        ("a duplicate of what runs", pending, 409, true),
        ("another request", post("/pay", "done", &hidden.repeat(2)), 422, true),
        ("a malformed key", post("/pay", "a b", hidden), 400, true),
        ("a malformed key, its body later", post("/pay", "a b", hidden), 400, false),
        ("too large", post("/pay", "large", &too_large), 413, true),
        ("too large, its body later", post("/pay", "large", &too_large), 413, false),
    ];
    for (what, request, status, at_once) in cases {
        let head = request.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
        let (now, later) = request.split_at(if at_once { request.len() } else { head });
        let mut client = Connection::open(address).await;
        client.write(now).await;
        let answer = client.answer().await.unwrap_or_else(|| panic!("{what}: no answer"));
        assert_eq!(answer.status, status, "{what}");
        // Whatever else comes on this connection is the answer to a real request. Where the
        // head was enough for a refusal, it may end instead.
        client.try_write(later).await;
        client.try_write(&replayed).await;
        let next = client.answer().await;
        assert!(next.is_some() || [400, 413].contains(&status), "{what}: no other answer");
        if let Some(next) = next {
            assert_eq!(next.header("idempotent-replayed"), "true", "{what}: {next:?}");
        }
    }
    backend.open("a", 1);
    assert_eq!(running.await.unwrap().status, 201);
    assert!(backend.requests().iter().all(|seen| !seen.line.contains("hidden")));
    assert_eq!(backend.count(), 2);
}

/// Many clients read nothing before they have sent everything.
#[tokio::test]
async fn who_sends_first_and_reads_then_hears_the_refusal() {
    let (backend, gate) = both("").await;
    let long = "x".repeat(16 << 20);
    for (request, status) in [
        (post("/pay", "k", &long), 413),
        (post("/pay", "a b", &long), 400),
        (post_with("/pay", &[("Transfer-Encoding", "gzip, chunked")], &long), 400),
        (format!("NO/METHOD / HTTP/1.1\r\nHost: g\r\n\r\n{long}").into_bytes(), 400),
    ] {
        let mut client = Connection::open(gate.address).await;
        assert!(client.try_write(&request).await, "it can send everything");
        assert_eq!(client.answer().await.expect("it is answered").status, status);
    }
    assert_eq!(backend.count(), 0);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let (backend, gate) = both("").await;
    let mut client = Connection::open(gate.address).await;
    let requests: Vec<u8> =
        (0..5).flat_map(|n| post("/pay", &format!("k{}", n % 2), &(n % 2).to_string())).collect();
    client.write(&requests).await;
    for n in 0..5 {
        assert_eq!(client.answer().await.unwrap().text(), (n % 2).to_string());
    }
    assert_eq!(backend.count(), 2);
}

/// The first one's length is not that of the second, whose chunks are all the length it has.
#[tokio::test]
async fn chunks_behind_a_request_with_a_length() {
    let (backend, gate) = both("").await;
    let mut client = Connection::open(gate.address).await;
    let mut requests = post("/pay", "length", "1");
    let chunked = "POST /pay HTTP/1.1\r\nHost: g\r\nIdempotency-Key: chunks\r\n\
        Transfer-Encoding: chunked\r\n\r\n1\r\n2\r\n0\r\n\r\n";
    requests.extend_from_slice(chunked.as_bytes());
    requests.extend_from_slice(&post("/pay", "another", "3"));
    client.write(&requests).await;
    for body in ["1", "2", "3"] {
        let answer = client.answer().await.unwrap();
        assert_eq!((answer.status, answer.text()), (201, body));
    }
    assert_eq!(backend.count(), 3);
}

#[tokio::test]
async fn expect_continue_is_answered_after_the_head_is_acceptable() {
    let (backend, gate) = both("").await;
    let head = |key: &str, length: usize| {
        format!(
            "POST /pay HTTP/1.1\r\nHost: g\r\nIdempotency-Key: {key}\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    for (request, status) in [(head("a b", 3), 400), (head("k", 2 << 20), 413)] {
        let mut client = Connection::open(gate.address).await;
        client.write(request.as_bytes()).await;
        assert_eq!(client.head().await.unwrap().status, status, "no 100 before a refusal");
    }
    let mut client = Connection::open(gate.address).await;
    client.write(head("k", 3).as_bytes()).await;
    assert_eq!(client.head().await.unwrap().status, 100);
    client.write(b"pay").await;
    assert_eq!(client.answer().await.unwrap().text(), "pay");
    assert_eq!(backend.count(), 1);
}

#[tokio::test]
async fn heads_and_bodies_that_take_too_long() {
    let backend = Backend::start().await;
    let settings =
        "[server]\nhead_timeout = \"100ms\"\nbody_timeout = \"100ms\"\nidle_timeout = \"300ms\"";
    let gate = Gate::start(&backend.url(), settings).await;
    let mut head = Connection::open(gate.address).await;
    head.write(b"POST /pay HTTP/1.1\r\nHost: g\r\n").await;
    let late = timeout(patience(), head.answer()).await.expect("an end in time");
    assert!(late.is_none_or(|answer| answer.status == 408 || answer.status == 400));
    let mut body = Connection::open(gate.address).await;
    body.write(
        b"POST /pay HTTP/1.1\r\nHost: g\r\nIdempotency-Key: k\r\nContent-Length: 9\r\n\r\nfour",
    )
    .await;
    let answer = timeout(patience(), body.answer()).await.expect("an answer in time").unwrap();
    assert_eq!((answer.status, answer.problem()), (408, "body-timeout".to_owned()));
    let mut idle = Connection::open(gate.address).await;
    idle.write(&post("/pay", "idle", "")).await;
    assert_eq!(idle.answer().await.unwrap().status, 201);
    assert!(idle.is_closed().await);
    assert!(try_send(gate.address, &post("/pay", "k", "")).await.is_some());
}

/// A body that is read whole takes room, and must do more than move.
#[tokio::test]
async fn bodies_that_trickle() {
    let (backend, gate) = both("[server]\nbody_timeout = \"2s\"").await;
    let stream = TcpStream::connect(gate.address).await.unwrap();
    let (mut reading, mut writing) = stream.into_split();
    writing
        .write_all(
            b"POST /pay HTTP/1.1\r\nHost: g\r\nIdempotency-Key: k\r\nContent-Length: 99999\r\n\r\n",
        )
        .await
        .unwrap();
    let trickle = async {
        while writing.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        pending::<()>().await;
    };
    let refusal = async {
        let mut read = Vec::new();
        while !read.ends_with(b"}") {
            assert_ne!(reading.read_buf(&mut read).await.unwrap(), 0);
        }
        String::from_utf8(read).unwrap()
    };
    let refusal = async {
        tokio::select! {
            refusal = refusal => refusal,
            () = trickle => unreachable!("it never ends"),
        }
    };
    let refusal = timeout(patience(), refusal).await.expect("an answer in time");
    assert!(refusal.starts_with("HTTP/1.1 408 ") && refusal.contains("body-timeout"), "{refusal}");
    let is_free = async || gate.metric("oncegate_buffered_bytes").await == 0.0;
    eventually("its room is free", is_free).await;
    assert_eq!(backend.count(), 0);
    assert_eq!(send(gate.address, &post("/pay", "k", "pay")).await.text(), "pay");
}
