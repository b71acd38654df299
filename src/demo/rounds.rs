//! The rounds, as data, and how one is played.

use std::{sync::Arc, time::Duration};

use http::{Method, StatusCode};

use super::{
    console::Progress,
    error::DemoError,
    http::{Reply, call, request},
    ledger::Row,
    promise::{Figures, Promise},
    storm::{AfterUnknown, Plan, Retries, storm},
};

/// How long a reading or an emptying of the ledger may take.
const LEDGER_PATIENCE: Duration = Duration::from_secs(30);

/// One round of the story.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    /// Its place in the story.
    pub(crate) number: &'static str,
    /// Its name in the table.
    pub(crate) name: &'static str,
    /// The way of a payment.
    pub(crate) path: Path,
    /// What a client does about trouble.
    pub(crate) retries: Retries,
    /// What must come out.
    pub(crate) promise: Promise,
}

/// The way of a payment from the client to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// Client, link, service.
    Direct,
    /// Client, link, gate, service.
    GateBehindLink,
    /// Client, gate under `hold`, link, service.
    HoldBeforeLink,
    /// Client, gate under `retry`, link, a service that answers 208 to duplicates.
    RetryBeforeLink,
    /// Client, gate under `reconcile`, link, service.
    ReconcileBeforeLink,
}

/// The whole story.
pub(crate) const ROUNDS: [Round; 6] = [
    Round {
        number: "1",
        name: "no retries (at most once)",
        path: Path::Direct,
        retries: Retries::Never,
        promise: Promise::Less,
    },
    Round {
        number: "2",
        name: "retries (at least once)",
        path: Path::Direct,
        retries: Retries::WithoutKey,
        promise: Promise::More,
    },
    Round {
        number: "3",
        name: "retries + keys, gate behind the link",
        path: Path::GateBehindLink,
        retries: Retries::WithKey(AfterUnknown::Stop),
        promise: Promise::Exactly,
    },
    Round {
        number: "4a",
        name: "gate in front of the link: hold",
        path: Path::HoldBeforeLink,
        retries: Retries::WithKey(AfterUnknown::Stop),
        promise: Promise::NothingHidden,
    },
    Round {
        number: "4b",
        name: "gate in front of the link: retry (208)",
        path: Path::RetryBeforeLink,
        retries: Retries::WithKey(AfterUnknown::Retry),
        promise: Promise::Exactly,
    },
    Round {
        number: "4c",
        name: "gate in front of the link: reconcile",
        path: Path::ReconcileBeforeLink,
        retries: Retries::WithKey(AfterUnknown::Retry),
        promise: Promise::Exactly,
    },
];

/// What all rounds have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Payments of one euro.
    pub(crate) payments: u64,
    /// How many at once.
    pub(crate) concurrency: usize,
    /// After so many attempts a client gives up.
    pub(crate) attempts: u32,
    /// How long one attempt may take.
    pub(crate) patience: Duration,
}

/// A round that was played.
#[derive(Clone, Debug)]
pub(crate) struct Played {
    /// Which.
    pub(crate) round: Round,
    /// What came out.
    pub(crate) figures: Figures,
}

impl Path {
    /// The stations behind the client.
    pub(crate) const fn stations(self) -> &'static str {
        match self {
            Self::Direct => "link → payments",
            Self::GateBehindLink => "link → gate → payments",
            Self::HoldBeforeLink | Self::RetryBeforeLink | Self::ReconcileBeforeLink => {
                "gate → link → payments"
            }
        }
    }
}

impl Round {
    /// Empties the ledger at `ledger`, pays to `target`, reads the ledger.
    ///
    /// # Errors
    /// When the ledger cannot be emptied or read.
    pub(crate) async fn play(
        self,
        target: &str,
        ledger: &str,
        settings: Settings,
    ) -> Result<Played, DemoError> {
        let Settings { payments, concurrency, attempts, patience } = settings;
        empty(ledger).await?;
        let plan = Plan {
            target: target.to_owned(),
            payments,
            concurrency,
            retries: self.retries,
            attempts,
            patience,
        };
        let tally = storm(plan, Arc::new(Progress::new(self.name, payments))).await;
        let rows = rows(ledger).await?;
        Ok(Played { round: self, figures: Figures::of(&tally, &rows) })
    }
}

/// Empties the ledger of the service at `peer`.
///
/// # Errors
/// [`DemoError::Service`].
pub(crate) async fn empty(peer: &str) -> Result<(), DemoError> {
    let doing = "be emptied";
    ask(peer, doing, Method::DELETE, "/payments/", StatusCode::NO_CONTENT).await.map(drop)
}

/// Everything that the service at `peer` has executed.
///
/// # Errors
/// [`DemoError::Service`].
pub(crate) async fn rows(peer: &str) -> Result<Vec<Row>, DemoError> {
    let doing = "be read";
    let reply = ask(peer, doing, Method::GET, "/payments/", StatusCode::OK).await?;
    serde_json::from_slice(&reply.body).map_err(|error| DemoError::Service {
        peer: peer.to_owned(),
        doing,
        reason: error.to_string(),
    })
}

async fn ask(
    peer: &str,
    doing: &'static str,
    method: Method,
    path: &'static str,
    expected: StatusCode,
) -> Result<Reply, DemoError> {
    let failed = |reason| DemoError::Service { peer: peer.to_owned(), doing, reason };
    let reply = call(peer, request(method, path, ""), LEDGER_PATIENCE)
        .await
        .map_err(|error| failed(error.to_string()))?;
    if reply.status != expected {
        return Err(failed(format!("it answered {}", reply.status)));
    }
    Ok(reply)
}
