//! The listener for operators: is it alive, is it ready, what does it do.
//!
//! `/livez` and `/readyz` are for orchestrators, which bear no token: whoever asks hears whether
//! the gate is ready. Why it is not, and everything else, needs the token where there is one.
//! `serve` keeps connections from taking what others need.

mod serve;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    http::{
        HeaderMap, StatusCode,
        header::{AUTHORIZATION, CONTENT_TYPE, ORIGIN},
    },
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    Gate,
    config::Admin as Settings,
    proxy::{self, GateMetrics, MetricsPage, StartError},
};

/// How long `/readyz` waits for the store.
const PING_LIMIT: Duration = Duration::from_secs(1);

/// What the listener tells about.
#[derive(Clone)]
pub(crate) struct Readiness(Arc<Known>);

struct Known {
    gate: Gate,
    metrics: MetricsPage,
    gauges: GateMetrics,
}

impl Readiness {
    pub(crate) fn new(gate: Gate, metrics: MetricsPage, gauges: GateMetrics) -> Self {
        Self(Arc::new(Known { gate, metrics, gauges }))
    }
}

/// Who is told everything: who bears the token, or everybody where there is none.
#[derive(Clone)]
struct Access(Option<Arc<str>>);

impl Access {
    fn is_granted(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.0 else { return true };
        let given = headers.get(AUTHORIZATION).and_then(|value| {
            let (scheme, given) = value.as_bytes().split_at_checked(b"Bearer ".len())?;
            scheme.eq_ignore_ascii_case(b"Bearer ").then_some(given.trim_ascii())
        });
        // Digests are compared in constant time, and so say nothing about the token.
        given.is_some_and(|given| blake3::hash(given) == blake3::hash(token.as_bytes()))
    }
}

/// The bound listener.
pub(crate) struct Server {
    listener: TcpListener,
    address: SocketAddr,
    router: Router,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Server {
    pub(crate) async fn bind(
        settings: &Settings,
        readiness: Readiness,
    ) -> Result<Self, StartError> {
        let listener = proxy::listen("admin.listen", settings.listen).await?;
        let address = listener
            .local_addr()
            .map_err(|error| StartError::listen("admin.listen", settings.listen, &error))?;
        let token = settings.token_file.as_deref().map(read_token).transpose()?;
        let access = Access(token.map(Arc::from));
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/api/store/acknowledge", post(acknowledge))
            .route_layer(middleware::from_fn_with_state(access.clone(), authorize))
            .route("/livez", get(|| async { "alive\n" }))
            .route("/readyz", get(readyz).with_state((readiness.clone(), access)))
            .with_state(readiness);
        Ok(Self { listener, address, router })
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) async fn run(self, stop: CancellationToken) {
        serve::serve(self.listener, self.router, stop).await;
    }
}

fn read_token(path: &std::path::Path) -> Result<String, StartError> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        StartError::new(format!("admin.token_file: {} cannot be read: {error}", path.display()))
    })?;
    let token = text.trim();
    if token.len() < 16 {
        let path = path.display();
        return Err(StartError::new(format!(
            "admin.token_file: the token in {path} is shorter than 16 characters; write a random one"
        )));
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        let path = path.display();
        return Err(StartError::new(format!(
            "admin.token_file: {path} has more than one token, or one that no header can carry; \
             write one line of letters, digits and signs"
        )));
    }
    Ok(token.to_owned())
}

async fn authorize(
    State(access): State<Access>,
    headers: HeaderMap,
    request: Request,
    next: Next,
) -> Response {
    if access.is_granted(&headers) {
        next.run(request).await
    } else {
        let challenge = [(axum::http::header::WWW_AUTHENTICATE, "Bearer realm=\"oncegate\"")];
        (StatusCode::UNAUTHORIZED, challenge, "send the token of admin.token_file\n")
            .into_response()
    }
}

async fn readyz(
    State((Readiness(known), access)): State<(Readiness, Access)>,
    headers: HeaderMap,
) -> (StatusCode, String) {
    if known.gate.is_closing() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n".to_owned());
    }
    let why = match tokio::time::timeout(PING_LIMIT, known.gate.store().ping()).await {
        Ok(Ok(())) => return (StatusCode::OK, "ready\n".to_owned()),
        // It may name the store's address, and what is wrong with it.
        _ if !access.is_granted(&headers) => "not ready".to_owned(),
        Ok(Err(error)) => format!("store: {error}"),
        Err(_) => format!("store: no reply within {PING_LIMIT:?}"),
    };
    (StatusCode::SERVICE_UNAVAILABLE, why + "\n")
}

/// The operator's word that a loss of data is known. Not for web pages: a browser that
/// sends one says where it comes from.
async fn acknowledge(
    State(Readiness(known)): State<Readiness>,
    headers: HeaderMap,
) -> (StatusCode, String) {
    if headers.contains_key(ORIGIN) {
        return (StatusCode::FORBIDDEN, "not for web pages\n".to_owned());
    }
    match known.gate.store().acknowledge_loss().await {
        Ok(()) => {
            tracing::warn!("an operator has acknowledged that the store lost data");
            (StatusCode::OK, "acknowledged\n".to_owned())
        }
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("store: {error}\n")),
    }
}

async fn metrics(State(Readiness(known)): State<Readiness>) -> Response {
    known.gauges.read(&known.gate);
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], known.metrics.render()).into_response()
}
