//! How long an HTTP/2 client may take, and how its connection ends.

use std::time::Duration;

use bytes::Bytes;

use crate::{
    both,
    support::{
        eventually,
        http2::{
            Client, END_HEADERS, End, GOAWAY, HEADERS, PREFACE, Raw, SETTINGS, answer, block,
            frame, head, keyed,
        },
        patience,
    },
};

/// The fields of a keyed POST.
fn fields(path: &str) -> Vec<u8> {
    fields_of(b"POST", path)
}

fn fields_of(method: &[u8], path: &str) -> Vec<u8> {
    block(&[
        (b":method", method),
        (b":scheme", b"http"),
        (b":path", path.as_bytes()),
        (b":authority", b"gate"),
        (b"idempotency-key", b"k"),
    ])
}

/// However a head is left unfinished, the connection ends; and nobody else's does.
#[tokio::test]
async fn heads_that_take_too_long() {
    let (backend, gate) = both("[server]\nhead_timeout = \"150ms\"\nidle_timeout = \"60s\"").await;
    let other = Client::open(gate.address).await;
    let block = fields("/pay");
    let settings = frame(SETTINGS, 0, 0, b"");
    for (what, bytes) in [
        ("half a preface", PREFACE[..10].to_vec()),
        ("a preface and no settings", [PREFACE, &settings[..5]].concat()),
        (
            "half a frame",
            [PREFACE, &settings, &frame(HEADERS, END_HEADERS, 1, &block)[..20]].concat(),
        ),
        ("no end of the block", [PREFACE, &settings, &frame(HEADERS, 1, 1, &block)].concat()),
    ] {
        let mut slow = Raw::silent(gate.address).await;
        slow.write(&bytes).await;
        let gone = tokio::time::timeout(patience(), slow.is_sent_away()).await;
        assert!(gone.is_ok(), "{what}");
        assert_eq!(other.post("/pay", "other", "").await.status, 201, "{what}");
    }
    assert_eq!((backend.executions("k"), backend.count()), (0, 1));
}

