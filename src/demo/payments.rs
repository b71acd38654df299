//! The naive payment service: every `POST` is a payment.
//!
//! | request | answer |
//! |---|---|
//! | `POST /payments/` | 201, `{"id": n}`, `Location: /payments/n` |
//! | `GET /payments/n` | the row, or 404 |
//! | `GET /payments?reference=...` | the rows of one payment, or 404 |
//! | `GET /payments` | all rows |
//! | `DELETE /payments/` | empties the ledger, 204 |
//! | `GET /stats` | [`Totals`](super::ledger::Totals) |
//! | `GET /healthz`, `GET /readyz` | 200; the latter is what `oncegate health` asks |
//!
//! `Idempotency-Key` is written down and otherwise ignored, unless the service
//! was told to deduplicate: then a key that is in the ledger gets 208 and the
//! first result.

use std::path::PathBuf;

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::map_response,
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Deserialize;
use serde_json::json;

use super::{
    error::DemoError,
    ledger::{Added, Ledger, LedgerError, Owner, Payment, Repeats},
    part::{GRACE, Listening, Part},
};

/// What the service is told.
#[derive(Clone, Debug)]
pub(crate) struct PaymentsOptions {
    /// The folder of the ledger.
    pub(crate) data: PathBuf,
    /// What happens to a repeated key.
    pub(crate) repeats: Repeats,
}

/// The running service.
#[derive(Debug)]
pub(crate) struct Payments {
    /// Where it listens.
    pub(crate) addr: std::net::SocketAddr,
    part: Part,
    owner: Owner,
}

#[derive(Clone)]
struct Service {
    ledger: Ledger,
    repeats: Repeats,
}

#[derive(Deserialize)]
struct Order {
    amount: u64,
    reference: String,
}

#[derive(Deserialize)]
struct Filter {
    reference: Option<String>,
}

impl Payments {
    /// Opens the ledger and serves where it listens.
    ///
    /// # Errors
    /// [`DemoError::OpenLedger`].
    pub(crate) async fn start(
        Listening { listener, addr }: Listening,
        options: PaymentsOptions,
    ) -> Result<Self, DemoError> {
        let (ledger, owner) = Ledger::open(&options.data).await?;
        let router = router(Service { ledger, repeats: options.repeats });
        let part = Part::spawn(addr, |stop| async move {
            // Accepting goes on through errors; serving ends only when told to.
            let _ =
                axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
        });
        Ok(Self { addr, part, owner })
    }

    /// Answers what is under way, and closes the ledger.
    pub(crate) async fn stop(self) {
        self.part.stop().await;
        // A connection that outlives the grace keeps the file open until the
        // process ends; every payment that was answered is on the disk already.
        let _ = tokio::time::timeout(GRACE, self.owner.closed()).await;
    }
}

impl IntoResponse for LedgerError {
    fn into_response(self) -> Response {
        (StatusCode::INTERNAL_SERVER_ERROR, self.to_string()).into_response()
    }
}

fn router(service: Service) -> Router {
    let collection = get(list).post(pay).delete(clear);
    Router::new()
        .route("/payments/", collection.clone())
        .route("/payments", collection)
        .route("/payments/{id}", get(show))
        .route("/stats", get(stats))
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(|| async { "ok" }))
        .layer(map_response(hang_up))
        .with_state(service)
}

async fn pay(
    State(Service { ledger, repeats }): State<Service>,
    headers: HeaderMap,
    Json(Order { amount, reference }): Json<Order>,
) -> Result<Response, LedgerError> {
    let key = headers
        .get("idempotency-key")
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let (status, id) = match ledger.add(Payment { amount, reference, key, repeats }).await? {
        Added::New(id) => (StatusCode::CREATED, id),
        Added::Known(id) => (StatusCode::ALREADY_REPORTED, id),
    };
    let location = [(header::LOCATION, format!("/payments/{id}"))];
    Ok((status, location, Json(json!({ "id": id }))).into_response())
}

async fn list(
    State(Service { ledger, .. }): State<Service>,
    Query(Filter { reference }): Query<Filter>,
) -> Result<Response, LedgerError> {
    let Some(reference) = reference else {
        return Ok(Json(ledger.rows().await?).into_response());
    };
    let rows = ledger.find(reference).await?;
    let status = if rows.is_empty() { StatusCode::NOT_FOUND } else { StatusCode::OK };
    Ok((status, Json(rows)).into_response())
}

async fn show(
    State(Service { ledger, .. }): State<Service>,
    Path(id): Path<u64>,
) -> Result<Response, LedgerError> {
    Ok(match ledger.get(id).await? {
        Some(row) => Json(row).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    })
}

async fn clear(State(Service { ledger, .. }): State<Service>) -> Result<StatusCode, LedgerError> {
    ledger.clear().await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn stats(State(Service { ledger, .. }): State<Service>) -> Result<Response, LedgerError> {
    Ok(Json(ledger.totals().await?).into_response())
}

/// Every request travels on a connection of its own, so that the link decides
/// about each one, whatever pool is in front of it.
async fn hang_up(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

#[cfg(test)]
#[path = "payments_tests.rs"]
mod tests;
