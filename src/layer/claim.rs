//! Holding a claim is holding a value.
//!
//! 1. A claim renews its lease while its work runs ([`Claim::hold`]).
//! 2. It ends in exactly one way: [`Claim::settle`]. If the store does not take
//!    the ending, a tracked task goes on trying for as long as a lease.
//! 3. Until then it may be given up ([`Claim::give_up`]): the outcome is unknown to
//!    everybody, and a late result of the same owner still settles it.
//! 4. Dropping it unsettled (a panic) gives it up for good.
//!
//! Nothing else changes a record after its claim.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{
    gate::Gate,
    waiters::{Lead, Moment, View},
};
use crate::{
    engine::{
        decision::Because,
        fingerprint::Fingerprint,
        policy::Policy,
        record::{
            Done, Fence, Pending, Reason, Record, Recorded, StoreKey, Timestamp, Token, Unknown,
        },
    },
    mutants::{Mutant, is_active},
    store::{StoreError, Write},
};

/// The first pause between two attempts to settle; doubles up to [`MAX_PAUSE`].
const MIN_PAUSE: Duration = Duration::from_millis(20);
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// A claim that the store has acknowledged.
#[derive(Debug)]
pub(crate) struct Claim {
    /// `None` once settled.
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    gate: Gate,
    policy: Arc<Policy>,
    key: StoreKey,
    /// `None` once it was given up: others may look for themselves.
    lead: Option<Lead>,
    pending: Pending,
    /// An unknown outcome that was taken over. If this dispatch was not executed,
    /// that is what is still true.
    before: Option<(Timestamp, Reason)>,
    revision: AtomicU32,
    /// When the claim or its last renewal was asked for.
    asked: Instant,
}

/// The end of a claim.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "one lives at a time, for a moment")]
pub(crate) enum Ending {
    /// Executed.
    Done(Recorded),
    /// Nobody knows.
    Unknown(Reason),
    /// Not executed.
    Released,
}

/// How work under a claim ended.
#[derive(Debug)]
pub(crate) enum End<T> {
    /// By itself.
    Done(T),
    /// It took longer than it may.
    Late,
    /// The gate was told to give up.
    Abandoned,
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

/// The record of a claim that is made at `started`.
pub(crate) fn intent(
    gate: &Gate,
    policy: &Policy,
    fingerprint: Fingerprint,
    token: Token,
    started: Timestamp,
) -> Pending {
    Pending {
        fence: Fence::new(token),
        fingerprint,
        node: gate.node(),
        started,
        lease_until: started.after(policy.lease),
    }
}

impl Claim {
    /// Takes hold of what the store acknowledged. Duplicates in this process see
    /// a lease that does not pass: its owner is right here.
    pub(crate) fn new(
        gate: &Gate,
        policy: Arc<Policy>,
        lead: Lead,
        pending: Pending,
        asked: Instant,
    ) -> Self {
        let local = Pending { lease_until: Timestamp(u64::MAX), ..pending.clone() };
        lead.show(View::Owned(Record::Pending(local)));
        let revision = AtomicU32::new(pending.fence.revision);
        let (gate, key, lead) = (gate.clone(), *lead.key(), Some(lead));
        let held = Held { gate, policy, key, lead, pending, before: None, revision, asked };
        Self { held: Some(held) }
    }

    /// The same for a key that was taken over.
    pub(crate) fn instead_of(mut self, because: Because) -> Self {
        if let (Because::Retry { since, reason }, Some(held)) = (because, &mut self.held) {
            held.before = Some((since, reason));
        }
        self
    }

    /// Runs `work` for as long as `patience` lasts, and renews the lease every third of it.
    pub(crate) async fn hold<F: Future>(&self, work: F, patience: Duration) -> End<F::Output> {
        let held = self.held();
        let mut work = pin!(work);
        let mut abandoned = pin!(held.gate.abandoned());
        let mut late = pin!(held.renew_until(Instant::now().checked_add(patience)));
        tokio::select! {
            biased;
            output = &mut work => End::Done(output),
            () = &mut abandoned => End::Abandoned,
            () = &mut late => End::Late,
        }
    }

    /// Makes sure that the lease still runs before the first byte leaves: a
    /// process that was paused after its claim asks again.
    pub(crate) async fn is_current(&self) -> bool {
        let held = self.held();
        if held.asked.elapsed() < held.policy.lease || is_active(Mutant::SendWithoutLooking) {
            return true;
        }
        matches!(held.renew().await, Ok(Write::Applied))
    }

