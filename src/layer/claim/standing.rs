//! What an owner last heard of his claim.
//!
//! It goes with the request, so that a transport that has waited for a connection can look before
//! the first byte leaves: a claim that its owner has lost meanwhile may be another's.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::{
    engine::record::Timestamp,
    layer::{gate::Gate, waiters::Moment},
    mutants::{Mutant, is_active},
};

/// Whether a claim is still its owner's, as far as he knows.
#[derive(Clone, Debug)]
pub(crate) struct Standing(Arc<Known>);

#[derive(Debug)]
struct Known {
    gate: Gate,
    lease: Duration,
    /// When the claim was asked for.
    asked: Moment,
    /// How many milliseconds after that the last word was asked for that the store took, and
    /// when that was by the wall clock.
    word: AtomicU64,
    wall: AtomicU64,
    is_lost: AtomicBool,
}

impl Standing {
    /// Of a claim that was `asked` for and acknowledged.
    pub(super) fn new(gate: &Gate, asked: Moment, lease: Duration) -> Self {
        let (word, wall, is_lost) = (0.into(), asked.wall.0.into(), false.into());
        Self(Arc::new(Known { gate: gate.clone(), lease, asked, word, wall, is_lost }))
    }

    /// The store took a word that was `asked` for then.
    pub(super) fn spoke(&self, asked: Moment) {
        let after = asked.at.saturating_duration_since(self.0.asked.at).as_millis();
        self.0.word.store(u64::try_from(after).unwrap_or(u64::MAX), Relaxed);
        self.0.wall.store(asked.wall.0, Relaxed);
    }

    /// The key is somebody else's.
    pub(super) fn lose(&self) {
        self.0.is_lost.store(true, Relaxed);
    }

    pub(super) fn is_lost(&self) -> bool {
        self.0.is_lost.load(Relaxed) && !is_active(Mutant::SendWhenFenced)
    }

    /// Whether the last word is younger than a lease, and none has said that the key is lost. A
    /// machine that was asleep has a clock that did not run meanwhile, and one that did.
    pub(crate) fn holds(&self) -> bool {
        let Known { gate, lease, asked, word, wall, .. } = &*self.0;
        let word = Duration::from_millis(word.load(Relaxed));
        let wall = Timestamp(wall.load(Relaxed));
        !self.is_lost()
            && asked.at.elapsed().saturating_sub(word) < *lease
            && gate.now() <= wall.after(*lease)
    }
}
