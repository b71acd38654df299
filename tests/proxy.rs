//! The plain proxy: traffic without keys is streamed and untouched.

#![cfg(feature = "proxy")]
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use std::time::Duration;

use support::{
    backend::Backend,
    client::{Connection, post, post_with, send},
    eventually,
    gate::{Gate, both},
    ports::Port,
    sockets::{self, silent},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};

/// A backend of the test's own, for one connection.
async fn one_connection() -> (String, tokio::task::JoinHandle<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (url, tokio::spawn(async move { listener.accept().await.unwrap().0 }))
}

async fn read_until(stream: &mut TcpStream, end: &[u8]) -> Vec<u8> {
    let mut read = Vec::new();
    while !read.windows(end.len()).any(|window| window == end) {
        assert_ne!(
            stream.read_buf(&mut read).await.unwrap(),
            0,
            "{:?}",
            String::from_utf8_lossy(&read)
        );
    }
    read
}

#[tokio::test]
async fn heads_change_as_a_proxy_must_change_them() {
    let (backend, gate) = both("").await;
    let headers = [
        ("Connection", "keep-alive, X-Hop"),
        ("X-Hop", "1"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "x"),
        ("X-Forwarded-For", "6.6.6.6"),
        ("X-Custom", "kept"),
        ("Via", "1.1 edge"),
    ];
    let answer = send(gate.address, &post_with("/pay?a=1&b=%20", &headers, "body")).await;
    assert_eq!(
        (answer.status, answer.header("via"), answer.header("cache-status")),
        (201, "1.1 oncegate", "")
    );
    let seen = &backend.requests()[0];
    assert_eq!(seen.line, "POST /pay?a=1&b=%20 HTTP/1.1");
    assert_eq!((seen.header("host"), seen.header("x-custom")), (Some("gate"), Some("kept")));
    for gone in ["x-hop", "keep-alive", "proxy-connection", "connection"] {
        assert_eq!(seen.header(gone), None, "{gone}");
    }
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"), "an untrusted claim is replaced");
    assert_eq!(
        (seen.header("x-forwarded-proto"), seen.header("x-forwarded-host")),
        (Some("http"), Some("gate"))
    );
    assert_eq!(seen.header("content-length"), Some("4"));
    assert_eq!(seen.headers.iter().filter(|(name, _)| name == "via").count(), 2);
}

#[tokio::test]
async fn a_keyed_request_says_on_whose_behalf_it_comes() {
    let lines = [("Idempotency-Key", "k"), ("X-Forwarded-For", "6.6.6.6"), ("Forwarded", "for=x")];
    // A policy that looks at it finds the truth and no claim.
    for settings in ["", "[idempotency]\nkeys = [\"header:X-Forwarded-For\"]"] {
        let (backend, gate) = both(settings).await;
        for replayed in ["", "true"] {
            let answer = send(gate.address, &post_with("/pay", &lines, "body")).await;
            assert_eq!((answer.status, answer.header("idempotent-replayed")), (201, replayed));
        }
        let requests = backend.requests();
        assert_eq!(requests.len(), 1);
        let said: Vec<_> =
            requests[0].headers.iter().filter(|(name, _)| name.contains("forwarded")).collect();
        assert_eq!(said.len(), 3, "{said:?}");
        assert_eq!(requests[0].header("x-forwarded-for"), Some("127.0.0.1"));
        assert_eq!(requests[0].header("x-forwarded-host"), Some("gate"));
    }
}

#[tokio::test]
async fn the_key_reaches_the_backend() {
    let (backend, gate) = both("").await;
    send(gate.address, &post("/pay", "\"k\"", "")).await;
    assert_eq!(backend.requests()[0].header("idempotency-key"), Some("\"k\""));
}

