//! A connection that is not used gives its memory up, and its client never notices.

#![cfg(feature = "proxy")]
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use std::time::{Duration, Instant};

use futures::future::join_all;
use support::{
    client::{Connection, post, post_with, send},
    gate::{Gate, both},
    patience,
    scripted::Service,
    within,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

/// After this a connection rests; it does from a second on.
const PAUSE: Duration = Duration::from_millis(1500);

/// A connection that rests after its first answer.
async fn rested(gate: &Gate) -> Connection {
    let mut client = Connection::open(gate.address).await;
    assert_eq!(client.ask(&post_with("/pay", &[], "")).await.status, 201);
    sleep(PAUSE).await;
    client
}

#[tokio::test]
async fn whoever_comes_back_is_served() {
    for settings in ["", "[server]\nhttp2 = false"] {
        let (backend, gate) = both(settings).await;
        let clients = (0..50).map(|number| {
            let address = gate.address;
            async move {
                let mut client = Connection::open(address).await;
                for round in 0..3 {
                    let key = format!("{number}-{round}");
                    for _ in 0..2 {
                        assert_eq!(client.ask(&post("/pay", &key, &key)).await.text(), key);
                    }
                    sleep(PAUSE + Duration::from_millis(number)).await;
                }
                assert_eq!(client.ask(&post_with("/pay", &[], "last")).await.text(), "last");
            }
        });
        join_all(clients).await;
        assert_eq!(backend.count(), 50 * 4);
    }
}

/// The library has read it, and the library is gone.
#[tokio::test]
async fn what_was_sent_ahead_is_kept() {
    let (_backend, gate) = both("").await;
    let (first, second) = (post_with("/pay", &[], "1"), post_with("/pay", &[], "2"));
    let clients = (0..second.len()).map(|length| {
        let (address, first, second) = (gate.address, &first, &second);
        async move {
            let mut client = Connection::open(address).await;
            let (ahead, rest) = second.split_at(length);
            assert_eq!(client.ask(&[first, ahead].concat()).await.text(), "1");
            sleep(PAUSE).await;
            client.write(rest).await;
            let answer = client.answer().await;
            assert_eq!(answer.map(|answer| answer.body), Some(b"2".to_vec()), "{length} ahead");
        }
    });
    join_all(clients).await;
}

#[tokio::test]
async fn what_comes_as_a_connection_goes_to_rest_is_kept() {
    let (_backend, gate) = both("").await;
    let (first, second) = (post_with("/pay", &[], "1"), post_with("/pay", &[], "2"));
    let clients = (0..100).map(|number| {
        let (address, first, second) = (gate.address, &first, &second);
        async move {
            let mut client = Connection::open(address).await;
            assert_eq!(client.ask(first).await.text(), "1");
            sleep(Duration::from_millis(950 + number)).await;
            for piece in second.chunks(1 + number as usize) {
                client.write(piece).await;
                tokio::task::yield_now().await;
            }
            assert_eq!(client.answer().await.unwrap().text(), "2", "{number}");
        }
    });
    join_all(clients).await;
}

/// It begins no request, so it does not start the time of one.
#[tokio::test]
async fn an_empty_line_after_a_body_is_nothing() {
    let (_backend, gate) = both("[server]\nhead_timeout = \"200ms\"").await;
    let mut client = Connection::open(gate.address).await;
    let request = [post_with("/pay", &[], "1"), b"\r\n".to_vec()].concat();
    assert_eq!(client.ask(&request).await.text(), "1");
    sleep(PAUSE + Duration::from_millis(400)).await;
    assert_eq!(client.ask(&post_with("/pay", &[], "2")).await.text(), "2");
}

#[tokio::test]
async fn nothing_rests_inside_a_request() {
    let (backend, gate) = both("").await;
    let lengths = async {
        let mut client = Connection::open(gate.address).await;
        client.write(b"POST /pay HTTP/1.1\r\nHost: g\r\nContent-Length: 6\r\n\r\n").await;
        for piece in ["ab", "cd", "ef"] {
            sleep(PAUSE).await;
            client.write(piece.as_bytes()).await;
        }
        assert_eq!(client.answer().await.unwrap().text(), "abcdef");
    };
    let chunks = async {
        let mut client = rested(&gate).await;
        let head =
            b"POST /pay HTTP/1.1\r\nHost: g\r\nIdempotency-Key: c\r\nTransfer-Encoding: chunked\r\n\r\n";
        client.write(head).await;
        for piece in ["3\r\nabc\r\n", "3\r", "\ndef\r\n", "0\r\n\r\n"] {
            sleep(PAUSE).await;
            client.write(piece.as_bytes()).await;
        }
        assert_eq!(client.answer().await.unwrap().text(), "abcdef");
        sleep(PAUSE).await;
        assert_eq!(client.ask(&post("/pay", "d", "d")).await.text(), "d");
    };
    let expecting = async {
        let mut client = rested(&gate).await;
        client.write(b"POST /pay HTTP/1.1\r\nHost: g\r\nIdempotency-Key: e\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n").await;
        assert_eq!(client.head().await.unwrap().status, 100);
        sleep(PAUSE).await;
        client.write(b"pay").await;
        assert_eq!(client.answer().await.unwrap().text(), "pay");
    };
    let slow = async {
        let mut client = Connection::open(gate.address).await;
        assert_eq!(client.ask(&post_with("/slow/2500", &[], "s")).await.text(), "s");
    };
    tokio::join!(lengths, chunks, expecting, slow);
    assert_eq!(backend.count(), 7);
}

/// The answer is over and the body is not: what comes next is that body, however much it
/// looks like a request.
#[tokio::test]
async fn nothing_rests_inside_a_body_that_was_answered() {
    let service = Service::start().await;
    let gate = Gate::start(&service.url(), "").await;
    let hidden = "POST /hidden HTTP/1.1\r\nHost: g\r\nContent-Length: 0\r\n\r\n";
    // So long that the gate lets the rest follow though the answer is there.
    let first = "x".repeat(1 << 20);
    let length = first.len() + hidden.len();
    let head = format!("POST /early HTTP/1.1\r\nHost: g\r\nContent-Length: {length}\r\n\r\n");
    let mut client = Connection::open(gate.address).await;
    let mut upload = tokio::join!(client.write(head.as_bytes()), service.accept()).1;
    upload.head().await;
    tokio::join!(client.write(first.as_bytes()), upload.until(&first));
    upload.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly").await;
    assert_eq!(client.answer().await.unwrap().text(), "early");
    sleep(PAUSE).await;
    client.write(hidden.as_bytes()).await;
    tokio::select! {
        rest = timeout(patience(), upload.until("\r\n\r\n")) => assert_eq!(rest.unwrap(), hidden),
        _ = service.accept() => panic!("a body was taken for a request"),
    }
}

#[tokio::test]
async fn the_time_to_be_idle_counts_from_the_last_answer() {
    within(Duration::from_millis(3900), idle).await;
}

/// How long an unused connection lasts at most, where that is 3 seconds.
async fn idle() -> Duration {
    let (_backend, gate) = both("[server]\nidle_timeout = \"3s\"").await;
    let silent = async {
        let begin = Instant::now();
        assert!(Connection::open(gate.address).await.is_closed().await);
        begin.elapsed()
    };
    let answered = async {
        let mut client = Connection::open(gate.address).await;
        let asked = Instant::now();
        client.ask(&post_with("/pay", &[], "")).await;
        let begin = Instant::now();
        assert!(client.is_closed().await);
        assert!(asked.elapsed() >= Duration::from_secs(3), "{:?}", asked.elapsed());
        begin.elapsed()
    };
    let (silent, answered) = tokio::join!(silent, answered);
    assert!(silent >= Duration::from_secs(3), "{silent:?}");
    silent.max(answered)
}

#[tokio::test]
async fn a_head_that_begins_after_the_rest_must_end_in_time() {
    let (_backend, gate) = both("[server]\nhead_timeout = \"200ms\"").await;
    let mut client = rested(&gate).await;
    client.write(b"POST /pay HTTP/1.1\r\n").await;
    let begin = Instant::now();
    assert!(client.answer().await.is_none_or(|answer| answer.status >= 400));
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_what_rests() {
    within(Duration::from_secs(1), end_of_what_rests).await;
}

async fn end_of_what_rests() -> Duration {
    let (_backend, mut gate) = both("").await;
    let mut client = rested(&gate).await;
    let mut silent = Connection::open(gate.address).await;
    sleep(Duration::from_millis(50)).await;
    let begin = Instant::now();
    gate.begin_stop();
    assert!(client.is_closed().await && silent.is_closed().await);
    gate.stop().await;
    begin.elapsed()
}

#[tokio::test]
async fn a_client_that_leaves_while_it_rests_makes_room() {
    let (_backend, gate) = both("[server]\nmax_connections = 1").await;
    for way in ["closed", "reset"] {
        let client = rested(&gate).await;
        if way == "reset" {
            client.reset();
        } else {
            drop(client);
        }
        let request = post_with("/pay", &[], "next");
        let next = send(gate.address, &request);
        let answer = timeout(patience(), next).await.expect(way);
        assert_eq!(answer.text(), "next");
    }
}

#[tokio::test]
async fn an_upgrade_after_a_rest_becomes_a_tunnel_without_limits_of_http() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let settings = "[server]\nhead_timeout = \"300ms\"\nidle_timeout = \"4s\"";
    let gate = Gate::start(&url, settings).await;
    let backend = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut read = Vec::new();
        let mut answer = async |end: &[u8], answer: &[u8]| {
            while !read.ends_with(end) {
                assert_ne!(stream.read_buf(&mut read).await.unwrap(), 0, "{read:?}");
            }
            read.clear();
            stream.write_all(answer).await.unwrap();
        };
        answer(b"\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        let switch: &[u8] =
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
        answer(b"\r\n\r\n", switch).await;
        answer(b"aheadping", b"pong").await;
        answer(b"more", b"end").await;
    });
    let mut client = TcpStream::connect(gate.address).await.unwrap();
    let mut read = Vec::new();
    let mut ask = async |request: &[u8], end: &[u8]| {
        client.write_all(request).await.unwrap();
        while !read.ends_with(end) {
            assert_ne!(client.read_buf(&mut read).await.unwrap(), 0, "{read:?}");
        }
        read.clear();
    };
    ask(b"GET /a HTTP/1.1\r\nHost: g\r\n\r\n", b"ok").await;
    sleep(PAUSE).await;
    let upgrade =
        b"GET /b HTTP/1.1\r\nHost: g\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nahead";
    ask(upgrade, b"\r\n\r\n").await;
    ask(b"ping", b"pong").await;
    sleep(PAUSE).await;
    ask(b"more", b"end").await;
    backend.await.unwrap();
}
