//! What a claim holds, and all that it writes.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    engine::{
        policy::Policy,
        record::{Done, Fence, Pending, Reason, Record, Recorded, StoreKey, Timestamp, Unknown},
    },
    layer::{
        gate::Gate,
        waiters::{Lead, Moment, View},
    },
    mutants::{Mutant, is_active},
    store::{StoreError, Write},
};

/// The first pause between two attempts to settle; doubles up to [`MAX_PAUSE`].
const MIN_PAUSE: Duration = Duration::from_millis(20);
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// A claim's own things.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) gate: Gate,
    pub(super) policy: Arc<Policy>,
    pub(super) key: StoreKey,
    /// `None` once it was given up: others may look for themselves.
    pub(super) lead: Option<Lead>,
    pub(super) pending: Pending,
    /// An unknown outcome that was taken over. If this dispatch was not executed,
    /// that is what is still true.
    pub(super) before: Option<(Timestamp, Reason)>,
    pub(super) revision: AtomicU32,
    /// When the claim or its last renewal was asked for.
    pub(super) asked: Instant,
}

/// The end of a claim.
#[derive(Clone, Debug)]
pub(crate) enum Ending {
    /// Executed.
    Done(Recorded),
    /// Nobody knows.
    Unknown(Reason),
    /// Not executed.
    Released,
}

/// How the store took the end of a claim.
#[derive(Debug)]
pub(crate) enum Settled {
    /// It is there.
    Now,
    /// The store does not answer; a task goes on trying.
    Later,
    /// Somebody else has taken the key over.
    Fenced,
}

impl Held {
    /// The fence of this owner's next write.
    fn next_fence(&self) -> Fence {
        let revision = self.revision.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        Fence { token: self.pending.fence.token, revision }
    }

    /// The record that an ending at `now` leaves; `None` is absence.
    pub(super) fn record(&self, ending: Ending, now: Timestamp) -> Option<Record> {
        let fence = self.next_fence();
        let Pending { fingerprint, ref node, started, .. } = self.pending;
        let unknown = |(since, reason)| {
            let node = Arc::clone(node);
            Record::Unknown(Unknown { fence, fingerprint, node, started, since, reason })
        };
        match ending {
            Ending::Released => self.before.map(unknown),
            Ending::Unknown(reason) => Some(unknown((now, reason))),
            Ending::Done(response) => Some(Record::Done(Arc::new(Done {
                fence,
                fingerprint,
                completed: now,
                retained_until: now.after(self.policy.retention),
                response,
            }))),
        }
    }

    pub(super) async fn write(&self, record: &Option<Record>) -> Result<Write, StoreError> {
        let (store, key) = (self.gate.store(), &self.key);
        match record {
            None => {
                let revision = self.revision.load(Ordering::Relaxed);
                store.remove(key, Fence { token: self.pending.fence.token, revision }).await
            }
            Some(record) => {
                let keep = match record {
                    Record::Done(_) => self.policy.keep_done(),
                    Record::Pending(_) | Record::Unknown(_) | Record::Expired(_) => {
                        self.policy.keep_open()
                    }
                };
                let mut expect = record.fence();
                if is_active(Mutant::CompleteWithoutToken)
                    && let Some(held) = store.get(key).await?
                {
                    expect = held.fence();
                }
                store.swap(key, expect, record, keep).await
            }
        }
    }

    pub(super) async fn renew(&self) -> Result<Write, StoreError> {
        let mut pending = self.pending.clone();
        pending.fence = self.next_fence();
        pending.lease_until = self.gate.now().after(self.policy.lease);
        self.write(&Some(Record::Pending(pending))).await
    }

    /// Renews until it is `late`, with one timer for both. A store that does not answer
    /// is asked again: the lease is about liveness, never about safety.
    pub(super) async fn renew_until(&self, late: Instant) {
        let mut pause = self.policy.lease / 3;
        let mut renews = self.lead.is_some() && !is_active(Mutant::NoRenewal);
        loop {
            let next = if renews { late.min(Instant::now() + pause) } else { late };
            tokio::time::sleep_until(next).await;
            if Instant::now() >= late {
                return;
            }
            let Ok(renewal) = tokio::time::timeout_at(late, self.renew()).await else { return };
            match renewal {
                Ok(Write::Applied) => pause = self.policy.lease / 3,
                Ok(Write::Fenced) => {
                    tracing::warn!(key = %self.key, "the claim was taken over while its request ran");
                    renews = false;
                }
                Err(error) => {
                    tracing::warn!(key = %self.key, %error, "a lease was not renewed; trying again");
                    pause = (self.policy.lease / 12).min(MAX_PAUSE);
                }
            }
        }
    }

    pub(super) fn settled(self: Box<Self>, record: Option<Record>, asked: Moment) -> Settled {
        if let Some(Record::Done(done)) = &record {
            self.gate.cache().insert(self.key, Arc::clone(done));
        }
        // Without a last view the followers look anew: the key is free.
        if let (Some(record), Some(lead)) = (record, self.lead) {
            lead.finish(View::Seen(record, asked));
        }
        Settled::Now
    }

    pub(super) fn fenced(&self) -> Settled {
        tracing::warn!(key = %self.key, "the end of a claim came too late; the key was taken over");
        Settled::Fenced
    }

    /// Goes on trying until the lease would have passed, or the gate gives up.
    pub(super) async fn settle_later(self: Box<Self>, record: Option<Record>) {
        let until = Instant::now() + self.policy.lease;
        let mut pause = MIN_PAUSE;
        loop {
            let asked = self.gate.moment();
            match self.write(&record).await {
                Ok(Write::Applied) => {
                    tracing::info!(key = %self.key, "the end of a claim was recorded late");
                    self.settled(record, asked);
                    return;
                }
                Ok(Write::Fenced) => {
                    self.fenced();
                    return;
                }
                Err(error) if Instant::now() + pause >= until => {
                    tracing::error!(key = %self.key, %error, "the end of a claim could not be recorded; its outcome counts as unknown");
                    return;
                }
                Err(_) => {}
            }
            let abandoned = pin!(self.gate.abandoned());
            if tokio::time::timeout(pause, abandoned).await.is_ok() {
                // One last attempt at shutdown, then the lease tells.
                let _ = self.write(&record).await;
                return;
            }
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }
}

/// Takes back a claim of which nobody knows whether the store has it. Nothing was
/// sent, so the key is free again as soon as the store can be reached.
pub(crate) async fn take_back(gate: &Gate, key: &StoreKey, fence: Fence, lease: Duration) {
    let until = Instant::now() + lease;
    let mut pause = MIN_PAUSE;
    while Instant::now() < until {
        if gate.store().remove(key, fence).await.is_ok() {
            return;
        }
        let abandoned = pin!(gate.abandoned());
        if tokio::time::timeout(pause, abandoned).await.is_ok() {
            return;
        }
        pause = (pause * 2).min(MAX_PAUSE);
    }
}