#[tokio::test]
async fn bodies_stream_both_ways() {
    let (url, accepted) = one_connection().await;
    let gate = Gate::start(&url, "").await;
    let mut client = Connection::open(gate.address).await;
    client
        .write(b"POST /up HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        .await;
    let mut backend = accepted.await.unwrap();
    read_until(&mut backend, b"one").await;
    backend
        .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nuno\r\n")
        .await
        .unwrap();
    assert_eq!(
        client.head().await.unwrap().status,
        200,
        "the answer begins before the request has ended"
    );
    assert_eq!(client.chunk().await.unwrap(), b"uno", "and before the answer has");
    client.write(b"3\r\ntwo\r\n").await;
    read_until(&mut backend, b"two").await;
    client.write(b"0\r\n\r\n").await;
    read_until(&mut backend, b"0\r\n\r\n").await;
}

#[tokio::test]
async fn large_bodies_pass_whatever_the_limits_of_keyed_ones() {
    let (backend, gate) =
        both("[idempotency]\nmax_request_body = \"1KiB\"\nmax_response_body = \"1KiB\"").await;
    let body = "x".repeat(3 << 20);
    let answer = send(gate.address, &post_with("/echo", &[], &body)).await;
    assert_eq!(answer.body.len(), body.len());
    assert_eq!(backend.count(), 1);
    assert_eq!(gate.metric("oncegate_buffered_bytes").await, 0.0);
}

#[tokio::test]
async fn connections_to_the_backend_are_used_again() {
    let (backend, gate) = both("").await;
    let mut client = Connection::open(gate.address).await;
    for number in 0..20 {
        client.write(&post_with("/pay", &[], "")).await;
        assert_eq!(client.answer().await.unwrap().status, 201);
        client.write(&post("/pay", &number.to_string(), "")).await;
        assert_eq!(client.answer().await.unwrap().status, 201);
    }
    assert_eq!((backend.count(), backend.connections()), (40, 1));
}

#[tokio::test]
async fn other_methods_pass_even_with_a_key() {
    let (backend, gate) = both("").await;
    for method in ["GET", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        for _ in 0..2 {
            let request = format!(
                "{method} /x HTTP/1.1\r\nHost: g\r\nIdempotency-Key: k\r\nContent-Length: 0\r\n\r\n"
            );
            assert_eq!(send(gate.address, request.as_bytes()).await.status, 201);
        }
    }
    assert_eq!(backend.count(), 10);
}

#[tokio::test]
async fn methods_can_be_managed_by_configuration() {
    let (backend, gate) = both("[idempotency]\nmethods = [\"POST\", \"PATCH\"]").await;
    for _ in 0..2 {
        let request =
            b"PATCH /x HTTP/1.1\r\nHost: g\r\nIdempotency-Key: k\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(send(gate.address, request).await.status, 201);
    }
    assert_eq!(backend.count(), 1);
}

#[tokio::test]
async fn upgrades_become_tunnels() {
    let (url, accepted) = one_connection().await;
    let gate = Gate::start(&url, "[idempotency]\nrequire_key = true\nmethods = [\"POST\"]").await;
    let mut client = TcpStream::connect(gate.address).await.unwrap();
    client
        .write_all(
            b"GET /socket HTTP/1.1\r\nHost: g\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n",
        )
        .await
        .unwrap();
    let mut backend = accepted.await.unwrap();
    let head =
        String::from_utf8(read_until(&mut backend, b"\r\n\r\n").await).unwrap().to_lowercase();
    assert!(head.contains("upgrade: echo") && head.contains("connection: upgrade"), "{head}");
    backend
        .write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n",
        )
        .await
        .unwrap();
    read_until(&mut client, b"\r\n\r\n").await;
    client.write_all(b"ping").await.unwrap();
    read_until(&mut backend, b"ping").await;
    backend.write_all(b"pong").await.unwrap();
    read_until(&mut client, b"pong").await;
}

#[tokio::test]
async fn an_unkeyed_exchange_that_fails_says_how() {
    let (_backend, gate) = both("[upstream]\nresponse_timeout = \"100ms\"").await;
    let reset = send(gate.address, &post_with("/reset", &[], "")).await;
    assert_eq!((reset.status, reset.problem()), (502, "upstream-failed".to_owned()));
    assert_eq!(reset.header("proxy-status"), "oncegate; error=connection_terminated");
    let late = send(gate.address, &post_with("/hang", &[], "")).await;
    assert_eq!(
        (late.status, late.header("proxy-status")),
        (504, "oncegate; error=http_response_timeout")
    );
}

