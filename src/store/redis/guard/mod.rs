//! Whether the server can keep the store's promise, now and not only at the start.
//!
//! 1. Every new connection is looked at before an operation uses it, and every
//!    [`ping`](crate::store::Store::ping) looks again.
//! 2. A server that is unfit (a replica, one that evicts, too few replicas) gets no
//!    claim until a look finds it fit.
//! 3. Replicas that did not take a write in time are behind until they have taken all that
//!    was written by then. Nobody waits for them meanwhile: a wait holds up everything else
//!    on its connection.
//! 4. A server that takes no writes is read from all the same.
//! 5. A server that lost its data set is told of until an operator acknowledges it;
//!    with [`refuse_after_loss`](super::RedisOptions::refuse_after_loss) it gets no
//!    claim until then.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use self::look::Taken;
use super::{
    RedisOptions,
    marker::Loss,
    verify::{Unfit, Written},
};
use crate::{
    mutants::{Mutant, is_active},
    store::{StoreError, StoreErrorKind},
};

mod look;

/// How old a look may be for a claim that is about to be refused.
const FRESH: Duration = Duration::from_millis(200);

/// What this process knows of the server.
#[derive(Debug)]
pub(super) struct Guard {
    peer: String,
    options: RedisOptions,
    standing: Mutex<Standing>,
    /// Whether claims are refused; for a glance without the lock.
    refuses: AtomicBool,
}

#[derive(Debug, Default)]
struct Standing {
    epoch: Option<String>,
    /// The marker as it lies in the server.
    written: Vec<u8>,
    unfit: Option<Unfit>,
    replicas: Replicas,
    loss: Option<Loss>,
    /// How often a loss was noticed.
    losses: u64,
    looked: Option<Instant>,
}

/// Whether replicas take what is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Replicas {
    #[default]
    InStep,
    /// They did not take a write in time.
    Behind,
    /// The same, and there is so much for them to take.
    BehindUntil(Written),
}

impl Guard {
    pub(super) fn new(peer: String, options: RedisOptions) -> Self {
        Self { peer, options, standing: Mutex::default(), refuses: AtomicBool::new(false) }
    }

    /// Whether the last look found trouble, and is too old to refuse a claim for it.
    pub(super) fn should_look_again(&self) -> bool {
        self.refuses.load(Ordering::Acquire)
            && self.standing().looked.is_none_or(|looked| looked.elapsed() >= FRESH)
    }

    /// Whether replicas are behind, so that nobody should wait for them.
    pub(super) fn replicas_are_behind(&self) -> bool {
        self.standing().replicas != Replicas::InStep && !is_active(Mutant::WaitForStragglers)
    }

    /// A write was not on the replicas in time: no claims until they have caught up.
    pub(super) fn replicas_fell_behind(&self) {
        let mut standing = self.standing();
        if standing.replicas == Replicas::InStep {
            standing.replicas = Replicas::Behind;
            let why = "has replicas that do not take its writes in time, and store.durability \
                       asks for them; claims go on when they have caught up";
            tracing::error!(peer = self.peer, "Redis {why}");
            standing.unfit.get_or_insert_with(|| Unfit::for_now(why.to_owned()));
            self.refuses.store(true, Ordering::Release);
        }
    }

    /// Whether the marker that lay beside a claim is not the one that was looked at.
    pub(super) fn is_surprised_by(&self, marker: Option<&[u8]>) -> bool {
        marker != Some(&self.standing().written)
    }

    /// Whether the last look was at a server that is no primary.
    pub(super) fn is_at_no_primary(&self) -> bool {
        self.refuses.load(Ordering::Acquire)
            && self.standing().unfit.as_ref().is_some_and(|unfit| unfit.is_no_primary)
    }

    /// Whether claims may be made.
    pub(super) fn admit(&self) -> Result<(), StoreError> {
        if self.refuses.load(Ordering::Acquire) { self.verdict() } else { Ok(()) }
    }

    /// What is wrong with the server apart from its data.
    pub(super) fn fitness(&self) -> Result<(), StoreError> {
        let Some(Unfit { kind, why, .. }) = &self.standing().unfit else { return Ok(()) };
        Err(StoreError::new(*kind, format!("Redis at {} {why}", self.peer)))
    }

