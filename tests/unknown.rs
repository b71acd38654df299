//! Outcomes that are not known: how they are learnt, and by whom.

#![cfg(feature = "proxy")]
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use std::time::Duration;

use support::{
    backend::{Backend, RICH},
    client::{Answer, Connection, post, post_with, send},
    eventually,
    gate::{Gate, both},
    ports::Port,
};

/// Asks `/lookup/BODY`; finding nothing is proof after `quiescence`.
fn reconcile(quiescence: &str) -> String {
    format!(
        "[idempotency]\non_unknown = \"reconcile\"\nlease = \"200ms\"\n\
         reconcile.request = \"GET /lookup/{{header:X-Reference}}\"\n\
         reconcile.executed = {{ status = [200], json = \"/0/id\", equals = 1 }}\n\
         reconcile.not_executed = {{ status = [404] }}\n\
         reconcile.quiescence = \"{quiescence}\"\n"
    )
}

fn pay(path: &str, key: &str) -> Vec<u8> {
    post_with(
        path,
        &[("Idempotency-Key", key), ("X-Reference", key), ("Authorization", "Bearer a")],
        key,
    )
}

fn is_unknown(answer: &Answer) -> bool {
    answer.status == 409 && answer.problem() == "outcome-unknown"
}

/// Sends a request until its outcome is known, and counts the answers before.
async fn until_known(gate: &Gate, request: &[u8]) -> (Answer, usize) {
    let mut before = 0;
    loop {
        let answer = send(gate.address, request).await;
        if !is_unknown(&answer) {
            return (answer, before);
        }
        before += 1;
    }
}

#[tokio::test]
async fn what_was_executed_is_found_and_replayed() {
    let (backend, gate) = both(&reconcile("1h")).await;
    assert_eq!(send(gate.address, &pay("/reset", "k")).await.status, 502);
    let learnt = send(gate.address, &pay("/reset", "k")).await;
    assert_eq!((learnt.status, learnt.text()), (200, "[{\"id\":1}]"));
    assert_eq!(
        (learnt.header("idempotent-reconciled"), learnt.header("idempotent-replayed")),
        ("true", "")
    );
    assert_eq!(learnt.header("content-type"), "application/json");
    let replay = send(gate.address, &pay("/reset", "k")).await;
    assert_eq!((&replay.body, replay.header("idempotent-replayed")), (&learnt.body, "true"));
    assert_eq!(send(gate.address, &post("/reset", "k", "other")).await.status, 422);
    assert_eq!((backend.executions("k"), gate.outcomes("reconciled").await), (1, 1));
    let lookups: Vec<_> =
        backend.requests().into_iter().filter(|seen| seen.line.starts_with("GET")).collect();
    assert_eq!(lookups.len(), 1, "what was learnt is recorded");
    assert_eq!(lookups[0].line, "GET /lookup/k HTTP/1.1");
    assert_eq!(
        (lookups[0].header("authorization"), lookups[0].header("idempotency-key")),
        (Some("Bearer a"), None)
    );
}

#[tokio::test]
async fn what_was_not_executed_is_dispatched_once_after_the_quiescence() {
    let (backend, gate) = both(&reconcile("700ms")).await;
    // It is unknown at some moment after this one.
    let begin = std::time::Instant::now();
    assert_eq!(send(gate.address, &pay("/lost-once/1", "k")).await.status, 502);
    let (answer, retries) = until_known(&gate, &pay("/lost-once/1", "k")).await;
    let waited = begin.elapsed();
    assert!(
        waited >= Duration::from_millis(700),
        "taken over after {waited:?}, before the quiescence"
    );
    assert!(retries > 0);
    assert_eq!((answer.status, answer.header("idempotent-replayed")), (201, ""));
    assert_eq!(backend.executions("k"), 1);
}

