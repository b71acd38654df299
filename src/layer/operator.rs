//! An operator who has found out what became of a request says so.
//!
//! He decides on the record that he was shown: if anybody has written since, his
//! word changes nothing and he is told.

use std::sync::Arc;

use super::gate::Gate;
use crate::{
    engine::{
        policy::Policy,
        record::{Done, Fence, Reason, Record, StoreKey, StoredResponse},
    },
    mutants::{Mutant, is_active},
    store::{StoreError, Write},
};

/// What became of a request whose outcome was unknown.
#[derive(Clone, Debug)]
pub enum Resolution {
    /// It was executed; retries get this response. Of one with more than 4096 fields only the
    /// status is recorded, as of one that came by itself.
    Executed(StoredResponse),
    /// It was not executed, and cannot be any more; a retry executes.
    NotExecuted,
}

/// What became of an operator's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// It is as he says.
    Applied,
    /// There is no such record.
    Absent,
    /// Its owner is still at work, or may still wait for a late response: he says so at least once
    /// in a lease.
    StillPending,
    /// The outcome is known already.
    Known,
    /// Somebody has written since the record was shown; look again.
    Changed,
}

impl Gate {
    /// Settles the unknown outcome of `key`, if its record still has the fence
    /// that the operator was `shown`. Every call is logged under the target
    /// `oncegate::audit`.
    ///
    /// # Errors
    /// [`StoreError`] when the store does not answer; the word may have been written.
    pub async fn resolve(
        &self,
        key: &StoreKey,
        shown: Fence,
        resolution: Resolution,
        policy: &Policy,
    ) -> Result<Resolved, StoreError> {
        let what = match resolution {
            Resolution::Executed(_) => "executed",
            Resolution::NotExecuted => "not executed",
        };
        let resolved = self.apply(key, shown, resolution, policy).await;
        tracing::warn!(target: "oncegate::audit", %key, ?shown, what, ?resolved, "an operator resolved a key");
        resolved
    }

    async fn apply(
        &self,
        key: &StoreKey,
        mut shown: Fence,
        resolution: Resolution,
        policy: &Policy,
    ) -> Result<Resolved, StoreError> {
        let now = self.now();
        let denies = matches!(resolution, Resolution::NotExecuted);
        // Until when its owner may be at work, or may wait, by what the record says.
        let mut busy_until = None;
        let fingerprint = match self.store().get(key).await? {
            None => return Ok(Resolved::Absent),
            // Its owner waits for a late response, and says so every now and then.
            Some(Record::Unknown(unknown))
                if unknown.fence != shown && unknown.fence.admits(shown) =>
            {
                if denies {
                    return Ok(Resolved::StillPending);
                }
                shown = unknown.fence;
                unknown.fingerprint
            }
            Some(record) if record.fence() != shown => return Ok(Resolved::Changed),
            Some(Record::Pending(pending)) if now <= pending.lease_until => {
                return Ok(Resolved::StillPending);
            }
            Some(Record::Done(_) | Record::Expired(_)) => return Ok(Resolved::Known),
            Some(Record::Pending(pending)) => {
                busy_until = Some(pending.lease_until);
                pending.fingerprint
            }
            Some(Record::Unknown(unknown)) => {
                if denies && matches!(unknown.reason, Reason::Timeout | Reason::StoreLost) {
                    busy_until = Some(unknown.since.after(policy.lease));
                }
                unknown.fingerprint
            }
        };
        // Whoever is at work, or waits for a late response, says so within a lease. The store's own
        // clock tells how long ago that was; this gate's may be another one than the owner's.
        if let Some(until) = busy_until
            && !is_active(Mutant::BelieveOperatorAtOnce)
        {
            let is_busy = match self.store().age(key).await? {
                Some((fence, _)) if fence != shown => return Ok(Resolved::Changed),
                Some((_, age)) => age < policy.lease,
                // A store that cannot tell.
                None => now < until,
            };
            if is_busy {
                return Ok(Resolved::StillPending);
            }
        }
        let written = match resolution {
            Resolution::NotExecuted => self.store().remove(key, shown).await?,
            Resolution::Executed(response) => {
                // A token of his own: an owner who comes back late cannot write any more.
                let record = Record::Done(Arc::new(Done {
                    fence: Fence::new(self.token()),
                    fingerprint,
                    completed: now,
                    retained_until: now.after(policy.retention),
                    response: response.into(),
                }));
                self.store().swap(key, shown, &record, policy.keep_done()).await?
            }
        };
        Ok(match written {
            Write::Applied => Resolved::Applied,
            Write::Fenced => Resolved::Changed,
        })
    }
}
