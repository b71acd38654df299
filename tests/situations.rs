//! The table "what the client gets", row by row, over real connections.

#![cfg(feature = "proxy")]

mod support;

use std::time::Duration;

use support::{
    backend::{self, Backend},
    client::{Answer, Connection, post, post_with, send},
    eventually,
    gate::{Gate, both},
    patience,
    ports::Port,
    scripted::Service,
};
use tokio::time::timeout;

/// The headers that say whether an answer is the first or a replay.
fn without_marks(answer: &Answer) -> Vec<(String, Vec<u8>)> {
    const MARKS: [&str; 4] = ["idempotent-replayed", "age", "cache-status", "idempotency-key"];
    let mut headers = answer.headers.clone();
    headers.retain(|(name, _)| !MARKS.contains(&name.as_str()));
    headers
}

#[tokio::test]
async fn a_replay_is_the_first_answer_once_more() {
    let (backend, gate) = both("").await;
    backend.put("rich", backend::RICH);
    let first = send(gate.address, &post("/raw/rich", "k", "pay")).await;
    // A service that says no date, as here, gets that of its first answer.
    eventually("the clock shows another second", async || {
        let other = send(gate.address, &post_with("/pay", &[], "")).await;
        other.header("date") != first.header("date")
    })
    .await;
    let again = send(gate.address, &post("/raw/rich", "\"k\"", "pay")).await;

    assert_eq!(first.status, 201);
    assert_eq!(first.all("set-cookie"), [&b"a=1"[..], b"b=2; Path=/"]);
    assert_eq!(first.all("x-name"), [b"caf\xe9"]);
    assert_eq!(first.header("location"), "/payments/1");
    assert_eq!(first.header("cache-status"), "oncegate; fwd=miss; stored");
    assert_eq!((first.header("idempotency-key"), first.header("idempotent-replayed")), ("k", ""));

    assert_eq!((again.status, &again.body), (first.status, &first.body));
    assert_eq!(without_marks(&again), without_marks(&first));
    assert_eq!(again.header("idempotent-replayed"), "true");
    assert_eq!(again.header("idempotency-key"), "\"k\"", "echoed as the client wrote it");
    assert!(again.header("cache-status").starts_with("oncegate; hit; ttl="));
    assert!(again.header("age").parse::<u64>().unwrap() < 60);
    assert_eq!(backend.executions("k"), 1);
    assert_eq!((gate.outcomes("executed").await, gate.outcomes("replayed").await), (1, 1));
}

#[tokio::test]
async fn trailers_are_recorded_and_replayed() {
    let (backend, gate) = both("").await;
    backend.put("trailers", &backend::chunked());
    let request = post_with(
        "/raw/trailers",
        &[("Idempotency-Key", "k"), ("TE", "trailers"), ("Connection", "TE")],
        "",
    );
    let first = send(gate.address, &request).await;
    let again = send(gate.address, &request).await;
    for answer in [&first, &again] {
        assert_eq!(answer.text(), "hello world");
        assert_eq!(answer.trailers, [("x-sum".to_owned(), b"11".to_vec())]);
        assert_eq!(answer.header("content-length"), "");
    }
    assert_eq!(backend.count(), 1);
    assert_eq!(backend.requests()[0].header("te"), Some("trailers"));
}

#[tokio::test]
async fn a_duplicate_is_rejected_while_the_first_runs() {
    let (backend, gate) = both("").await;
    let first = tokio::spawn(send_owned(gate.address, post("/gate/a", "k", "pay")));
    eventually("the backend has it", async || backend.count() == 1).await;
    let duplicate = send(gate.address, &post("/gate/a", "k", "pay")).await;
    assert_eq!((duplicate.status, duplicate.problem()), (409, "key-in-use".to_owned()));
    assert_eq!(duplicate.header("retry-after"), "1");
    assert_eq!(duplicate.member("error")["code"], "idempotency_key_in_use");
    let other = send(gate.address, &post("/gate/a", "k", "pay more")).await;
    assert_eq!((other.status, other.problem()), (422, "key-reused".to_owned()));
    backend.open("a", 1);
    assert_eq!(first.await.unwrap().status, 201);
    assert_eq!(backend.executions("k"), 1);
}