/// A head that comes byte by byte, each in time, but not its end.
#[tokio::test]
async fn a_head_that_trickles() {
    let (_backend, gate) = both("[server]\nhead_timeout = \"150ms\"\nidle_timeout = \"60s\"").await;
    let mut slow = Raw::open(gate.address).await;
    let block = [fields("/pay"), vec![0; 10_000]].concat();
    let mut bytes = frame(HEADERS, END_HEADERS | 1, 1, &block).into_iter();
    let trickle = async {
        while slow.try_write(&[bytes.next().unwrap()]).await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(patience(), trickle).await.expect("the connection ends");
}

#[tokio::test]
async fn bodies_that_take_too_long() {
    let (backend, gate) = both("[server]\nbody_timeout = \"100ms\"").await;
    let client = Client::open(gate.address).await;
    let (response, mut sending) = client.begin(keyed("/pay", "k"), false).await.unwrap();
    sending.send_data(Bytes::from_static(b"pa"), false).unwrap();
    let late = tokio::time::timeout(patience(), response).await.expect("an answer in time");
    let late = answer(late.unwrap()).await.unwrap();
    assert_eq!((late.status, late.problem()), (408, "body-timeout".to_owned()));
    assert_eq!(backend.count(), 0);
    let again = client.post("/pay", "k", "pay").await;
    assert_eq!((again.status, again.header("idempotent-replayed")), (201, ""));
}

/// A body that is read whole takes room, and must do more than move.
#[tokio::test]
async fn bodies_that_trickle() {
    let (backend, gate) = both("[server]\nbody_timeout = \"2s\"").await;
    let client = Client::open(gate.address).await;
    let (response, mut sending) = client.begin(keyed("/pay", "k"), false).await.unwrap();
    let trickle = async {
        while sending.send_data(Bytes::from_static(b"x"), false).is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        std::future::pending::<()>().await;
    };
    let refusal = async {
        tokio::select! {
            refusal = response => answer(refusal.unwrap()).await.unwrap(),
            () = trickle => unreachable!("it never ends"),
        }
    };
    let late = tokio::time::timeout(patience(), refusal).await.expect("an answer in time");
    assert_eq!((late.status, late.problem()), (408, "body-timeout".to_owned()));
    let is_free = async || gate.metric("oncegate_buffered_bytes").await == 0.0;
    eventually("its room is free", is_free).await;
    assert_eq!(backend.count(), 0);
    assert_eq!(client.post("/pay", "k", "pay").await.text(), "pay");
}

#[tokio::test]
async fn a_head_that_is_too_long() {
    let (backend, gate) = both("").await;
    let client = Client::open(gate.address).await;
    let fits = "x".repeat(20 << 10);
    assert_eq!(client.send(head("/pay", &[("x-long", &fits)]), b"").await.status, 201);
    let long = "x".repeat(40 << 10);
    assert_eq!(client.send(head("/pay", &[("x-long", &long)]), b"").await.status, 431);
    assert_eq!(client.post("/pay", "k", "").await.status, 201);
    assert_eq!(backend.count(), 2);
}

#[tokio::test]
async fn idle_connections_are_told_to_go() {
    let (_backend, gate) = both("[server]\nidle_timeout = \"200ms\"").await;
    let client = Client::open(gate.address).await;
    assert_eq!(client.post("/pay", "k", "").await.status, 201);
    client.end().await.expect("the farewell is no error");
    // A client that is waiting is not idle, if it answers pings.
    let client = Client::open(gate.address).await;
    assert_eq!(client.post("/slow/700", "slow", "").await.status, 201);
}

/// A client that is told to go and does not is not waited for.
#[tokio::test]
async fn a_farewell_that_is_not_answered() {
    let (_backend, gate) = both("[server]\nidle_timeout = \"100ms\"\nhead_timeout = \"60s\"").await;
    let mut raw = Raw::open(gate.address).await;
    cut_off(&mut raw).await;
}

/// A client that waits for an answer and has lost its connection takes no place.
#[tokio::test]
async fn a_silent_client_is_asked_for_a_sign_of_life() {
    let settings = "[server]\nidle_timeout = \"100ms\"\nhead_timeout = \"100ms\"";
    let (backend, gate) = both(settings).await;
    let mut raw = Raw::open(gate.address).await;
    raw.write(&frame(HEADERS, END_HEADERS | 1, 1, &fields("/gate/a"))).await;
    eventually("it runs", async || backend.count() == 1).await;
    cut_off(&mut raw).await;
    backend.open("a", 1);
    let client = Client::open(gate.address).await;
    eventually("the answer was recorded", async || {
        client.post("/gate/a", "k", "").await.header("idempotent-replayed") == "true"
    })
    .await;
    assert_eq!(backend.executions("k"), 1);
}

/// A client that gives every sign of life, but no room for the answer: neither for the first
/// byte of a small one nor for more than the first bytes of a large one.
#[tokio::test]
async fn answers_for_which_there_is_no_room() {
    let (backend, gate) = both("[server]\nidle_timeout = \"200ms\"").await;
    let no_window = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    for (method, path, settings) in
        [(&b"POST"[..], "/pay", &no_window[..]), (b"GET", "/large/1000000", b"")]
    {
        let mut raw = Raw::open(gate.address).await;
        raw.write(settings).await;
        raw.write(&frame(HEADERS, END_HEADERS | 1, 1, &fields_of(method, path))).await;
        let gone = tokio::time::timeout(patience(), raw.is_sent_away()).await;
        assert!(gone.is_ok(), "{path}: the connection ends");
    }
    let client = Client::open(gate.address).await;
    assert_eq!(client.post("/pay", "k", "").await.header("idempotent-replayed"), "true");
    assert_eq!(backend.count(), 2, "the payment and the large answer, once each");
}

#[tokio::test]
async fn a_shutdown_finishes_the_streams() {
    let (backend, mut gate) = both("").await;
    let client = Client::open(gate.address).await;
    let mut raw = Raw::open(gate.address).await;
    assert_eq!(raw.frame().await.map(|frame| frame.kind), Some(SETTINGS), "it is served");
    let running = client.post("/gate/a", "k", "pay");
    let stopping = async {
        eventually("it runs", async || backend.count() == 1).await;
        gate.begin_stop();
        loop {
            let frame = raw.frame().await.expect("a farewell");
            if frame.kind == GOAWAY {
                break;
            }
        }
        backend.open("a", 1);
    };
    let (answer, ()) = tokio::join!(running, stopping);
    assert_eq!((answer.status, answer.text()), (201, "pay"));
    // Who has not heard of it yet is refused.
    let late = client.try_send(keyed("/pay", "late"), b"").await;
    assert!(late.is_err() || late.is_ok_and(|answer| answer.problem() == "shutting-down"));
    assert_eq!((gate.stop().await, backend.count()), (0, 1));
    assert_eq!(raw.end_of(1).await, End::Gone);
}

/// Waits until a connection ends on which nothing is read, so that no ping is answered.
async fn cut_off(raw: &mut Raw) {
    let cut = async {
        while raw.try_write(&frame(0xbb, 0, 0, b"")).await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(patience(), cut).await.expect("the connection ends");
}