/// The first attempt is still on its way when the first lookups find nothing.
#[tokio::test]
async fn what_arrives_within_the_quiescence_is_not_sent_again() {
    let (backend, gate) = both(&reconcile("3s")).await;
    assert_eq!(send(gate.address, &pay("/late-once/1", "k")).await.status, 502);
    assert_eq!(backend.executions("k"), 0, "it has not arrived yet");
    let (answer, retries) = until_known(&gate, &pay("/late-once/1", "k")).await;
    assert!(retries > 0, "lookups before it has arrived prove nothing");
    assert_eq!((answer.status, answer.header("idempotent-reconciled")), (200, "true"));
    assert_eq!(backend.executions("k"), 1);
}

/// On Redis, across two gates, when the first owner is long gone.
#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_many_reconcilers_takes_over() {
    let (redis, backend) = (support::redis::Server::start(&[]), Backend::start().await);
    let settings = reconcile("300ms");
    let gates = [
        Gate::on(&redis.url(), &backend.url(), &settings).await,
        Gate::on(&redis.url(), &backend.url(), &settings).await,
    ];
    for round in 0..5 {
        let (path, key) = (format!("/lost-once/{round}"), format!("k{round}"));
        assert_eq!(send(gates[0].address, &pay(&path, &key)).await.status, 502);
        let until = tokio::time::Instant::now() + Duration::from_millis(320);
        let retries: Vec<_> = (0..40)
            .map(|number| {
                let (address, request) = (gates[number % 2].address, pay(&path, &key));
                tokio::spawn(async move {
                    tokio::time::sleep_until(until).await;
                    send(address, &request).await
                })
            })
            .collect();
        for retry in retries {
            let answer = retry.await.unwrap();
            let refused = answer.status == 409
                && ["key-in-use", "outcome-unknown"].contains(&&*answer.problem());
            assert!(refused || [200, 201].contains(&answer.status), "{answer:?}");
        }
        assert_eq!(backend.executions(&key), 1);
    }
}

#[tokio::test]
async fn a_lookup_that_proves_nothing_leaves_it_unknown() {
    let settings = reconcile("0s").replace("[404]", "[410]") + "reconcile.timeout = \"100ms\"\n";
    let (backend, gate) = both(&settings).await;
    assert_eq!(send(gate.address, &pay("/lost", "k")).await.status, 502);
    for _ in 0..3 {
        assert!(is_unknown(&send(gate.address, &pay("/lost", "k")).await));
    }
    // Without a value for the placeholder there is no question.
    assert_eq!(send(gate.address, &post("/lost", "n", "")).await.status, 502);
    assert!(is_unknown(&send(gate.address, &post("/lost", "n", "")).await));
    // A lookup that hangs.
    let hanging = settings.replace("/lookup/", "/hang/");
    let gate = Gate::start(&backend.url(), &hanging).await;
    assert_eq!(send(gate.address, &pay("/lost", "h")).await.status, 502);
    assert!(is_unknown(&send(gate.address, &pay("/lost", "h")).await));
}

#[tokio::test]
async fn a_response_after_the_time_out_is_recorded() {
    let (backend, gate) = both("[upstream]\nresponse_timeout = \"150ms\"").await;
    let first = send(gate.address, &post("/gate/a", "k", "pay")).await;
    assert_eq!((first.status, first.problem()), (504, "outcome-unknown".to_owned()));
    let retry = send(gate.address, &post("/gate/a", "k", "pay")).await;
    assert!(is_unknown(&retry) && retry.member("reason") == "timeout");
    backend.open("a", 1);
    eventually("the late response is recorded", async || {
        send(gate.address, &post("/gate/a", "k", "pay")).await.status == 201
    })
    .await;
    let replay = send(gate.address, &post("/gate/a", "k", "pay")).await;
    assert_eq!((replay.text(), replay.header("idempotent-replayed")), ("pay", "true"));
    assert_eq!(backend.executions("k"), 1);
}