async fn send_owned(address: std::net::SocketAddr, request: Vec<u8>) -> Answer {
    send(address, &request).await
}

#[tokio::test]
async fn a_duplicate_waits_where_the_policy_says_so() {
    let (backend, gate) = both("[idempotency]\non_conflict = \"wait\"").await;
    let duplicates: Vec<_> = (0..8)
        .map(|_| tokio::spawn(send_owned(gate.address, post("/gate/a", "k", "pay"))))
        .collect();
    eventually("the backend has it", async || backend.count() == 1).await;
    backend.open("a", 1);
    let mut collapsed = 0;
    for duplicate in duplicates {
        let answer = duplicate.await.unwrap();
        assert_eq!((answer.status, answer.text()), (201, "pay"));
        collapsed += usize::from(answer.header("cache-status") == "oncegate; fwd=miss; collapsed");
    }
    assert!(collapsed >= 1, "nobody waited");
    assert_eq!(backend.executions("k"), 1);
}

#[tokio::test]
async fn who_waits_too_long_is_told_so() {
    let (backend, gate) =
        both("[idempotency]\non_conflict = \"wait\"\nconflict_wait = \"50ms\"").await;
    let first = tokio::spawn(send_owned(gate.address, post("/gate/a", "k", "")));
    eventually("the backend has it", async || backend.count() == 1).await;
    assert_eq!(send(gate.address, &post("/gate/a", "k", "")).await.problem(), "key-in-use");
    backend.open("a", 1);
    assert_eq!(first.await.unwrap().status, 201);
}

#[tokio::test]
async fn the_key_belongs_to_one_request_and_one_caller() {
    let (backend, gate) = both("").await;
    let as_caller =
        |who, body| post_with("/pay", &[("Idempotency-Key", "k"), ("Authorization", who)], body);
    let first = send(gate.address, &as_caller("Bearer ann", "secret of ann")).await;
    assert_eq!(first.status, 201);
    for other in [
        as_caller("Bearer bob", "secret of ann"),
        as_caller("Bearer ann", "x"),
        post("/pay", "k", "secret of ann"),
    ] {
        let answer = send(gate.address, &other).await;
        assert_eq!((answer.status, answer.problem()), (422, "key-reused".to_owned()));
        assert!(!answer.text().contains("secret"), "a key must not leak another caller's response");
    }
    assert_eq!(backend.executions("k"), 1);
}

#[tokio::test]
async fn scopes_keep_customers_apart() {
    let (backend, gate) = both("[idempotency]\nscope = [\"header:X-Account\"]").await;
    for account in ["1", "2", "1", "2"] {
        let request =
            post_with("/pay", &[("Idempotency-Key", "k"), ("X-Account", account)], account);
        assert_eq!(send(gate.address, &request).await.text(), account);
    }
    assert_eq!(backend.executions("k"), 2);
}

#[tokio::test]
async fn a_key_can_be_required() {
    let (backend, gate) = both("[idempotency]\nrequire_key = true").await;
    let answer = send(gate.address, &post_with("/pay", &[], "")).await;
    assert_eq!((answer.status, answer.problem()), (400, "key-missing".to_owned()));
    assert!(answer.header("link").ends_with("rel=\"describedby\""));
    assert_eq!(backend.count(), 0);
}

