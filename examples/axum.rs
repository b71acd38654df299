//! An axum app whose payments are executed at most once per key.
//!
//! ```console
//! $ cargo run --example axum --no-default-features
//! $ curl -i -X POST localhost:3000/payments -H 'Idempotency-Key: 1' -d 10   # twice
//! ```

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use axum::{
    Extension, Router,
    extract::State,
    http::StatusCode,
    routing::{get, post},
};
use oncegate::{Gate, IdempotencyLayer, Key, OnConflict, Policy, store::MemoryStore};

/// How many payments were executed.
type Executed = Arc<AtomicU64>;

/// The app: `/payments` behind the layer, `/executed` beside it.
pub fn app(gate: Gate) -> Router {
    let policy = Policy {
        require_key: true,
        on_conflict: OnConflict::Wait(std::time::Duration::from_secs(10)),
        ..Policy::default()
    };
    Router::new()
        .route("/payments", post(pay))
        .layer(IdempotencyLayer::new(gate, policy))
        .route("/executed", get(executed))
        .with_state(Executed::default())
}

/// Not idempotent at all: each call is one more payment.
async fn pay(
    State(executed): State<Executed>,
    Extension(key): Extension<Key>,
    body: String,
) -> (StatusCode, String) {
    let number = executed.fetch_add(1, Ordering::Relaxed) + 1;
    (StatusCode::CREATED, format!("payment {number} of {body} for key {}\n", key.as_str()))
}

async fn executed(State(executed): State<Executed>) -> String {
    executed.load(Ordering::Relaxed).to_string()
}

#[tokio::main]
#[allow(dead_code, reason = "a test runs the app without it")]
async fn main() -> std::io::Result<()> {
    let gate = Gate::builder(MemoryStore::default()).build();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    let shutdown = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    axum::serve(listener, app(gate.clone())).with_graceful_shutdown(shutdown).await?;
    // What runs is finished and recorded, whether or not its client is still there.
    gate.drain(std::time::Duration::from_secs(30)).await;
    Ok(())
}