    /// Tells everybody that the outcome is unknown, and keeps the right to settle it.
    pub(crate) async fn give_up(&mut self, reason: Reason) {
        let Some(held) = &mut self.held else { return };
        let asked = held.gate.moment();
        let record = held.record(Ending::Unknown(reason), asked.wall);
        // Without its lead the claim is not renewed either.
        let lead = held.lead.take();
        match (held.write(&record).await, lead, record) {
            (Ok(Write::Applied), Some(lead), Some(record)) => {
                lead.finish(View::Seen(record, asked));
            }
            (Ok(_), ..) => {}
            (Err(error), ..) => {
                // The lease says the same a little later.
                tracing::warn!(key = %held.key, %error, "an unknown outcome was not recorded");
            }
        }
    }

    /// Ends the claim.
    pub(crate) async fn settle(mut self, ending: Ending) -> Settled {
        let Some(mut held) = self.held.take() else { return Settled::Fenced };
        if held.lead.is_none() && matches!(ending, Ending::Unknown(_)) {
            // It was given up, and nothing has come since.
            return Settled::Now;
        }
        let asked = held.gate.moment();
        let record = held.record(ending, asked.wall);
        if let (None, Some(lead)) = (&record, &held.lead) {
            // Who lets go of a key has no say about it any more.
            lead.show(View::Looking);
        }
        match held.write(&record).await {
            Ok(Write::Applied) => held.settled(record, asked),
            Ok(Write::Fenced) => held.fenced(),
            Err(_) if is_active(Mutant::GiveUpRecording) => Settled::Later,
            Err(error) => {
                tracing::warn!(key = %held.key, %error, "the end of a claim was not recorded; trying again in the background");
                if record.is_none() {
                    held.lead = None;
                }
                let gate = held.gate.clone();
                gate.spawn(held.settle_later(record));
                Settled::Later
            }
        }
    }

    fn held(&self) -> &Held {
        self.held.as_ref().expect("only `settle` takes it, and `settle` consumes the claim")
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(held) = self.held.take().filter(|held| held.lead.is_some()) {
            tracing::error!(key = %held.key, "an exchange ended without a word; its outcome is unknown");
            let gate = held.gate.clone();
            let record = held.record(Ending::Unknown(Reason::OwnerLost), gate.now());
            gate.spawn(held.settle_later(record));
        }
    }
}

impl Held {
    /// The fence of this owner's next write.
    fn next_fence(&self) -> Fence {
        let revision = self.revision.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        Fence { token: self.pending.fence.token, revision }
    }

    /// The record that an ending at `now` leaves; `None` is absence.
    fn record(&self, ending: Ending, now: Timestamp) -> Option<Record> {
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

    async fn write(&self, record: &Option<Record>) -> Result<Write, StoreError> {
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

    async fn renew(&self) -> Result<Write, StoreError> {
        let mut pending = self.pending.clone();
        pending.fence = self.next_fence();
        pending.lease_until = self.gate.now().after(self.policy.lease);
        self.write(&Some(Record::Pending(pending))).await
    }

    /// Renews until it is `late`, with one timer for both. A store that does not answer
    /// is asked again: the lease is about liveness, never about safety.
    async fn renew_until(&self, late: Option<Instant>) {
        let mut pause = self.policy.lease / 3;
        let mut renews = self.lead.is_some() && !is_active(Mutant::NoRenewal);
        loop {
            let due = renews.then(|| Instant::now() + pause);
            match due.into_iter().chain(late).min() {
                Some(next) => tokio::time::sleep_until(next).await,
                None => std::future::pending().await,
            }
            if late.is_some_and(|late| Instant::now() >= late) {
                return;
            }
            let renewal = self.renew();
            let renewal = match late {
                Some(late) => match tokio::time::timeout_at(late, renewal).await {
                    Ok(renewal) => renewal,
                    Err(_) => return,
                },
                None => renewal.await,
            };
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

    fn settled(self, record: Option<Record>, asked: Moment) -> Settled {
        if let Some(Record::Done(done)) = &record {
            self.gate.cache().insert(self.key, Arc::clone(done));
        }
        // Without a last view the followers look anew: the key is free.
        if let (Some(record), Some(lead)) = (record, self.lead) {
            lead.finish(View::Seen(record, asked));
        }
        Settled::Now
    }

    fn fenced(self) -> Settled {
        tracing::warn!(key = %self.key, "the end of a claim came too late; the key was taken over");
        Settled::Fenced
    }

    /// Goes on trying until the lease would have passed, or the gate gives up.
    async fn settle_later(self, record: Option<Record>) {
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