    /// What is wrong with the server. A loss for which claims are refused comes first: where
    /// requests may pass a store that is down, they must not pass this.
    pub(super) fn verdict(&self) -> Result<(), StoreError> {
        let Standing { unfit, loss, .. } = &*self.standing();
        let peer = &self.peer;
        let lost = loss.as_ref().map(|loss| {
            let why = loss.why.explain();
            format!(
                "Redis at {peer} {why}; keys from before may run twice. Acknowledge it with \
                 POST /api/store/acknowledge at the admin listener"
            )
        });
        let refuses = self.options.refuse_after_loss && !is_active(Mutant::TellUnfitFirst);
        let (kind, what) = match (unfit, lost) {
            (None, None) => return Ok(()),
            (None, Some(lost)) => (StoreErrorKind::DataLost, lost),
            (Some(Unfit { why, .. }), Some(lost)) if refuses => {
                (StoreErrorKind::DataLost, format!("{lost}. Besides, it {why}"))
            }
            (Some(Unfit { kind, why, .. }), _) => (*kind, format!("Redis at {peer} {why}")),
        };
        Err(StoreError::new(kind, what))
    }

    /// How often a loss was noticed.
    pub(super) fn losses(&self) -> u64 {
        self.standing().losses
    }

    /// `replicas`: as they were when the look began, and as it found them.
    fn conclude(&self, unfit: Option<Unfit>, taken: Taken, replicas: (Replicas, Replicas)) {
        let mut standing = self.standing();
        let (unfit, marker, lies) = match taken {
            Taken::Nothing => (unfit, None, None),
            Taken::Settled(marker, lies) => (unfit, Some(marker), Some(lies)),
            Taken::Refused(marker, why) => (unfit.or(Some(why)), Some(marker), None),
        };
        // If they fell behind during the look, what it found of them is older.
        if standing.replicas == replicas.0 {
            standing.replicas = replicas.1;
            if let Some(unfit) = &unfit
                && standing.unfit.as_ref() != Some(unfit)
            {
                tracing::error!(peer = self.peer, "Redis {}", unfit.why);
            }
            standing.unfit = unfit;
        }
        standing.looked = Some(Instant::now());
        if let Some(marker) = marker {
            let is_open = |loss: &Loss| !loss.acknowledged && !is_active(Mutant::OverlookLoss);
            let open = marker.loss.filter(is_open);
            if let Some(loss) = &open
                && !standing.loss.as_ref().is_some_and(|known| known.is(loss))
            {
                standing.losses += 1;
                tracing::error!(peer = self.peer, "Redis {}", loss.why.explain());
            }
            if open.is_none() && standing.loss.is_some() {
                tracing::warn!(peer = self.peer, "the loss of data was acknowledged");
            }
            standing.loss = open;
            // What the server did not take is nobody's to remember.
            if let Some(lies) = lies {
                (standing.epoch, standing.written) = (Some(marker.epoch), lies);
            }
        }
        let refuses =
            standing.unfit.is_some() || (standing.loss.is_some() && self.options.refuse_after_loss);
        self.refuses.store(refuses, Ordering::Release);
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        // Every change under the lock is a plain assignment.
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::marker::{Marker, Why},
        *,
    };

    fn taken(lies: &[u8], loss: Option<Loss>) -> Taken {
        let (epoch, run_id) = ("epoch".to_owned(), "run".to_owned());
        let marker = Marker { epoch, run_id, forced: None, promoted: None, loss };
        Taken::Settled(marker, lies.to_vec())
    }

    /// Each says what the other has not seen.
    #[test]
    fn a_look_during_which_replicas_fell_behind_has_seen_the_marker_all_the_same() {
        let options = RedisOptions { refuse_after_loss: true, ..RedisOptions::default() };
        let guard = Guard::new("redis:6379".to_owned(), options);
        let in_step = || (Replicas::InStep, Replicas::InStep);
        guard.conclude(None, taken(b"before", None), in_step());
        guard.admit().unwrap();
        guard.replicas_fell_behind();
        let loss = Loss { at: 1, why: Why::Emptied, of: Vec::new(), acknowledged: false };
        guard.conclude(None, taken(b"after", Some(loss)), in_step());
        assert!(!guard.is_surprised_by(Some(b"after")));
        assert!(guard.replicas_are_behind());
        assert_eq!(guard.losses(), 1);
        // What nobody may pass is told first.
        assert_eq!(guard.admit().unwrap_err().kind(), StoreErrorKind::DataLost);
        guard.conclude(None, Taken::Nothing, (Replicas::Behind, Replicas::InStep));
        assert_eq!(guard.admit().unwrap_err().kind(), StoreErrorKind::DataLost);
    }

    #[test]
    fn what_is_only_told_of_a_loss_comes_after_what_refuses() {
        let guard = Guard::new("redis:6379".to_owned(), RedisOptions::default());
        guard.replicas_fell_behind();
        let loss = Loss { at: 1, why: Why::Emptied, of: Vec::new(), acknowledged: false };
        let in_step = (Replicas::InStep, Replicas::InStep);
        guard.conclude(None, taken(b"after", Some(loss)), in_step);
        assert_eq!(guard.admit().unwrap_err().kind(), StoreErrorKind::Unavailable);
    }
}
