//! Bodies without a key pass as they come: whole, framed once, and for as long as they move.

#![cfg(feature = "proxy")]
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use bytes::Bytes;
use http::Request;
use support::{
    client::{post, post_with, send},
    gate::both,
    http2::{self, Client},
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
