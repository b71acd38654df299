//! Asking the store, all the time, whether it can still keep its promise.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::Gate;

/// How long a store may have been unfit, or without its data, before a gate that
/// nobody asks knows of it.
const INTERVAL: Duration = Duration::from_secs(1);

/// Asks until `stop`. The store itself remembers what it finds, and logs it.
pub(super) async fn watch(gate: Gate, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_some() {
        if let Err(error) = gate.store().ping().await {
            tracing::debug!(%error, "the store is not ready");
        }
    }
}