#[tokio::test]
async fn routes_have_upstreams_and_policies_of_their_own() {
    let (payments, others) = (Backend::start().await, Backend::start().await);
    let settings = format!(
        "[[route]]\npath = \"/payments\"\nupstream.url = \"{}\"\nidempotency.require_key = true\n\
         [[route]]\npath = \"/hooks\"\nidempotency.enabled = false\n",
        payments.url()
    );
    let gate = Gate::start(&others.url(), &settings).await;
    assert_eq!(
        send(gate.address, &post_with("/payments/1", &[], "")).await.problem(),
        "key-missing"
    );
    for _ in 0..2 {
        assert_eq!(send(gate.address, &post("/payments/1", "k", "")).await.status, 201);
        assert_eq!(send(gate.address, &post("/hooks", "h", "")).await.status, 201);
        assert_eq!(send(gate.address, &post("/else", "e", "")).await.status, 201);
    }
    assert_eq!((payments.count(), others.executions("h"), others.executions("e")), (1, 2, 1));
    assert!(
        gate.metric("oncegate_requests_total{route=\"/payments\",outcome=\"missing\"}").await
            >= 1.0
    );
}

#[tokio::test]
async fn every_request_is_timed_where_it_was() {
    let (_backend, gate) = both("").await;
    for (key, paths) in [("one", 2), ("two", 1)] {
        for _ in 0..paths {
            assert_eq!(send(gate.address, &post("/payments", key, "")).await.status, 201);
        }
    }
    assert_eq!(send(gate.address, &post_with("/payments", &[], "")).await.status, 201);
    for (line, times) in [
        ("http_server_request_duration_seconds_count{route=\"/\"}", 4.0),
        ("http_server_request_duration_seconds_bucket{route=\"/\",le=\"60\"}", 4.0),
        ("http_client_request_duration_seconds_count", 3.0),
        ("oncegate_store_operation_duration_seconds_count{op=\"claim\"}", 2.0),
        ("oncegate_store_operation_duration_seconds_count{op=\"swap\"}", 2.0),
    ] {
        // The last ends when its connection sees that all was sent.
        eventually(line, async || gate.metric(line).await == times).await;
    }
    assert!(gate.metric("http_client_request_duration_seconds_sum").await > 0.0);
}

#[tokio::test]
async fn several_upstreams_take_turns_and_a_dead_one_is_skipped() {
    let (one, two) = (Backend::start().await, Backend::start().await);
    let dead = Port::take();
    let settings = format!(
        "[[route]]\nupstream.urls = [\"{}\", \"http://{}\", \"{}\"]",
        one.url(),
        dead.address(),
        two.url()
    );
    let gate = Gate::start(&one.url(), &settings).await;
    for number in 0..30 {
        assert_eq!(send(gate.address, &post("/pay", &number.to_string(), "")).await.status, 201);
    }
    assert_eq!(one.count() + two.count(), 30);
    assert!(one.count() >= 8 && two.count() >= 8, "{} and {}", one.count(), two.count());
}

/// An upstream that is silent takes all the time there is: nothing is sent to the next one then.
#[tokio::test]
async fn what_gets_no_connection_in_time_is_not_sent() {
    let (silent, _queue) = silent().await;
    let backend = Backend::start().await;
    let settings = format!(
        "[server]\nthreads = 1\n[[route]]\nupstream.urls = [\"http://{silent}\", \"{}\"]\n\
         upstream.connect_timeout = \"1500ms\"\nupstream.total_timeout = \"1s\"",
        backend.url()
    );
    let gate = Gate::start(&backend.url(), &settings).await;
    let first = send(gate.address, &post("/pay", "k", "pay")).await;
    assert_eq!((first.status, first.problem()), (504, "upstream-unreachable".to_owned()));
    assert_eq!(backend.count(), 0);
    assert_eq!(send(gate.address, &post("/pay", "k", "pay")).await.status, 201);
    assert_eq!(backend.count(), 1);
}

