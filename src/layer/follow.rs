//! Watching a leader, with patience.

use std::{future::Future, time::Duration};

use tokio::{sync::watch, time::Instant};

use super::{
    FOREVER,
    answer::Voice,
    gate::Gate,
    waiters::{Down, View},
};
use crate::{
    engine::{
        decision::{Decision, Refusal, Replay, decide},
        fingerprint::Fingerprint,
        policy::OnConflict,
    },
    mutants::{Mutant, is_active},
};

/// What a follower saw.
pub(super) enum Seen {
    /// The recorded response.
    Replay(Replay),
    /// A reason to refuse.
    Refuse(Refusal),
    /// The place is free: look anew.
    Again,
    /// The store did not answer the leader, or refused.
    StoreDown(Down),
}

/// Watches the leader until there is something to say to a request that came `since`.
pub(super) async fn follow(
    gate: &Gate,
    voice: &Voice,
    print: Fingerprint,
    since: Instant,
    view: &mut watch::Receiver<View>,
    patience: &mut Patience,
) -> Seen {
    loop {
        let mut unless_it_changes = Refusal::KeyInUse;
        let seen = view.borrow_and_update().clone();
        let was_asked = matches!(seen, View::Asked(..)) && !is_active(Mutant::AskForEach);
        let (record, now, is_older) = match seen {
            View::StoreDown(down) => return Seen::StoreDown(down),
            View::Looking => (None, gate.now(), false),
            View::Seen(record, asked) | View::Asked(record, asked) => {
                (Some(record), asked.wall, asked.at < since)
            }
            View::Owned(record) => (Some(record), gate.now(), false),
        };
        let decision = record.map(|record| decide(&record, print, &voice.policy, now));
        let waits = match decision {
            None => false,
            Some(Decision::Wait) => true,
            // One lookup answers all who came before it: each of their own would make
            // the last of them wait for all.
            Some(Decision::Reconcile(_, refusal)) if was_asked && !is_older => {
                return Seen::Refuse(refusal);
            }
            // Only a leader acts on these, and there is one: his end frees the place.
            Some(Decision::TakeOver(..) | Decision::Reconcile(..)) => false,
            // These may have changed since the leader asked, and this request may come
            // from somebody who has seen an answer since.
            Some(Decision::Refuse(
                refusal @ (Refusal::OutcomeUnknown { .. } | Refusal::KeyReused),
            )) if is_older => {
                unless_it_changes = refusal;
                true
            }
            Some(Decision::Replay(replay)) => return Seen::Replay(replay),
            Some(Decision::Refuse(refusal)) => return Seen::Refuse(refusal),
        };
        let change = view.changed();
        let change = if waits { patience.wait(change).await } else { Some(change.await) };
        match change {
            None => return Seen::Refuse(unless_it_changes),
            Some(Err(_)) => return Seen::Again,
            Some(Ok(())) => {}
        }
    }
}

/// How long a duplicate still waits for an owner.
pub(super) struct Patience {
    limit: Duration,
    until: Option<Instant>,
    pub(super) waited: bool,
}

impl Patience {
    pub(super) fn new(on_conflict: OnConflict) -> Self {
        let limit = match on_conflict {
            OnConflict::Wait(limit) => limit.min(FOREVER),
            OnConflict::Reject => Duration::ZERO,
        };
        Self { limit, until: None, waited: false }
    }

    /// Waits for `change`; `None` when the patience is at its end.
    async fn wait<F: Future>(&mut self, change: F) -> Option<F::Output> {
        self.waited = true;
        let until = *self.until.get_or_insert_with(|| Instant::now() + self.limit);
        tokio::time::timeout_at(until, change).await.ok()
    }
}
