//! Gates that do not keep their promises, to see that the story finds them out.
//! They share no code with the real one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tokio::sync::Mutex as Turn;

use super::{
    gate::{GateOptions, OnUnknown, RunningGate, Starting},
    http::{CallError, call, request},
    part::{GRACE, Listening, Part, listen_anywhere},
};

/// Forwards everything and remembers nothing.
pub(crate) fn forgetful(options: GateOptions) -> Starting {
    start(options, Character::Forgetful)
}

/// Says that everything went well.
pub(crate) fn lying(options: GateOptions) -> Starting {
    start(options, Character::Lying)
}

/// Answers a bare 502 where the outcome is unknown, and holds the key.
pub(crate) fn taciturn(options: GateOptions) -> Starting {
    start(options, Character::Taciturn)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Character {
    Forgetful,
    Lying,
    Taciturn,
}

#[derive(Clone)]
enum Known {
    Nothing,
    Unknown,
    Done(StatusCode, Bytes),
}

#[derive(Clone)]
struct Gate {
    upstream: Arc<str>,
    on_unknown: OnUnknown,
    character: Character,
    keys: Arc<Mutex<HashMap<String, Arc<Turn<Known>>>>>,
}

fn start(options: GateOptions, character: Character) -> Starting {
    Box::pin(async move {
        let Listening { listener, addr } = listen_anywhere().await?;
        let gate = Gate {
            upstream: options.upstream.trim_start_matches("http://").into(),
            on_unknown: options.on_unknown,
            character,
            keys: Arc::default(),
        };
        let router = Router::new()
            .route("/payments/", post(pay))
            .route("/healthz", get(|| async { "ok" }))
            .with_state(gate);
        let part = Part::spawn(addr, |stop| async move {
            let _ =
                axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
        });
        Ok(RunningGate::new(part))
    })
}

async fn pay(State(gate): State<Gate>, headers: HeaderMap, body: Bytes) -> Response {
    let key = headers["idempotency-key"].to_str().unwrap().to_owned();
    // The exchange is finished when the client has gone.
    tokio::spawn(async move { gate.exchange(key, body).await }).await.unwrap()
}

impl Gate {
    async fn exchange(self, key: String, body: Bytes) -> Response {
        let slot = {
            let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(
                keys.entry(key.clone()).or_insert_with(|| Arc::new(Turn::new(Known::Nothing))),
            )
        };
        let mut known = slot.lock().await;
        match &*known {
            _ if self.character == Character::Forgetful => {}
            Known::Done(status, body) => return (*status, body.clone()).into_response(),
            Known::Unknown if self.on_unknown != OnUnknown::Retry => {
                return self.unknown(StatusCode::CONFLICT);
            }
            Known::Unknown | Known::Nothing => {}
        }
        let mut order = request(Method::POST, "/payments/", body);
        let headers = order.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert("idempotency-key", HeaderValue::try_from(key).unwrap());
        match call(&self.upstream, order, GRACE).await {
            Ok(reply) => {
                *known = Known::Done(reply.status, reply.body.clone());
                (reply.status, reply.body).into_response()
            }
            Err(_) if self.character == Character::Lying => StatusCode::CREATED.into_response(),
            Err(CallError::Connect(_)) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
            Err(CallError::Broken(_) | CallError::Timeout(_)) => {
                *known = Known::Unknown;
                self.unknown(StatusCode::BAD_GATEWAY)
            }
        }
    }

    fn unknown(&self, status: StatusCode) -> Response {
        match self.character {
            Character::Taciturn => StatusCode::BAD_GATEWAY.into_response(),
            Character::Forgetful | Character::Lying => {
                (status, r#"{"type": "https://example.test/outcome-unknown"}"#).into_response()
            }
        }
    }
}
