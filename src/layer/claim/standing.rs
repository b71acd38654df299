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

use tokio::time::Instant;

use crate::mutants::{Mutant, is_active};

/// Whether a claim is still its owner's, as far as he knows.
#[derive(Clone, Debug)]
pub(crate) struct Standing(Arc<Known>);

#[derive(Debug)]
struct Known {
    lease: Duration,
    /// When the claim was asked for.
    asked: Instant,
    /// How many milliseconds after that the last word was asked for that the store took.
    word: AtomicU64,
    is_lost: AtomicBool,
}

impl Standing {
    /// Of a claim that was `asked` for and acknowledged.
    pub(super) fn new(asked: Instant, lease: Duration) -> Self {
        Self(Arc::new(Known {
            lease,
            asked,
            word: AtomicU64::new(0),
            is_lost: AtomicBool::new(false),
        }))
    }

    /// The store took a word that was `asked` for then.
    pub(super) fn spoke(&self, asked: Instant) {
        let after = asked.saturating_duration_since(self.0.asked).as_millis();
        self.0.word.store(u64::try_from(after).unwrap_or(u64::MAX), Relaxed);
    }

    /// The key is somebody else's.
    pub(super) fn lose(&self) {
        self.0.is_lost.store(true, Relaxed);
    }

    pub(super) fn is_lost(&self) -> bool {
        self.0.is_lost.load(Relaxed) && !is_active(Mutant::SendWhenFenced)
    }

    /// Whether the last word is younger than a lease, and none has said that the key is lost.
    pub(crate) fn holds(&self) -> bool {
        let word = Duration::from_millis(self.0.word.load(Relaxed));
        !self.is_lost() && self.0.asked.elapsed().saturating_sub(word) < self.0.lease
    }
}
