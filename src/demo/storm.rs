//! The clients: many payments at once, each attempt on a connection of its own.
//!
//! A storm knows only what a client knows. Whether a payment was executed is for
//! the ledger to say.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use fastrand::Rng;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{
    console::Progress,
    http::{CallError, Reply, call, request},
};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Pauses between attempts double from the first to the last of these.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));

/// How a client meets trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retries {
    /// One attempt.
    Never,
    /// It tries again, and nobody can tell that it is the same payment.
    WithoutKey,
    /// It tries again under the same key.
    WithKey(AfterUnknown),
}

/// What a client does when it is told that the outcome is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterUnknown {
    /// It stops: the gate holds the key.
    Stop,
    /// It tries again: the gate dispatches again, or has learnt more.
    Retry,
}

/// What a storm does.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Where the payments go, a `host:port`.
    pub(crate) target: String,
    /// How many.
    pub(crate) payments: u64,
    /// How many at once.
    pub(crate) concurrency: usize,
    /// What a client does about trouble.
    pub(crate) retries: Retries,
    /// After so many attempts it gives up.
    pub(crate) attempts: u32,
    /// How long one attempt may take.
    pub(crate) patience: Duration,
}

/// What a client knows about its payment in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It was told that the payment is executed.
    Confirmed,
    /// It was told that the outcome is unknown.
    Unknown,
    /// It knows nothing, or it was refused.
    Failed,
}

/// What came of a storm, as the clients saw it.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    /// By the payment's number.
    pub(crate) endings: Vec<Ending>,
    /// Requests that were begun.
    pub(crate) attempts: u64,
    /// From the first to the last.
    pub(crate) wall: Duration,
}

/// What one attempt was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    /// 2xx: executed, now or earlier.
    Yes,
    /// The outcome is unknown, says the gate.
    Unknown,
    /// Nothing certain; another attempt may help.
    Again,
    /// A refusal that another attempt will not change.
    No,
}

/// The reference of the n-th payment.
pub(crate) fn reference(payment: u64) -> String {
    format!("payment-{payment:06}")
}

/// Pays `plan.payments` times one euro.
pub(crate) async fn storm(plan: Plan, progress: Arc<Progress>) -> Tally {
    let begun = Instant::now();
    let next = Arc::new(AtomicU64::new(0));
    let attempts = Arc::new(AtomicU64::new(0));
    let plan = Arc::new(plan);
    let mut clients = JoinSet::new();
    for _ in 0..plan.concurrency.max(1) {
        let (plan, next, attempts, progress) =
            (Arc::clone(&plan), Arc::clone(&next), Arc::clone(&attempts), Arc::clone(&progress));
        clients.spawn(async move {
            let mut endings = Vec::new();
            loop {
                let payment = next.fetch_add(1, Ordering::Relaxed);
                if payment >= plan.payments {
                    return endings;
                }
                endings.push((payment, plan.pay(payment, &attempts).await));
                progress.advance();
            }
        });
    }
    // A payment whose client panicked counts as failed.
    let mut endings = vec![Ending::Failed; usize::try_from(plan.payments).unwrap_or(usize::MAX)];
    while let Some(client) = clients.join_next().await {
        for (payment, ending) in client.unwrap_or_default() {
            endings[payment as usize] = ending;
        }
    }
    progress.finish();
    Tally { endings, attempts: attempts.load(Ordering::Relaxed), wall: begun.elapsed() }
}

impl Plan {
    async fn pay(&self, payment: u64, attempts: &AtomicU64) -> Ending {
        let order = self.order(payment);
        let mut last = Heard::Again;
        for attempt in 1..=self.attempts.max(1) {
            if attempt > 1 {
                tokio::time::sleep(pause(attempt)).await;
            }
            attempts.fetch_add(1, Ordering::Relaxed);
            last = hear(call(&self.target, order.clone(), self.patience).await);
            match last {
                Heard::Yes => return Ending::Confirmed,
                Heard::No => return Ending::Failed,
                Heard::Unknown if self.retries == Retries::WithKey(AfterUnknown::Retry) => {}
                Heard::Unknown => return Ending::Unknown,
                Heard::Again if self.retries == Retries::Never => return Ending::Failed,
                Heard::Again => {}
            }
        }
        match last {
            Heard::Unknown => Ending::Unknown,
            Heard::Yes | Heard::Again | Heard::No => Ending::Failed,
        }
    }

