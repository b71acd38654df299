//! Holding a claim is holding a value.
//!
//! 1. A claim renews its lease while its work runs ([`Claim::hold`]).
//! 2. It ends in exactly one way: [`Claim::settle`]. If the store does not take
//!    the ending, a tracked task goes on trying for as long as a lease.
//! 3. Until then it may be given up ([`Claim::give_up`]): the outcome is unknown to
//!    everybody, and a late result of the same owner still settles it. While that is
//!    waited for, the record is renewed as well, so that no lookup takes the request
//!    for one that cannot be on its way any more.
//! 4. Dropping it unsettled (a panic) gives it up for good.
//!
//! Else only a lookup and an operator change a record after its claim, under the fence that
//! they have seen.

use std::{
    future::Future,
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;

use self::held::Held;
pub(crate) use self::{
    held::{Ending, Settled, take_back},
    standing::Standing,
};
use super::{
    FOREVER,
    gate::Gate,
    waiters::{Lead, Moment, View},
};
use crate::{
    engine::{
        decision::Because,
        fingerprint::Fingerprint,
        policy::{OnUnknown, Policy},
        record::{Fence, Pending, Reason, Record, Timestamp, Token},
    },
    mutants::{Mutant, is_active},
    store::Write,
};

mod held;
mod standing;

/// A claim that the store has acknowledged.
#[derive(Debug)]
pub(crate) struct Claim {
    /// `None` once settled. Boxed, since a claim goes from future to future.
    held: Option<Box<Held>>,
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
        asked: Moment,
    ) -> Self {
        let local = Pending { lease_until: Timestamp(u64::MAX), ..pending.clone() };
        lead.show(View::Owned(Record::Pending(local)));
        let held = Held::new(gate, policy, *lead.key(), Some(lead), pending, asked);
        Self { held: Some(Box::new(held)) }
    }

    /// The same for a key that was taken over.
    pub(crate) fn instead_of(mut self, because: Because) -> Self {
        if let Some(held) = &mut self.held {
            held.because = Some(because);
        }
        self
    }

    /// Runs `work` for as long as `patience` lasts, and renews the lease every third of it.
    pub(crate) async fn hold<F: Future>(&self, work: F, patience: Duration) -> End<F::Output> {
        let held = self.held();
        let mut work = pin!(work);
        let mut abandoned = pin!(held.gate.abandoned());
        let mut late = pin!(held.renew_until(Instant::now() + patience.min(FOREVER)));
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
        if held.standing.is_lost() {
            return false;
        }
        if held.standing.holds() || is_active(Mutant::SendWithoutLooking) {
            return true;
        }
        let asked = held.gate.moment();
        let renewal = held.renew().await;
        held.learn(&renewal, asked);
        matches!(renewal, Ok(Write::Applied))
    }

    /// What goes with the request.
    pub(crate) fn standing(&self) -> Standing {
        self.held().standing.clone()
    }

    /// Tells everybody that the outcome is unknown, and keeps the right to settle it.
    pub(crate) async fn give_up(&mut self, reason: Reason) {
        let Some(held) = &mut self.held else { return };
        let asked = held.gate.moment();
        held.tell(reason);
        held.given_up = Some((asked.wall, reason));
        let record = held.record(Ending::Unknown(reason), asked.wall);
        let lead = held.take_lead();
        match (held.write(&record).await, lead, record) {
            (Ok(Write::Applied), Some(lead), Some(record)) => {
                lead.finish(View::Seen(record, asked));
            }
            (Ok(_), ..) => {}
            (Err(error), lead, record) => {
                // The lease says the same a little later. Until then nobody may pass a store that is
                // down with a key that is waited for here: duplicates hear that it is unknown, where
                // the policy lets nobody act on that, or in use. Under `retry` it is sent again.
                tracing::warn!(key = %held.key, %error, "an unknown outcome was not recorded");
                let (Some(lead), Some(record)) = (lead, record) else { return };
                match held.policy.on_unknown {
                    _ if is_active(Mutant::FreeWhatIsUnwritten) => return,
                    OnUnknown::Hold => lead.show(View::Seen(record, asked)),
                    OnUnknown::Reconcile(_) => {}
                    OnUnknown::Retry => return,
                }
                held.lead = Mutex::new(Some(lead));
            }
        }
    }

    /// Ends the claim.
    pub(crate) async fn settle(mut self, ending: Ending) -> Settled {
        let Some(held) = self.held.take() else { return Settled::Fenced };
        if held.given_up.is_some() && matches!(ending, Ending::Unknown(_)) {
            // Nothing has come since.
            return Settled::Now;
        }
        if let Ending::Unknown(reason) = ending {
            held.tell(reason);
        }
        let asked = held.gate.moment();
        let record = held.record(ending, asked.wall);
        if record.is_none() {
            // Who lets go of a key has no say about it any more.
            held.show(View::Looking);
        }
        match held.write(&record).await {
            Ok(Write::Applied) => held.settled(record, asked),
            Ok(Write::Fenced) => held.fenced(),
            Err(_) if is_active(Mutant::GiveUpRecording) => Settled::Later,
            Err(error) => {
                tracing::warn!(key = %held.key, %error, "the end of a claim was not recorded; trying again in the background");
                if record.is_none() {
                    drop(held.take_lead());
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
        if let Some(held) = self.held.take().filter(|held| held.given_up.is_none()) {
            tracing::error!(key = %held.key, "an exchange ended without a word");
            held.tell(Reason::OwnerLost);
            let gate = held.gate.clone();
            let record = held.record(Ending::Unknown(Reason::OwnerLost), gate.now());
            gate.spawn(held.settle_later(record));
        }
    }
}
