//! Waiting for an owner in another process: one poll per key, for all who wait.

use std::time::Duration;

use super::{
    gate::Gate,
    waiters::{Lead, View},
};
use crate::engine::record::Record;

const MIN_PAUSE: Duration = Duration::from_millis(10);
const MAX_PAUSE: Duration = Duration::from_millis(250);

/// Shows what the store holds until the key is no longer pending, nobody watches,
/// or the gate stops.
pub(super) async fn poll(gate: Gate, lead: Lead) {
    let mut pause = MIN_PAUSE;
    while lead.is_watched() {
        tokio::select! {
            biased;
            () = gate.closed() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(MAX_PAUSE);
        // A slow reply says nothing about the time after its question.
        let asked = gate.moment();
        match gate.store().get(lead.key()).await {
            // Released: who waits may lead.
            Ok(None) => return,
            Ok(Some(record)) => {
                let owned = matches!(&record, Record::Pending(pending) if asked.wall <= pending.lease_until);
                if !owned {
                    if let Record::Done(done) = &record {
                        gate.cache().insert(*lead.key(), done.clone());
                    }
                    return lead.finish(View::Seen(record, asked));
                }
                lead.show(View::Seen(record, asked));
            }
            Err(error) => {
                tracing::warn!(key = %lead.key(), %error, "the store did not answer while a duplicate waits");
            }
        }
    }
}
