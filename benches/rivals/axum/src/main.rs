//! The service of the other rivals' cases with axum-idempotent in it, as its documentation
//! puts it there: the key is the header's value, and responses are kept in the session.
//!
//! What it has begun and finished it says at `/executed`, which the middleware has no part
//! in, and so it is with `/release`. `/login` gives a session.

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use axum::{
    Router,
    extract::State,
    http::header,
    response::{AppendHeaders, IntoResponse},
    routing::{get, post},
};
use axum_idempotent::{IdempotentLayer, IdempotentOptions};
use ruts::{CookieOptions, Session, SessionLayer, store::memory::MemoryStore};
use tokio::{net::TcpListener, sync::watch};
use tower_cookies::CookieManagerLayer;

/// What has become of payments.
struct Ledger {
    /// As the bench's backend has it: `answer`, `hold`, `break` or `cookies`.
    mode: String,
    begun: AtomicU64,
    finished: AtomicU64,
    released: watch::Sender<bool>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let ledger = Arc::new(Ledger {
        mode: env::var("MODE")?,
        begun: AtomicU64::new(0),
        finished: AtomicU64::new(0),
        released: watch::Sender::new(false),
    });
    let options = IdempotentOptions::default()
        .use_idempotency_key_header(Some("Idempotency-Key"))
        .expire_after(3600);
    let cookie = CookieOptions::build().name("session").path("/").max_age(3600);
    let app = Router::new()
        .route("/payments", post(pay))
        .layer(IdempotentLayer::<MemoryStore>::new(options))
        .route("/login", post(login))
        .layer(SessionLayer::new(Arc::new(MemoryStore::new())).with_cookie_options(cookie))
        .layer(CookieManagerLayer::new())
        .route("/executed", get(executed))
        .route("/release", post(release))
        .with_state(ledger);
    axum::serve(TcpListener::bind(env::var("ADDRESS")?).await?, app).await?;
    Ok(())
}

async fn login(session: Session<MemoryStore>) -> Result<(), String> {
    session.set("user", &1, None, None).await.map(drop).map_err(|error| error.to_string())
}

async fn executed(State(ledger): State<Arc<Ledger>>) -> String {
    format!("{} {}", ledger.begun.load(Relaxed), ledger.finished.load(Relaxed))
}

async fn release(State(ledger): State<Arc<Ledger>>) {
    ledger.released.send_replace(true);
}

/// Whoever hangs up takes the handler's future away, and not the payment.
async fn pay(State(ledger): State<Arc<Ledger>>, _body: String) -> impl IntoResponse {
    let cookies = if ledger.mode == "cookies" { 3 } else { 0 };
    let execution = tokio::spawn(async move { ledger.execute().await }).await;
    let execution = execution.expect("the service breaks off");
    let cookies = (0..cookies).map(|at| (header::SET_COOKIE, format!("c{at}=1")));
    let json = [(header::CONTENT_TYPE, "application/json")];
    (json, AppendHeaders(cookies.collect::<Vec<_>>()), format!("{{\"execution\":{execution}}}"))
}

impl Ledger {
    async fn execute(&self) -> u64 {
        let execution = self.begun.fetch_add(1, Relaxed) + 1;
        if self.mode == "hold" {
            // It cannot fail: the sender is in the ledger itself.
            let _ = self.released.subscribe().wait_for(|released| *released).await;
        }
        self.finished.fetch_add(1, Relaxed);
        assert!(self.mode != "break" || execution > 1, "the service breaks off");
        execution
    }
}