#[tokio::test]
async fn keys_come_from_where_the_policy_says() {
    let settings = "[idempotency]\nkeys = [\"header:Idempotency-Key\", \"json:/id\", \"query:id\"]";
    let (backend, gate) = both(settings).await;
    for _ in 0..2 {
        assert_eq!(
            send(gate.address, &post_with("/pay", &[], r#"{"id":"p-1"}"#)).await.status,
            201
        );
        assert_eq!(
            send(gate.address, &post_with("/pay?id=q-1", &[], "not json")).await.status,
            201
        );
    }
    assert_eq!(backend.count(), 2);
    for _ in 0..2 {
        send(gate.address, &post_with("/pay", &[], "no key anywhere")).await;
    }
    assert_eq!(backend.count(), 4, "without a key nothing is recorded");
}

#[tokio::test]
async fn content_is_a_key_for_clients_that_send_none() {
    let (backend, gate) = both(
        "[idempotency]\nkeys = [\"content\"]\nretention = \"2s\"\non_late_retry = \"execute\"",
    )
    .await;
    assert_eq!(send(gate.address, &post_with("/pay", &[], "1")).await.status, 201);
    assert_eq!(
        send(gate.address, &post_with("/pay", &[], "1")).await.header("idempotent-replayed"),
        "true"
    );
    assert_eq!(
        send(gate.address, &post_with("/pay", &[], "2")).await.header("idempotent-replayed"),
        ""
    );
    eventually("the double click's window is over", async || {
        send(gate.address, &post_with("/pay", &[], "1")).await;
        backend.count() == 3
    })
    .await;
}

#[tokio::test]
async fn bodies_are_bounded_one_by_one_and_together() {
    let (backend, gate) =
        both("[idempotency]\nmax_request_body = \"10\"\nmax_buffered = \"15\"").await;
    let answer = send(gate.address, &post("/pay", "k", "12345678901")).await;
    assert_eq!((answer.status, answer.problem()), (413, "body-too-large".to_owned()));
    let mut chunked = Connection::open(gate.address).await;
    chunked.write(b"POST /pay HTTP/1.1\r\nHost: g\r\nIdempotency-Key: c\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n12345678901\r\n").await;
    assert_eq!(chunked.answer().await.unwrap().status, 413);

    // Ten bytes are held by a request that is not complete, so ten more do not fit.
    let mut slow = Connection::open(gate.address).await;
    slow.write(b"POST /pay HTTP/1.1\r\nHost: g\r\nIdempotency-Key: s\r\nTransfer-Encoding: chunked\r\n\r\na\r\n1234567890\r\n").await;
    eventually("the bytes are held", async || gate.metric("oncegate_buffered_bytes").await == 10.0)
        .await;
    let answer = send(gate.address, &post("/pay", "k", "1234567890")).await;
    assert_eq!((answer.status, answer.problem()), (503, "overloaded".to_owned()));
    assert_eq!(backend.count(), 0, "nothing of all this was executed");
    slow.write(b"0\r\n\r\n").await;
    assert_eq!(slow.answer().await.unwrap().status, 201);
    assert_eq!(send(gate.address, &post("/pay", "k", "1234567890")).await.status, 201);
}

#[tokio::test]
async fn what_was_not_sent_is_released() {
    let nobody = Port::take();
    let gate = Gate::start(&format!("http://{}", nobody.address()), "").await;
    let answer = send(gate.address, &post("/pay", "k", "")).await;
    assert_eq!((answer.status, answer.problem()), (502, "upstream-unreachable".to_owned()));
    assert_eq!(answer.header("proxy-status"), "oncegate; error=connection_refused");
    assert_eq!(answer.header("retry-after"), "1");

    let backend = Backend::at(nobody.address()).await;
    assert_eq!(send(gate.address, &post("/pay", "k", "")).await.status, 201);
    assert_eq!(backend.executions("k"), 1);
}

#[tokio::test]
async fn a_reset_leaves_an_unknown_outcome_that_is_held() {
    let (backend, gate) = both("").await;
    let first = send(gate.address, &post("/reset", "k", "")).await;
    assert_eq!((first.status, first.problem()), (502, "outcome-unknown".to_owned()));
    assert_eq!(first.header("proxy-status"), "oncegate; error=connection_terminated");
    for _ in 0..3 {
        let retry = send(gate.address, &post("/reset", "k", "")).await;
        assert_eq!((retry.status, retry.problem()), (409, "outcome-unknown".to_owned()));
        assert_eq!(retry.member("reason"), "reset");
        assert!(retry.member("since").as_str().unwrap().starts_with("20"));
    }
    let other = send(gate.address, &post("/reset", "k", "x")).await;
    assert_eq!(other.status, 422, "another request learns nothing of it");
    assert_eq!(backend.executions("k"), 1, "executed, then reset: never sent again");
}

#[tokio::test]
async fn policy_retry_dispatches_an_unknown_outcome_again() {
    let (backend, gate) = both("[idempotency]\non_unknown = \"retry\"").await;
    for executed in 1..=3 {
        assert_eq!(send(gate.address, &post("/reset", "k", "")).await.problem(), "outcome-unknown");
        assert_eq!(backend.executions("k"), executed);
    }
}

/// However little time a response has: what waits for a connection was not sent.
#[tokio::test]
async fn a_connection_that_is_never_made_was_sent_nothing() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let deaf = socket.listen(1).unwrap();
    let address = deaf.local_addr().unwrap();
    // Nobody accepts, and when the queue is full the system answers no more.
    let mut queue = Vec::new();
    let patience = Duration::from_millis(200);
    while let Ok(Ok(queued)) =
        tokio::time::timeout(patience, tokio::net::TcpStream::connect(address)).await
    {
        queue.push(queued);
    }
    let gate =
        Gate::start(&format!("http://{address}"), "[upstream]\nresponse_timeout = \"400ms\"").await;
    for _ in 0..2 {
        let answer = send(gate.address, &post("/pay", "k", "")).await;
        assert_eq!((answer.status, answer.problem()), (504, "upstream-unreachable".to_owned()));
        assert_eq!(answer.header("proxy-status"), "oncegate; error=connection_timeout");
    }
}

#[tokio::test]
async fn silence_is_an_unknown_outcome() {
    let (backend, gate) = both("[upstream]\nresponse_timeout = \"1s\"").await;
    let first = send(gate.address, &post("/hang", "k", "")).await;
    assert_eq!((first.status, first.problem()), (504, "outcome-unknown".to_owned()));
    let retry = send(gate.address, &post("/hang", "k", "")).await;
    assert_eq!((retry.status, retry.member("reason")), (409, "timeout".into()));
    assert_eq!(backend.executions("k"), 1);
}

#[tokio::test]
async fn a_response_that_was_cut_anywhere_is_never_replayed() {
    let (backend, gate) = both("").await;
    let mut cases = Vec::new();
    cases.extend((0..backend::RICH.len()).map(|at| ("cut", at)));
    cases.extend((0..backend::chunked().len()).map(|at| ("cut-chunked", at)));
    for (how, at) in cases {
        let (path, key) = (format!("/{how}/{at}"), format!("{how}-{at}"));
        let first = send(gate.address, &post(&path, &key, "")).await;
        assert_eq!((first.status, first.problem()), (502, "outcome-unknown".to_owned()), "{path}");
        let retry = send(gate.address, &post(&path, &key, "")).await;
        assert_eq!((retry.status, retry.problem()), (409, "outcome-unknown".to_owned()), "{path}");
        assert_eq!(backend.executions(&key), 1, "{path}");
    }
}

#[tokio::test]
async fn statuses_release_record_or_leave_unknown() {
    let (backend, gate) = both("").await;
    for status in [401, 403, 407, 425, 429] {
        for _ in 0..2 {
            let answer =
                send(gate.address, &post(&format!("/status/{status}"), &status.to_string(), ""))
                    .await;
            assert_eq!((answer.status, answer.text()), (status, &*status.to_string()));
        }
        assert_eq!(backend.executions(&status.to_string()), 2, "{status} releases the key");
    }
    for status in [200, 302, 400, 404, 409, 422, 500, 501] {
        for replayed in ["", "true"] {
            let answer =
                send(gate.address, &post(&format!("/status/{status}"), &status.to_string(), ""))
                    .await;
            assert_eq!((answer.status, answer.header("idempotent-replayed")), (status, replayed));
        }
        assert_eq!(backend.executions(&status.to_string()), 1, "{status} is recorded");
    }
    for status in [502, 503, 504] {
        let (path, key) = (format!("/status/{status}"), status.to_string());
        let first = send(gate.address, &post(&path, &key, "")).await;
        assert_eq!((first.status, first.text()), (status, &*key), "delivered as it came");
        let retry = send(gate.address, &post(&path, &key, "")).await;
        assert_eq!(
            (retry.status, retry.member("reason")),
            (409, format!("gateway_{status}").into())
        );
        assert_eq!(backend.executions(&key), 1, "{status} leaves the outcome unknown");
    }
}

#[tokio::test]
async fn the_service_can_forbid_recording() {
    let (backend, gate) = both("").await;
    backend.put("no", b"HTTP/1.1 400 Bad\r\nIdempotency-Store: no\r\nContent-Length: 0\r\n\r\n");
    for _ in 0..2 {
        assert_eq!(send(gate.address, &post("/raw/no", "k", "")).await.status, 400);
    }
    assert_eq!(backend.executions("k"), 2);
}

#[tokio::test]
async fn a_response_too_large_to_record_is_delivered_and_remembered() {
    let (backend, gate) = both("[idempotency]\nmax_response_body = \"1KiB\"").await;
    let first = send(gate.address, &post("/large/5000000", "k", "")).await;
    assert_eq!((first.status, first.body.len()), (200, 5_000_000));
    assert!(first.header("cache-status").contains("stored=?0"));
    let retry = send(gate.address, &post("/large/5000000", "k", "")).await;
    assert_eq!((retry.status, retry.problem()), (409, "response-not-stored".to_owned()));
    assert_eq!(retry.member("original_status"), 200);
    assert_eq!(backend.executions("k"), 1);
}

#[tokio::test]
async fn live_responses_arrive_as_they_are_made_and_are_recorded_at_their_end() {
    let kinds = ["text/event-stream; charset=utf-8", "application/x-ndjson", "application/grpc"];
    for kind in kinds {
        let service = Service::start().await;
        let gate = Gate::start(&service.url(), "").await;
        let mut client = Connection::open(gate.address).await;
        client.write(&post("/events", "k", "")).await;
        let mut peer = service.accept().await;
        peer.head().await;
        let framing = "Transfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n";
        peer.write(format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n{framing}").as_bytes())
            .await;
        let head = client.head().await.unwrap();
        let status = head.header("cache-status");
        assert_eq!((head.status, status), (200, "oncegate; fwd=miss; stored=?0"), "{kind}");
        // The second event is sent when the first has arrived.
        let first = timeout(patience(), client.chunk()).await.expect("it arrives at once");
        assert_eq!(first.unwrap(), b"data: 1\n\n");
        let duplicate = send(gate.address, &post("/events", "k", "")).await;
        assert_eq!(duplicate.problem(), "key-in-use", "{kind}");
        peer.write(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n").await;
        eventually("it is recorded", async || {
            send(gate.address, &post("/events", "k", "")).await.status == 200
        })
        .await;
        let replay = send(gate.address, &post("/events", "k", "")).await;
        let seen = (replay.text(), replay.header("idempotent-replayed"));
        assert_eq!(seen, ("data: 1\n\ndata: 2\n\n", "true"), "{kind}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_changes_nothing() {
    let (backend, gate) = both("").await;
    for (key, by_reset) in [("fin", false), ("rst", true)] {
        let mut client = Connection::open(gate.address).await;
        client.write(&post(&format!("/gate/{key}"), key, "pay")).await;
        eventually("the backend has it", async || backend.executions(key) == 1).await;
        if by_reset {
            client.reset()
        } else {
            drop(client)
        }
        eventually("the gate still holds the key", async || {
            gate.metric("oncegate_pending").await == 1.0
        })
        .await;
        backend.open(key, 1);
        eventually("it is recorded", async || {
            send(gate.address, &post(&format!("/gate/{key}"), key, "pay")).await.status == 201
        })
        .await;
        let replay = send(gate.address, &post(&format!("/gate/{key}"), key, "pay")).await;
        assert_eq!((replay.text(), replay.header("idempotent-replayed")), ("pay", "true"));
        assert_eq!(backend.executions(key), 1);
    }
}

#[tokio::test]
async fn a_half_sent_request_claims_nothing() {
    let (backend, gate) = both("").await;
    let mut client = Connection::open(gate.address).await;
    client.write(b"POST /pay HTTP/1.1\r\nHost: g\r\nIdempotency-Key: k\r\nContent-Length: 10\r\n\r\n12345").await;
    drop(client);
    let answer = send(gate.address, &post("/pay", "k", "another body")).await;
    assert_eq!((answer.status, answer.header("idempotent-replayed")), (201, ""));
    assert_eq!(backend.count(), 1);
}

#[tokio::test]
async fn late_retries_are_refused_until_the_tombstone_is_gone() {
    let (backend, gate) = both("[idempotency]\nretention = \"200ms\"\ntombstone = \"3s\"").await;
    assert_eq!(send(gate.address, &post("/pay", "k", "")).await.status, 201);
    eventually("the response expires", async || {
        let answer = send(gate.address, &post("/pay", "k", "")).await;
        answer.status == 409 && answer.problem() == "key-expired"
    })
    .await;
    assert_eq!(
        send(gate.address, &post("/pay", "k", "other")).await.status,
        422,
        "expired keys keep their fingerprint"
    );
    assert_eq!(backend.executions("k"), 1);
    eventually("the tombstone goes", async || {
        send(gate.address, &post("/pay", "k", "")).await.status == 201
    })
    .await;
    assert_eq!(backend.executions("k"), 2);
    assert!(gate.outcomes("late_retry").await >= 1);
}

#[tokio::test]
async fn the_stripe_dialect_speaks_to_stripes_clients() {
    let (backend, gate) = both("[idempotency]\ndialect = \"stripe\"").await;
    backend.put("r", b"HTTP/1.1 200 OK\r\nRequest-Id: req_1\r\nContent-Length: 0\r\n\r\n");
    send(gate.address, &post("/raw/r", "k", "")).await;
    let replay = send(gate.address, &post("/raw/r", "k", "")).await;
    assert_eq!(
        (replay.header("original-request"), replay.header("request-id")),
        ("req_1", "req_1")
    );
    let mismatch = send(gate.address, &post("/raw/r", "k", "x")).await;
    assert_eq!((mismatch.status, mismatch.header("stripe-should-retry")), (400, "false"));
    assert_eq!(mismatch.member("error")["type"], "idempotency_error");
}

#[tokio::test]
async fn the_status_of_replays_can_be_set() {
    let (_backend, gate) = both("[idempotency]\nreplay_status = 208").await;
    assert_eq!(send(gate.address, &post("/pay", "k", "")).await.status, 201);
    assert_eq!(send(gate.address, &post("/pay", "k", "")).await.status, 208);
}

#[tokio::test]
async fn a_shutdown_finishes_what_runs_and_claims_nothing_new() {
    let (backend, mut gate) = both("").await;
    let running = tokio::spawn(send_owned(gate.address, post("/gate/a", "k", "pay")));
    let mut kept = Connection::open(gate.address).await;
    kept.write(&post("/pay", "before", "")).await;
    assert_eq!(kept.answer().await.unwrap().status, 201);
    // A request whose body arrives after the shutdown began.
    kept.write(
        b"POST /pay HTTP/1.1\r\nHost: g\r\nIdempotency-Key: late\r\nContent-Length: 2\r\n\r\n1",
    )
    .await;
    eventually("both run", async || {
        backend.count() == 2 && gate.metric("oncegate_buffered_bytes").await >= 1.0
    })
    .await;
    gate.begin_stop();
    eventually("the listener is closed", async || {
        tokio::net::TcpStream::connect(gate.address).await.is_err()
    })
    .await;
    kept.write(b"2").await;
    let late = kept.answer().await.unwrap();
    assert_eq!((late.status, late.problem()), (503, "shutting-down".to_owned()));
    assert_eq!(late.header("connection"), "close");
    assert!(kept.is_closed().await);
    backend.open("a", 1);
    assert_eq!(running.await.unwrap().text(), "pay");
    assert_eq!(gate.stop().await, 0);
    assert_eq!((backend.executions("k"), backend.executions("late")), (1, 0));
}

#[tokio::test]
async fn what_is_left_after_the_drain_is_unknown() {
    let folder = tempfile::tempdir().unwrap();
    let store = format!("file:{}", folder.path().display());
    let backend = Backend::start().await;
    let gate = Gate::on(&store, &backend.url(), "[server]\ndrain = \"50ms\"").await;
    let running = tokio::spawn(send_owned(gate.address, post("/hang", "k", "")));
    eventually("the backend has it", async || backend.count() == 1).await;
    assert_eq!(gate.stop().await, 1);
    assert_eq!(running.await.unwrap().problem(), "outcome-unknown");
    let gate = Gate::on(&store, &backend.url(), "").await;
    let retry = send(gate.address, &post("/hang", "k", "")).await;
    assert_eq!((retry.status, retry.member("reason")), (409, "owner_lost".into()));
    assert_eq!(backend.executions("k"), 1);
}
