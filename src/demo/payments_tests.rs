use std::path::Path;

use http::{HeaderValue, Method};
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::{super::http::Reply, *};
use crate::demo::{
    http::{call, request},
    ledger::{Row, Totals},
    part::{GRACE, listen, listen_anywhere},
};

async fn open(data: &Path, repeats: Repeats) -> Payments {
    let options = PaymentsOptions { data: data.to_owned(), repeats };
    Payments::start(listen_anywhere().await.unwrap(), options).await.unwrap()
}

async fn ask(service: &str, method: Method, path: &'static str) -> Reply {
    call(service, request(method, path, ""), GRACE).await.unwrap()
}

async fn pay(service: &str, reference: &str, key: Option<&'static str>) -> Reply {
    let body = json!({ "amount": 3, "reference": reference }).to_string();
    let mut order = request(Method::POST, "/payments/", body);
    let headers = order.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    if let Some(key) = key {
        headers.insert("idempotency-key", HeaderValue::from_static(key));
    }
    call(service, order, GRACE).await.unwrap()
}

async fn stats(service: &str) -> Totals {
    serde_json::from_slice(&ask(service, Method::GET, "/stats").await.body).unwrap()
}

#[tokio::test]
async fn every_post_is_a_payment_even_under_a_key_that_was_seen() {
    let data = TempDir::new().unwrap();
    let service = open(data.path(), Repeats::Execute).await;
    let addr = service.addr.to_string();
    for id in 1..=2 {
        let reply = pay(&addr, "rent", Some("k")).await;
        assert_eq!(reply.status, StatusCode::CREATED);
        assert_eq!(serde_json::from_slice::<Value>(&reply.body).unwrap(), json!({ "id": id }));
    }
    pay(&addr, "tea", None).await;
    let expected = Totals { count: 3, sum: 9, once: 1, doubled: 1, surplus: 1 };
    assert_eq!(stats(&addr).await, expected);

    let rent = ask(&addr, Method::GET, "/payments?reference=rent").await;
    let rows: Vec<Row> = serde_json::from_slice(&rent.body).unwrap();
    let keys: Vec<_> = rows.iter().map(|row| row.key.as_deref()).collect();
    assert_eq!(keys, [Some("k"), Some("k")]);
    assert_eq!(
        ask(&addr, Method::GET, "/payments?reference=none").await.status,
        StatusCode::NOT_FOUND
    );
    let third = ask(&addr, Method::GET, "/payments/3").await;
    assert_eq!(serde_json::from_slice::<Row>(&third.body).unwrap().reference, "tea");
    assert_eq!(ask(&addr, Method::GET, "/payments/4").await.status, StatusCode::NOT_FOUND);
    assert_eq!(ask(&addr, Method::GET, "/healthz").await.status, StatusCode::OK);

    assert_eq!(ask(&addr, Method::DELETE, "/payments/").await.status, StatusCode::NO_CONTENT);
    assert_eq!(stats(&addr).await, Totals::default());
    service.stop().await;
}

#[tokio::test]
async fn what_was_answered_survives_a_restart() {
    let data = TempDir::new().unwrap();
    let service = open(data.path(), Repeats::Execute).await;
    pay(&service.addr.to_string(), "rent", Some("k")).await;
    service.stop().await;

    let service = open(data.path(), Repeats::Deduplicate).await;
    let addr = service.addr.to_string();
    assert_eq!(stats(&addr).await.sum, 3);
    assert_eq!(pay(&addr, "rent", Some("k")).await.status, StatusCode::ALREADY_REPORTED);
    assert_eq!(pay(&addr, "tea", None).await.status, StatusCode::CREATED);
    assert_eq!(stats(&addr).await.count, 2);
    service.stop().await;
}

#[tokio::test]
async fn deduplication_answers_208_and_the_first_result_to_whoever_comes_later() {
    let data = TempDir::new().unwrap();
    let service = open(data.path(), Repeats::Deduplicate).await;
    let addr = service.addr.to_string();
    let mut duplicates = JoinSet::new();
    for _ in 0..32 {
        let addr = addr.clone();
        duplicates.spawn(async move { pay(&addr, "rent", Some("k")).await });
    }
    let replies = duplicates.join_all().await;
    let created = replies.iter().filter(|reply| reply.status == StatusCode::CREATED).count();
    let reported =
        replies.iter().filter(|reply| reply.status == StatusCode::ALREADY_REPORTED).count();
    assert_eq!((created, reported), (1, 31));
    assert!(replies.iter().all(|reply| reply.body == replies[0].body));
    assert_eq!(pay(&addr, "rent", Some("other")).await.status, StatusCode::CREATED);
    assert_eq!(pay(&addr, "rent", None).await.status, StatusCode::CREATED);
    assert_eq!(stats(&addr).await.count, 3);
    service.stop().await;
}

#[tokio::test]
async fn what_is_taken_is_named_with_its_flag() {
    let data = TempDir::new().unwrap();
    let service = open(data.path(), Repeats::Execute).await;
    let error = listen(service.addr, "--listen").await.unwrap_err().to_string();
    assert!(error.contains(&service.addr.to_string()) && error.contains("--listen"), "{error}");

    let options = PaymentsOptions { data: data.path().to_owned(), repeats: Repeats::Execute };
    let second = Payments::start(listen_anywhere().await.unwrap(), options).await;
    let error = second.unwrap_err().to_string();
    assert!(error.contains("--data") && error.contains("payments.redb"), "{error}");
    service.stop().await;
}