    fn order(&self, payment: u64) -> Request<Full<bytes::Bytes>> {
        let body = json!({ "amount": 1, "reference": reference(payment) }).to_string();
        let mut order = request(Method::POST, "/payments/", body);
        let headers = order.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Retries::WithKey(_) = self.retries {
            headers.insert(IDEMPOTENCY_KEY, fresh_key());
        }
        order
    }
}

fn hear(answer: Result<Reply, CallError>) -> Heard {
    let Ok(Reply { status, body }) = answer else {
        return Heard::Again;
    };
    let problem = problem(&body);
    let is = |name| problem.as_deref().is_some_and(|problem| problem.ends_with(name));
    match status {
        _ if status.is_success() => Heard::Yes,
        StatusCode::CONFLICT | StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT
            if is("/outcome-unknown") =>
        {
            Heard::Unknown
        }
        StatusCode::CONFLICT if is("/key-in-use") => Heard::Again,
        StatusCode::TOO_MANY_REQUESTS => Heard::Again,
        _ if status.is_server_error() => Heard::Again,
        _ => Heard::No,
    }
}

/// The `type` of a problem document.
fn problem(body: &[u8]) -> Option<String> {
    let document: Value = serde_json::from_slice(body).ok()?;
    Some(document.get("type")?.as_str()?.to_owned())
}

/// Half to all of a pause that doubles with the attempts.
fn pause(attempt: u32) -> Duration {
    let (first, last) = PAUSE;
    let whole = first.saturating_mul(1 << attempt.saturating_sub(2).min(16)).min(last);
    whole.mul_f64(0.5 + Rng::new().f64() / 2.0)
}

/// A UUID, version 4. It does not come from the seed: a gate remembers keys
/// from one run to the next.
fn fresh_key() -> HeaderValue {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the operating system has randomness after boot");
    let [a, b] = [&bytes[..8], &bytes[8..]]
        .map(|half| half.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)));
    let uuid = format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        a >> 32,
        a >> 16 & 0xffff,
        a & 0xfff,
        b >> 48 & 0x3fff | 0x8000,
        b & 0xffff_ffff_ffff,
    );
    HeaderValue::try_from(uuid).expect("hexadecimal digits and hyphens are allowed in a header")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, body: &str) -> Heard {
        let status = StatusCode::from_u16(status).unwrap();
        hear(Ok(Reply { status, body: body.to_owned().into() }))
    }

    #[test]
    fn a_client_takes_an_answer_at_its_word() {
        let unknown = r#"{"type": "https://oncegate.dev/problems/outcome-unknown"}"#;
        let in_use = r#"{"type": "https://oncegate.dev/problems/key-in-use"}"#;
        for status in [200, 201, 208] {
            assert_eq!(answered(status, "{}"), Heard::Yes);
        }
        for status in [409, 502, 504] {
            assert_eq!(answered(status, unknown), Heard::Unknown);
        }
        assert_eq!(answered(409, in_use), Heard::Again);
        for status in [429, 500, 502, 503, 504] {
            assert_eq!(answered(status, "no JSON"), Heard::Again);
        }
        for status in [400, 404, 409, 413, 422] {
            assert_eq!(answered(status, "{}"), Heard::No);
        }
        assert_eq!(hear(Err(CallError::Timeout(Duration::ZERO))), Heard::Again);
    }

    #[test]
    fn keys_are_uuids_and_differ() {
        let (one, other) = (fresh_key(), fresh_key());
        assert_ne!(one, other);
        let text = one.to_str().unwrap();
        assert_eq!(text.len(), 36);
        assert_eq!(text.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&text.as_bytes()[19]));
    }

    #[test]
    fn pauses_grow_to_their_limit() {
        for attempt in 2..200 {
            assert!(pause(attempt) <= PAUSE.1);
            assert!(pause(attempt) >= PAUSE.0 / 2);
        }
        assert!(pause(60) >= PAUSE.1 / 2);
    }
}