/// What an upstream that is silent has cost makes the connections of the next one older, and is
/// not taken from the time for its response.
#[tokio::test]
async fn time_passes_while_an_upstream_is_silent() {
    let (silent, _queue) = silent().await;
    let backend = Backend::start().await;
    let settings = format!(
        "[server]\nthreads = 1\n[[route]]\nupstream.urls = [\"{}\", \"http://{silent}\"]\n\
         upstream.connect_timeout = \"3s\"\nupstream.response_timeout = \"8s\"\n\
         upstream.pool_idle = \"1m\"",
        backend.url()
    );
    let gate = Gate::start(&backend.url(), &settings).await;
    let mut client = Connection::open(gate.address).await;
    for (number, request, connections) in [
        (1, post("/pay", "a", ""), 1),
        // Asks the silent one first: for a key, what has idled for seconds is not fresh.
        (2, post("/pay", "b", ""), 2),
        (3, post_with("/pay", &[], ""), 2),
        // Without a key it is used, and the response has all of its time.
        (4, post_with("/slow/6000", &[], ""), 2),
    ] {
        assert_eq!(client.ask(&request).await.status, 201, "{number}");
        assert_eq!(backend.connections(), connections, "{number}");
    }
}

/// The most common false alarm: the backend closes a connection that is not used.
#[tokio::test]
async fn a_keep_alive_that_ended_is_no_unknown_outcome() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (tell, mut closed) = mpsc::unbounded_channel();
    let backend = tokio::spawn(async move {
        for _ in 0..20 {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_until(&mut stream, b"\r\n\r\n").await;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            // Closed without a word, though the response did not say so.
            stream.shutdown().await.unwrap();
            sockets::arrives(&stream).await;
            tell.send(()).unwrap();
        }
    });
    let gate = Gate::start(&url, "").await;
    for number in 0..20 {
        let answer = send(gate.address, &post("/pay", &number.to_string(), "")).await;
        assert_eq!(answer.status, 200, "given back untouched, and sent on a new connection");
        // The end of the connection has to arrive before the next request.
        closed.recv().await.unwrap();
    }
    backend.await.unwrap();
}

#[tokio::test]
async fn the_admin_listener_asks_for_its_token() {
    let backend = Backend::start().await;
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "0123456789abcdef\n").unwrap();
    let gate = Gate::start(&backend.url(), &format!("[admin]\ntoken_file = {token:?}")).await;
    let ask = |path: &str, authorization: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: a\r\n{authorization}\r\n").into_bytes()
    };
    for wrong in ["", "Authorization: Bearer x\r\n", "Authorization: 0123456789abcdef\r\n"] {
        assert_eq!(send(gate.admin, &ask("/metrics", wrong)).await.status, 401, "{wrong}");
        // Orchestrators bear no token.
        for path in ["/livez", "/readyz"] {
            assert_eq!(send(gate.admin, &ask(path, wrong)).await.status, 200, "{path} {wrong}");
        }
    }
    let acknowledge = b"POST /api/store/acknowledge HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(send(gate.admin, acknowledge).await.status, 401);
    for right in [
        "Authorization: Bearer 0123456789abcdef\r\n",
        "authorization: bearer  0123456789abcdef\r\n",
    ] {
        for path in ["/livez", "/readyz", "/metrics"] {
            assert_eq!(send(gate.admin, &ask(path, right)).await.status, 200, "{path}");
        }
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_their_turn() {
    let (_backend, gate) = both("[server]\nmax_connections = 1").await;
    let mut first = Connection::open(gate.address).await;
    first.write(&post("/pay", "1", "")).await;
    assert_eq!(first.answer().await.unwrap().status, 201);
    let address = gate.address;
    let second = tokio::spawn(async move { send(address, &post("/pay", "2", "")).await });
    for number in 0..10 {
        first.write(&post("/pay", &number.to_string(), "")).await;
        assert!(first.answer().await.is_some());
        assert!(!second.is_finished());
    }
    drop(first);
    assert_eq!(second.await.unwrap().status, 201);
}

/// They take the places that there are, and give them up to whoever comes after them.
#[tokio::test]
async fn silent_operators_keep_nobody_out() {
    let (_backend, gate) = both("").await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(Connection::open(gate.admin).await);
    }
    let livez = b"GET /livez HTTP/1.1\r\nHost: admin\r\n\r\n";
    let answer = timeout(Duration::from_secs(5), send(gate.admin, livez)).await;
    assert_eq!(answer.expect("an answer at once").status, 200);
    for first in &mut silent[..100] {
        assert!(timeout(Duration::from_secs(5), first.is_closed()).await.expect("it is closed"));
    }
}
