//! Wrong turns that the tests must notice.
//!
//! Each variant breaks one rule of the code on purpose. Without the feature
//! `mutants`, which nothing but tests switches on, `is_active` is a constant
//! `false` and the compiler removes every trace.

/// A rule that can be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// A lease that passed frees the key.
    ExpiredLeaseIsFree,
    /// A reset after sending releases the key.
    ReleaseOnReset,
    /// The answer leaves before it is recorded.
    AnswerBeforeRecording,
    /// The end of a claim is written whoever owns the key now.
    CompleteWithoutToken,
    /// A lookup that finds nothing is proof at once.
    ReconcileWithoutQuiescence,
    /// The request is sent though the store did not acknowledge its claim.
    DispatchUnclaimed,
    /// The exchange ends with its client.
    CancelWithClient,
    /// A connection that broke counts as proof that nothing was sent.
    CallBrokenUnsent,
    /// A response that broke off is recorded as far as it came.
    RecordTruncated,
    /// The fingerprint is not compared.
    IgnoreFingerprint,
    /// Leases are not renewed.
    NoRenewal,
    /// A claim whose reply was lost is somebody else's.
    ForgetOwnClaim,
    /// A shutdown cuts what runs.
    NoDrain,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::ExpiredLeaseIsFree,
        Self::ReleaseOnReset,
        Self::AnswerBeforeRecording,
        Self::CompleteWithoutToken,
        Self::ReconcileWithoutQuiescence,
        Self::DispatchUnclaimed,
        Self::CancelWithClient,
        Self::CallBrokenUnsent,
        Self::RecordTruncated,
        Self::IgnoreFingerprint,
        Self::NoRenewal,
        Self::ForgetOwnClaim,
        Self::NoDrain,
    ];
}

/// Whether the rule is broken in this process.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub(crate) const fn is_active(_: Mutant) -> bool {
    false
}

#[cfg(feature = "mutants")]
pub(crate) use switched::is_active;
#[cfg(feature = "mutants")]
pub use switched::set;

#[cfg(feature = "mutants")]
mod switched {
    use std::sync::{
        LazyLock,
        atomic::{AtomicU8, Ordering},
    };

    use super::Mutant;

    const NONE: u8 = u8::MAX;

    /// The one that `ONCEGATE_MUTANT` names, until a test sets another.
    static ACTIVE: LazyLock<AtomicU8> = LazyLock::new(|| {
        let named = std::env::var("ONCEGATE_MUTANT").unwrap_or_default();
        let position = Mutant::ALL.iter().position(|mutant| format!("{mutant:?}") == named);
        assert!(named.is_empty() || position.is_some(), "ONCEGATE_MUTANT: no mutant `{named}`");
        AtomicU8::new(position.map_or(NONE, |position| position as u8))
    });

    /// Breaks one rule in the whole process, or none.
    pub fn set(mutant: Option<Mutant>) {
        ACTIVE.store(mutant.map_or(NONE, |mutant| mutant as u8), Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn is_active(mutant: Mutant) -> bool {
        ACTIVE.load(Ordering::Relaxed) == mutant as u8
    }
}
