//! The end of a gate: what runs is finished, the rest is told so.
//!
//! 1. No new claims and no new connections. A connection that waits for its next request is
//!    closed at once; one that has an exchange, keyed or not, is closed after it.
//! 2. Keyed exchanges are finished and recorded within `server.drain`; what is left of them
//!    then becomes unknown. Exchanges without a key have the same time, and their answers a
//!    moment more ([`FAREWELL`]).
//! 3. A tunnel is nothing that ends by itself, so it holds nothing up: it goes on for as long
//!    as anything else does. Then both of its sides are closed in order.
//! 4. Somebody who does not want to wait ends all this at once.

use std::{future::pending, time::Duration};

use tokio::time::sleep;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::tunnel::Tunnels;
use crate::{
    Gate,
    closing::Closing,
    mutants::{Mutant, is_active},
};

/// How long what has ended may take to be told to those who wait for it.
const FAREWELL: Duration = Duration::from_secs(2);

/// What there is to be ended.
#[derive(Debug)]
pub(super) struct Drain {
    pub(super) gate: Gate,
    pub(super) connections: TaskTracker,
    pub(super) tunnels: Tunnels,
    pub(super) closing: Closing,
    /// `server.drain`.
    pub(super) limit: Duration,
}

impl Drain {
    /// Ends it, within the limit or until `cut`. Returns how many exchanges were given up.
    pub(super) async fn run(self, cut: impl Future<Output = ()>) -> usize {
        self.gate.close();
        self.closing.begin();
        self.connections.close();
        let over = CancellationToken::new();
        let time = async {
            let limit = if is_active(Mutant::NoDrain) { Duration::ZERO } else { self.limit };
            tokio::select! {
                () = sleep(limit) => {}
                () = cut => tracing::warn!("told to stop at once"),
            }
            over.cancel();
            pending().await
        };
        tokio::select! {
            given_up = self.finish(&over) => given_up,
            never = time => never,
        }
    }

    async fn finish(&self, over: &CancellationToken) -> usize {
        let given_up = self.gate.drain_until(over.cancelled()).await;
        let farewell = FAREWELL.min(self.limit);
        // Answers of finished exchanges still have to reach their clients.
        let time = async { tokio::join!(over.cancelled(), sleep(farewell)) };
        tokio::select! {
            biased;
            () = self.connections.wait() => {}
            ((), ()) = time => tracing::warn!(
                left = self.connections.len(),
                "connections were cut at the end of the shutdown"
            ),
        }
        self.tunnels.end(farewell).await;
        given_up
    }
}