/// Nobody hears of it otherwise.
#[tokio::test]
async fn an_unknown_outcome_is_counted_though_its_client_is_gone() {
    let (backend, gate) = both("[upstream]\nresponse_timeout = \"200ms\"").await;
    let mut client = Connection::open(gate.address).await;
    client.write(&post("/hang", "k", "pay")).await;
    eventually("the backend has it", async || backend.executions("k") == 1).await;
    drop(client);
    eventually("it is counted", async || {
        gate.metric("oncegate_unknown_total{reason=\"timeout\"}").await == 1.0
    })
    .await;
    assert_eq!(gate.outcomes("unknown").await, 0, "no request was told so");
}

#[tokio::test]
async fn what_went_wrong_is_said_whatever_the_reason_is_called() {
    let (backend, gate) = both("").await;
    backend.put("noise", b"SSH-2.0-OpenSSH\r\n\r\n");
    let cut = format!("/cut/{}", RICH.len() - 2);
    for (path, error, reason) in [
        ("/raw/noise", "http_protocol_error", "reset"),
        ("/reset", "connection_terminated", "reset"),
        (&*cut, "http_response_incomplete", "truncated"),
    ] {
        let answer = send(gate.address, &post(path, path, "")).await;
        assert_eq!((answer.status, answer.problem()), (502, "outcome-unknown".to_owned()));
        assert_eq!(answer.header("proxy-status"), format!("oncegate; error={error}"), "{path}");
        assert_eq!(answer.member("reason"), reason, "{path}");
    }
}

#[tokio::test]
async fn a_take_over_that_sent_nothing_leaves_the_first_outcome_unknown() {
    let backend = Backend::start().await;
    let folder = tempfile::tempdir().unwrap();
    let store = format!("file:{}", folder.path().display());
    let retry = "[idempotency]\non_unknown = \"retry\"";
    let gate = Gate::on(&store, &backend.url(), retry).await;
    assert_eq!(send(gate.address, &post("/reset", "k", "pay")).await.status, 502);
    gate.stop().await;
    let nobody = Port::take();
    let gate = Gate::on(&store, &format!("http://{}", nobody.address()), retry).await;
    assert_eq!(
        send(gate.address, &post("/reset", "k", "pay")).await.problem(),
        "upstream-unreachable"
    );
    assert_eq!(
        send(gate.address, &post("/reset", "k", "other")).await.status,
        422,
        "the key keeps its request"
    );
    gate.stop().await;
    let gate = Gate::on(&store, &backend.url(), "").await;
    let held = send(gate.address, &post("/reset", "k", "pay")).await;
    assert!(is_unknown(&held) && held.member("reason") == "reset", "{held:?}");
    assert_eq!(backend.executions("k"), 1);
}

#[tokio::test]
async fn an_upgrade_is_no_way_around_the_gate() {
    let (backend, gate) = both("[idempotency]\nrequire_key = true").await;
    let upgrade = [
        ("Connection", "Upgrade, HTTP2-Settings"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "AAMAAABk"),
    ];
    let keyed = [&upgrade[..], &[("Idempotency-Key", "k")]].concat();
    for _ in 0..2 {
        assert_eq!(send(gate.address, &post_with("/pay", &keyed, "")).await.status, 201);
    }
    assert_eq!(backend.executions("k"), 1);
    assert_eq!(backend.requests()[0].header("upgrade"), None);
    assert_eq!(send(gate.address, &post_with("/pay", &upgrade, "")).await.problem(), "key-missing");
}

#[tokio::test]
async fn refusals_of_the_proxy_speak_the_routes_dialect() {
    let (_backend, gate) =
        both("[idempotency]\ndialect = \"stripe\"\nproblem_base = \"https://e.org\"").await;
    let request = b"POST http://a/pay HTTP/1.1\r\nHost: b\r\nContent-Length: 0\r\n\r\n";
    let answer = send(gate.address, request).await;
    assert_eq!((answer.status, answer.header("content-type")), (400, "application/json"));
    assert_eq!(answer.member("type"), "https://e.org/bad-request");
    let mut client = Connection::open(gate.address).await;
    client.write(&post("/pay", "k", "")).await;
    assert_eq!(client.answer().await.unwrap().status, 201);
}
