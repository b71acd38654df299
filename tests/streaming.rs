//! Bodies without a key pass as they come: whole, framed once, and for as long as they move.

#![cfg(feature = "proxy")]
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use support::{
    client::{Connection, post, post_with, send},
    gate::{Gate, both},
    http2::{self, Client},
    patience,
    scripted::{OK, Service},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};

const CHUNKED: &str = "Host: g\r\nTransfer-Encoding: chunked\r\n\r\n";

/// A service that sends both is believed by its chunks, and nobody behind the gate hears of
/// its length (RFC 9112, 6.3).
#[tokio::test]
async fn a_response_with_a_length_and_chunks_comes_whole() {
    let (backend, gate) = both("").await;
    for (name, framing) in [
        ("before", "Content-Length: 3\r\nTransfer-Encoding: chunked"),
        ("after", "Transfer-Encoding: chunked\r\nETag: 1\r\nContent-Length: 300"),
    ] {
        let chunks = "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n";
        backend.put(name, format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{chunks}").as_bytes());
        let client = Client::open(gate.address).await;
        let path = format!("/raw/{name}");
        let key = format!("k-{name}");
        for answer in [
            send(gate.address, &post_with(&path, &[], "")).await,
            send(gate.address, &post(&path, &key, "")).await,
            send(gate.address, &post(&path, &key, "")).await,
            client.send(http2::head(&path, &[]), b"").await,
            client.post(&path, &key, "").await,
            client.post(&path, &format!("other-{name}"), "").await,
        ] {
            assert_eq!(answer.text(), "hello world", "{framing}");
            assert!(["", "11"].contains(&answer.header("content-length")), "{answer:?}");
        }
    }
    assert_eq!(backend.count(), 8);
}

/// The chunks were taken away and the compression was not, so nobody could read it.
#[tokio::test]
async fn a_response_with_another_coding_is_none() {
    let (backend, gate) = both("").await;
    for (name, coding) in [("gzip", "gzip, chunked"), ("alone", "gzip")] {
        let head = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: {coding}\r\n\r\n");
        backend.put(name, [head.as_bytes(), b"3\r\n\x1f\x8b\x08\r\n0\r\n\r\n"].concat().as_slice());
        let path = format!("/raw/{name}");
        for key in [&[("Idempotency-Key", name)][..], &[]] {
            let answer = send(gate.address, &post_with(&path, key, "")).await;
            assert_eq!(answer.status, 502, "{coding}");
            assert_eq!(answer.header("proxy-status"), "oncegate; error=http_protocol_error");
        }
        let retry = send(gate.address, &post(&path, name, "")).await;
        assert_eq!((retry.status, &*retry.problem()), (409, "outcome-unknown"));
        assert_eq!(backend.executions(name), 1);
    }
    backend.put("twice", b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello");
    for key in [&[("Idempotency-Key", "twice")][..], &[]] {
        let answer = send(gate.address, &post_with("/raw/twice", key, "")).await;
        assert_eq!((answer.text(), answer.header("content-length")), ("hello", "5"));
    }
}

/// A length that is said twice is one, and lengths that differ are none, also where nothing follows.
#[tokio::test]
async fn a_head_alone_has_one_length() {
    let (backend, gate) = both("").await;
    for (name, lengths, left) in [("one", ["5", "5"], Some("5")), ("none", ["5", "6"], None)] {
        let [first, second] = lengths;
        let head = format!("Content-Length: {first}\r\nContent-Length: {second}");
        backend.put(name, format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n").as_bytes());
        let mut client = TcpStream::connect(gate.address).await.unwrap();
        let request = format!("HEAD /raw/{name} HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        let lengths: Vec<_> =
            answer.lines().filter_map(|line| line.strip_prefix("content-length: ")).collect();
        assert_eq!(lengths, Vec::from_iter(left), "{answer}");
    }
}

/// What has no body has no framing that could be wrong.
#[tokio::test]
async fn a_response_without_a_body_is_no_fault_of_its_framing() {
    let (backend, gate) = both("").await;
    for (name, framing) in
        [("coding", "Transfer-Encoding: identity"), ("length", "Content-Length:")]
    {
        backend.put(name, format!("HTTP/1.1 204 No Content\r\n{framing}\r\n\r\n").as_bytes());
        let path = format!("/raw/{name}");
        for key in [&[("Idempotency-Key", name)][..], &[]] {
            assert_eq!(
                send(gate.address, &post_with(&path, key, "")).await.status,
                204,
                "{framing}"
            );
        }
        let retry = send(gate.address, &post(&path, name, "")).await;
        assert_eq!((retry.status, retry.header("idempotent-replayed")), (204, "true"));
    }
}

/// Whatever the method, and by either version.
#[tokio::test]
async fn a_body_of_unknown_length_reaches_the_service() {
    let (backend, gate) = both("").await;
    backend.put("empty", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let client = Client::open(gate.address).await;
    for method in ["GET", "HEAD", "DELETE", "OPTIONS", "POST"] {
        for framing in [CHUNKED, "Host: g\r\nContent-Length: 5\r\n\r\n"] {
            let body = if framing == CHUNKED { "5\r\nhello\r\n0\r\n\r\n" } else { "hello" };
            let request = format!("{method} /raw/empty HTTP/1.1\r\n{framing}{body}");
            assert_eq!(send(gate.address, request.as_bytes()).await.status, 200, "{method}");
            let seen = backend.requests().pop().unwrap();
            assert_eq!(seen.body, b"hello", "{method} {framing}");
        }
        let head = Request::builder().method(method).uri("http://gate/raw/empty").body(()).unwrap();
        let (response, mut sending) = client.begin(head, false).await.unwrap();
        sending.send_data(Bytes::from_static(b"hello"), true).unwrap();
        assert_eq!(response.await.unwrap().status(), 200, "{method}");
        let seen = backend.requests().pop().unwrap();
        assert_eq!(
            (&seen.body[..], seen.header("transfer-encoding")),
            (&b"hello"[..], Some("chunked"))
        );
    }
    // What has no body is not said to have one.
    for method in ["GET", "HEAD"] {
        let head = Request::builder().method(method).uri("http://gate/raw/empty").body(()).unwrap();
        assert_eq!(client.send(head, b"").await.status, 200);
        let request = format!("{method} /raw/empty HTTP/1.1\r\nHost: g\r\n\r\n");
        assert_eq!(send(gate.address, request.as_bytes()).await.status, 200);
        for seen in backend.requests().iter().rev().take(2) {
            let framing = ["transfer-encoding", "content-length"].map(|name| seen.header(name));
            assert_eq!((&seen.body[..], framing), (&b""[..], [None, None]), "{method}");
        }
    }
}

/// Both with chunks and with a length, several times as long as a response may take.
#[tokio::test]
async fn an_upload_may_take_as_long_as_it_moves() {
    let upload = async |framing: &str, piece: &str, end: &str| {
        let service = Service::start().await;
        let gate = Gate::start(&service.url(), "[upstream]\nresponse_timeout = \"1s\"").await;
        let mut client = Connection::open(gate.address).await;
        client.write(format!("POST /up HTTP/1.1\r\nHost: g\r\n{framing}\r\n\r\n").as_bytes()).await;
        let mut peer = service.accept().await;
        peer.head().await;
        for _ in 0..30 {
            client.write(piece.as_bytes()).await;
            peer.until("one").await;
            sleep(Duration::from_millis(100)).await;
        }
        client.write(end.as_bytes()).await;
        peer.until(end).await;
        peer.write(OK).await;
        assert_eq!(client.answer().await.unwrap().text(), "ok", "{framing}");
        // When it has ended, the time for the response runs as ever.
        client.write(format!("POST /up HTTP/1.1\r\nHost: g\r\n{framing}\r\n\r\n").as_bytes()).await;
        client.write((piece.repeat(30) + end).as_bytes()).await;
        peer.head().await;
        let begin = Instant::now();
        let late = client.answer().await.unwrap();
        assert_eq!(late.header("proxy-status"), "oncegate; error=http_response_timeout");
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    };
    tokio::join!(
        upload("Transfer-Encoding: chunked", "3\r\none\r\n", "0\r\n\r\n"),
        upload("Content-Length: 93", "one", "end"),
    );
}

#[tokio::test]
async fn the_time_for_an_exchange_does_not_move() {
    let service = Service::start().await;
    let settings = "[upstream]\nresponse_timeout = \"1s\"\ntotal_timeout = \"1500ms\"";
    let gate = Gate::start(&service.url(), settings).await;
    let mut client = Connection::open(gate.address).await;
    let begin = Instant::now();
    client.write(format!("POST /up HTTP/1.1\r\n{CHUNKED}").as_bytes()).await;
    let peer = service.accept().await;
    let reading = tokio::spawn(peer.drain());
    let upload = async {
        while !reading.is_finished() && client.try_write(b"3\r\none\r\n").await {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(patience(), upload).await.expect("the upload is cut");
    assert!(begin.elapsed() >= Duration::from_millis(1500), "{:?}", begin.elapsed());
}

/// It answers before it has read all: its connection is busy with the rest, and nobody waits
/// for that.
#[tokio::test]
async fn a_service_that_answers_early_holds_up_nobody_else() {
    let service = Service::start().await;
    let settings = "[server]\nthreads = 1\n[upstream]\nconnect_timeout = \"30s\"";
    let gate = Gate::start(&service.url(), settings).await;
    tokio::spawn(async move {
        loop {
            let mut peer = service.accept().await;
            tokio::spawn(async move {
                while !peer.head().await.contains("/early") {
                    peer.write(OK).await;
                }
                peer.write(OK).await;
                peer.drain().await;
            });
        }
    });
    let mut uploads = Vec::new();
    for _ in 0..3 {
        let mut client = Connection::open(gate.address).await;
        client.write(format!("POST /early HTTP/1.1\r\n{CHUNKED}3\r\none\r\n").as_bytes()).await;
        assert_eq!(client.answer().await.unwrap().text(), "ok");
        uploads.push(client);
    }
    for request in [post("/pay", "k", ""), post_with("/pay", &[], "")] {
        let answer = timeout(patience(), send(gate.address, &request)).await;
        assert_eq!(answer.expect("nobody waits for the uploads").text(), "ok");
    }
    // Whoever has its answer may still send the rest.
    for mut client in uploads {
        client.write(b"3\r\ntwo\r\n0\r\n\r\n").await;
    }
}

/// It answers before it has read all. The rest is a body for as long as it moves, whatever a head
/// may take, and the next head begins after it.
#[tokio::test]
async fn the_rest_of_a_body_is_no_head() {
    let service = Service::start().await;
    let settings = "[server]\nthreads = 1\nhead_timeout = \"300ms\"";
    let gate = Gate::start(&service.url(), settings).await;
    let mut client = Connection::open(gate.address).await;
    client.write(format!("POST /early HTTP/1.1\r\n{CHUNKED}3\r\none\r\n").as_bytes()).await;
    let mut peer = service.accept().await;
    peer.until("one\r\n").await;
    peer.write(OK).await;
    assert_eq!(client.answer().await.unwrap().text(), "ok");
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(1) {
        client.write(b"3\r\ntwo\r\n").await;
        peer.until("two\r\n").await;
        sleep(Duration::from_millis(50)).await;
    }
    client.write(b"0\r\n\r\n").await;
    peer.until("0\r\n\r\n").await;
    let next = format!("POST /up HTTP/1.1\r\n{CHUNKED}3\r\none\r\n0\r\n\r\n");
    client.write(next.as_bytes()).await;
    let answering = async {
        let mut peer = service.accept().await;
        peer.until("0\r\n\r\n").await;
        peer.write(OK).await;
        peer
    };
    let (_peer, answer) = tokio::join!(answering, client.answer());
    assert_eq!(answer.unwrap().text(), "ok");
}

/// The service always has something to send, and its client is slow.
#[tokio::test]
async fn a_slow_client_has_no_more_time_for_an_exchange() {
    let service = Service::start().await;
    let gate = Gate::start(&service.url(), "[upstream]\ntotal_timeout = \"1s\"").await;
    let mut client = TcpStream::connect(gate.address).await.unwrap();
    client.write_all(b"GET /endless HTTP/1.1\r\nHost: g\r\n\r\n").await.unwrap();
    let mut peer = service.accept().await;
    peer.head().await;
    peer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n").await;
    let sending =
        tokio::spawn(async move { while peer.stream.write_all(&[b'x'; 1 << 16]).await.is_ok() {} });
    let reading = tokio::spawn(async move {
        let mut piece = [0; 1 << 14];
        while client.read(&mut piece).await.is_ok_and(|length| length > 0) {
            sleep(Duration::from_millis(20)).await;
        }
    });
    timeout(patience(), sending).await.expect("the service is let go").unwrap();
    reading.abort();
}

/// HTTP/1.0 knows no chunks, so a connection whose service speaks it is not for a body without
/// a length, whether or not it is kept open.
#[tokio::test]
async fn a_service_of_http_1_0_gets_every_body() {
    let service = Service::start().await;
    let gate = Gate::start(&service.url(), "[server]\nthreads = 1").await;
    tokio::spawn(async move {
        loop {
            let mut peer = service.accept().await;
            tokio::spawn(async move {
                loop {
                    let head = peer.head().await.to_ascii_lowercase();
                    let has_chunks = head.contains("transfer-encoding: chunked");
                    let body = if has_chunks { peer.until("0\r\n\r\n").await } else { head };
                    let kept = "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length";
                    peer.write(format!("{kept}: {}\r\n\r\n{body}", body.len()).as_bytes()).await;
                }
            });
        }
    });
    let mut client = Connection::open(gate.address).await;
    for _ in 0..2 {
        let first = client.ask(&post_with("/pay", &[], "")).await;
        assert!(first.text().starts_with("post /pay http/1.1\r\n"), "{}", first.text());
        let chunked = format!("POST /up HTTP/1.1\r\n{CHUNKED}3\r\none\r\n0\r\n\r\n");
        let upload = timeout(patience(), client.ask(chunked.as_bytes())).await;
        assert_eq!(upload.expect("an answer").text(), "3\r\none\r\n0\r\n\r\n");
    }
}

/// What a task of its own has sent leaves a connection like any other.
#[tokio::test]
async fn a_connection_that_has_taken_a_long_body_is_used_again() {
    let (backend, gate) = both("[server]\nthreads = 1\n[upstream]\npool_idle = \"1m\"").await;
    let long = "x".repeat(200 << 10);
    let chunked = format!("POST /pay HTTP/1.1\r\n{CHUNKED}3\r\none\r\n0\r\n\r\n");
    for round in 0..5 {
        assert_eq!(send(gate.address, &post_with("/pay", &[], &long)).await.status, 201);
        assert_eq!(send(gate.address, chunked.as_bytes()).await.status, 201);
        assert_eq!(
            send(gate.address, &post("/pay", &format!("k{round}"), &long)).await.status,
            201
        );
    }
    assert!(backend.connections() <= 3, "{} for 15 exchanges", backend.connections());
}

/// It has answered, and takes nothing more of what it was to be sent.
#[tokio::test]
async fn a_service_that_answers_early_and_never_reads_is_left() {
    let service = Service::start().await;
    let gate = Gate::start(&service.url(), "[upstream]\nresponse_timeout = \"300ms\"").await;
    let mut client = Connection::open(gate.address).await;
    client.write(format!("POST /early HTTP/1.1\r\n{CHUNKED}3\r\none\r\n").as_bytes()).await;
    let mut peer = service.accept().await;
    peer.until("one").await;
    peer.write(OK).await;
    assert_eq!(client.answer().await.unwrap().text(), "ok");
    let piece = [b"10000\r\n", &[b'x'; 1 << 16][..], b"\r\n"].concat();
    let upload = async { while client.try_write(&piece).await {} };
    timeout(patience(), upload).await.expect("the upload ends");
}

/// The client's fault is no fault of the service.
#[tokio::test]
async fn a_body_that_its_client_does_not_finish() {
    let (_backend, gate) = both("[server]\nbody_timeout = \"200ms\"").await;
    for (chunks, status, problem) in [
        ("zz\r\n", 400, "body-incomplete"),
        ("3\r\none\r\n-1\r\n", 400, "body-incomplete"),
        ("3\r\none\r\n", 408, "body-timeout"),
        ("", 408, "body-timeout"),
    ] {
        let request = format!("POST /pay HTTP/1.1\r\n{CHUNKED}{chunks}");
        let answer = send(gate.address, request.as_bytes()).await;
        assert_eq!((answer.status, &*answer.problem()), (status, problem), "{chunks:?}");
        assert!(answer.member("detail").as_str().unwrap().contains("passed on"));
        assert_eq!(answer.header("proxy-status"), "");
    }
    let half = "POST /pay HTTP/1.1\r\nHost: g\r\nContent-Length: 9\r\n\r\nhalf";
    assert_eq!(send(gate.address, half.as_bytes()).await.problem(), "body-timeout");
    assert_eq!(send(gate.address, &post("/pay", "k", "pay")).await.text(), "pay");
}

/// Nobody sends anything any more, and what is unused ends all the same.
#[tokio::test]
async fn an_unused_connection_to_the_service_is_closed() {
    let service = Service::start().await;
    let gate = Gate::start(&service.url(), "[upstream]\npool_idle = \"200ms\"").await;
    let mut client = Connection::open(gate.address).await;
    client.write(&post_with("/pay", &[], "")).await;
    let mut peer = service.accept().await;
    peer.head().await;
    peer.write(OK).await;
    assert_eq!(client.answer().await.unwrap().text(), "ok");
    timeout(patience(), peer.ends()).await.expect("it is closed");
}
