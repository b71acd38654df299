//! What a claim holds, and all that it writes.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::Standing;
use crate::{
    engine::{
        decision::Because,
        policy::{Keep, OnUnknown, Policy},
        record::{
            Done, Fence, Pending, Reason, Record, Recorded, StoreKey, Timestamp, Tombstone, Unknown,
        },
    },
    layer::{
        FOREVER,
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
    /// `None` once others may look for themselves, since the store has what they are to see.
    pub(super) lead: Mutex<Option<Lead>>,
    pub(super) pending: Pending,
    /// Why the key was taken over, if it was: if this dispatch was not executed, what
    /// was true before is still true.
    pub(super) because: Option<Because>,
    /// Since when the outcome is unknown to everybody, and why.
    pub(super) given_up: Option<(Timestamp, Reason)>,
    pub(super) revision: AtomicU32,
    pub(super) standing: Standing,
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
    pub(super) fn new(
        gate: &Gate,
        policy: Arc<Policy>,
        key: StoreKey,
        lead: Option<Lead>,
        pending: Pending,
        asked: Moment,
    ) -> Self {
        Self {
            gate: gate.clone(),
            key,
            lead: Mutex::new(lead),
            revision: AtomicU32::new(pending.fence.revision),
            pending,
            because: None,
            given_up: None,
            standing: Standing::new(gate, asked, policy.lease),
            policy,
        }
    }

    /// The fence of this owner's next write.
    fn next_fence(&self) -> Fence {
        let revision = self.revision.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        Fence { token: self.pending.fence.token, revision }
    }

    /// Tells those who watch the gate. The client may be gone, and learn nothing.
    pub(super) fn tell(&self, reason: Reason) {
        tracing::warn!(key = %self.key, reason = reason.as_str(), "an outcome is unknown");
        self.gate.became_unknown(reason);
    }

    /// The record that an ending at `now` leaves; `None` is absence.
    pub(super) fn record(&self, ending: Ending, now: Timestamp) -> Option<Record> {
        let fence = self.next_fence();
        let Pending { fingerprint, ref node, started, .. } = self.pending;
        let unknown = |since, reason| {
            let node = Arc::clone(node);
            Record::Unknown(Unknown { fence, fingerprint, node, started, since, reason })
        };
        match ending {
            Ending::Released if is_active(Mutant::ForgetFirstOutcome) => None,
            Ending::Released => match self.because {
                Some(Because::Retry { since, reason }) => Some(unknown(since, reason)),
                Some(Because::LateRetry { completed }) => {
                    Some(Record::Expired(Tombstone { fence, fingerprint, completed }))
                }
                Some(Because::NotExecuted) | None => None,
            },
            Ending::Unknown(reason) => Some(unknown(now, reason)),
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
                    Record::Pending(_) | Record::Unknown(_) => self.policy.keep_open(),
                    Record::Expired(_) => Keep { record: self.policy.tombstone, response: None },
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

    /// Says once more what is true: that the owner is at work, or, once he has given up,
    /// that the outcome is unknown and his request still on its way. A lookup goes by the
    /// age of the last word.
    pub(super) async fn renew(&self) -> Result<Write, StoreError> {
        let record = match self.given_up {
            Some((since, reason)) => self.record(Ending::Unknown(reason), since),
            None => {
                let fence = self.next_fence();
                let lease_until = self.gate.now().after(self.policy.lease);
                Some(Record::Pending(Pending { fence, lease_until, ..self.pending.clone() }))
            }
        };
        self.write(&record).await
    }

    /// Renews until it is `late`, with one timer for both. A store that does not answer
    /// is asked again: the lease is about liveness, never about safety.
    pub(super) async fn renew_until(&self, late: Instant) {
        let usual = self.between_renewals();
        let mut pause = usual;
        let mut renews = match self.given_up {
            Some(_) => !is_active(Mutant::LetUnknownAge),
            None => !is_active(Mutant::NoRenewal),
        };
        loop {
            let next = if renews { late.min(Instant::now() + pause.min(FOREVER)) } else { late };
            tokio::time::sleep_until(next).await;
            if Instant::now() >= late {
                return;
            }
            let asked = self.gate.moment();
            let Ok(renewal) = tokio::time::timeout_at(late, self.renew()).await else { return };
            self.learn(&renewal, asked);
            match renewal {
                Ok(Write::Applied) => pause = usual,
                Ok(Write::Fenced) => {
                    tracing::warn!(key = %self.key, "the claim was taken over while its owner was at work");
                    renews = false;
                }
                Err(error) => {
                    tracing::warn!(key = %self.key, %error, "a lease was not renewed; trying again");
                    pause = (usual / 4).min(MAX_PAUSE);
                }
            }
        }
    }

    /// Takes note of what the store says to a word that was `asked` for then.
    pub(super) fn learn(&self, renewal: &Result<Write, StoreError>, asked: Moment) {
        match renewal {
            Ok(Write::Applied) => self.standing.spoke(asked),
            Ok(Write::Fenced) => self.standing.lose(),
            Err(_) => return,
        }
        // What the store knows of an outcome that is unknown, others may see for themselves.
        if self.given_up.is_some() {
            drop(self.take_lead());
        }
    }

    /// Tells those who follow, if anybody may.
    pub(super) fn show(&self, view: View) {
        if let Some(lead) = &*self.leading() {
            lead.show(view);
        }
    }

    pub(super) fn take_lead(&self) -> Option<Lead> {
        self.leading().take()
    }

    fn leading(&self) -> MutexGuard<'_, Option<Lead>> {
        // Nothing that runs under the lock can leave it half done.
        self.lead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An unknown outcome must not grow as old as the quiescence while it is waited for.
    fn between_renewals(&self) -> Duration {
        let limit = match &self.policy.on_unknown {
            OnUnknown::Reconcile(reconcile) if self.given_up.is_some() => {
                self.policy.lease.min(reconcile.quiescence)
            }
            _ => self.policy.lease,
        };
        (limit / 3).max(MIN_PAUSE)
    }

    pub(super) fn settled(self: Box<Self>, record: Option<Record>, asked: Moment) -> Settled {
        if let Some(Record::Done(done)) = &record {
            self.gate.cache().insert(self.key, Arc::clone(done));
        }
        // Without a last view the followers look anew: the key is free.
        if let (Some(record), Some(lead)) = (record, self.take_lead()) {
            lead.finish(View::Seen(record, asked));
        }
        Settled::Now
    }

    pub(super) fn fenced(&self) -> Settled {
        tracing::warn!(key = %self.key, "the end of a claim came too late; somebody else has the key");
        Settled::Fenced
    }

    /// Goes on trying to settle until the lease would have passed, or the gate gives up.
    pub(super) async fn settle_later(self: Box<Self>, record: Option<Record>) {
        match self.insist(&record).await {
            Ok((Write::Applied, asked)) => {
                tracing::info!(key = %self.key, "the end of a claim was recorded late");
                self.settled(record, asked);
            }
            Ok((Write::Fenced, _)) => drop(self.fenced()),
            Err(error) => {
                tracing::error!(key = %self.key, %error, "the end of a claim could not be recorded; its outcome counts as unknown");
                // Where it was unknown before, that was told.
                if self.given_up.is_none() && !matches!(record, Some(Record::Unknown(_))) {
                    self.tell(Reason::StoreLost);
                }
            }
        }
    }

    /// Writes until the store takes it, for as long as a lease or until the gate gives up.
    async fn insist(&self, record: &Option<Record>) -> Result<(Write, Moment), StoreError> {
        let until = Instant::now() + self.policy.lease.min(FOREVER);
        let mut pause = MIN_PAUSE;
        let mut is_last = false;
        loop {
            let asked = self.gate.moment();
            match self.write(record).await {
                Ok(write) => return Ok((write, asked)),
                Err(error) if is_last || Instant::now() + pause >= until => return Err(error),
                Err(_) => {}
            }
            // One last attempt at shutdown, then the lease tells.
            is_last = tokio::time::timeout(pause, self.gate.abandoned()).await.is_ok();
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }
}

/// Ends a claim of which nobody knows whether the store has it, as soon as the store can be
/// reached and it is known how. It may be what was to take over another one, because of something.
/// As long as `work` lasts the request may be on its way, and the store hears so, if it has it.
pub(crate) async fn take_back(
    gate: &Gate,
    policy: Arc<Policy>,
    key: StoreKey,
    (pending, because): (Pending, Option<Because>),
    work: impl Future<Output = Ending>,
) {
    let now = gate.moment();
    let mut held = Held::new(gate, policy, key, None, pending, now);
    held.because = because;
    held.given_up = Some((now.wall, Reason::StoreLost));
    let ending = {
        let mut work = pin!(work);
        tokio::select! {
            biased;
            ending = &mut work => ending,
            () = held.renew_until(Instant::now() + FOREVER) => work.await,
        }
    };
    let unknown = match ending {
        Ending::Unknown(reason) => Some(reason),
        Ending::Done(_) | Ending::Released => None,
    };
    let record = held.record(ending, gate.now());
    let taken_back = held.insist(&record).await.map(|(write, _)| write);
    if let (Some(reason), Ok(Write::Applied)) = (unknown, &taken_back) {
        held.tell(reason);
    }
    tracing::debug!(key = %held.key, ?taken_back, "a claim that the store may have");
}
