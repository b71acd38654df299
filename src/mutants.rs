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
    /// A gate that was paused after its claim sends without looking whether it is still its own.
    SendWithoutLooking,
    /// A claim does not look who holds the key.
    IgnoreHolder,
    /// An operation of the store whose connection broke is not repeated.
    NoRepeat,
    /// The end of a claim that the store did not take is not tried again.
    GiveUpRecording,
    /// A time-out after sending releases the key.
    ReleaseOnTimeout,
    /// A store that throws records away is good enough.
    AcceptEviction,
    /// Every answer says that it was recorded.
    SayStored,
    /// A key whose response has expired is as good as new.
    LateRetryIsNew,
    /// A keyed request takes any connection, however long it was unused.
    ReuseOldConnections,
    /// A connection that came after the time for the whole exchange is used all the same.
    SendTooLate,
    /// A client may reset whatever it begins.
    AllowHaste,
    /// Who has been answered and still sends is hung up on.
    HangUp,
    /// Who has waited for a connection does not look whether the claim still holds.
    SendAfterConnecting,
    /// A file of the journal that has a length is thought to have it for good.
    TrustLength,
    /// A claim is made where its end may have no room.
    ClaimWithoutRoom,
    /// A journal that had no room has none for good.
    FullForGood,
    /// What has no room is moved into the tables all the same.
    MoveWithoutRoom,
    /// Responses are written in the order of keys.
    AppendByKey,
    /// What somebody else has written is not told by a Redis that takes no claims.
    AdmitBeforeReading,
    /// A Redis that is unfit says so before it says that it lost data.
    TellUnfitFirst,
    /// What the store has shown is forgotten when it is down a moment later.
    ForgetWhatWasSeen,
    /// A claim that may be there is removed though its request has passed.
    FreeWhatHasPassed,
    /// A key is free for duplicates when the store does not take that its outcome is unknown.
    FreeWhatIsUnwritten,
    /// What was learnt from the backend has the fence of the take-over before it.
    OneRevision,
    /// Whether an owner is at work is told by this gate's clock.
    TrustOwnClock,
    /// Callers whose credentials cannot be read are one.
    StrangersAreAlike,
    /// Where requests pass a store that is down, one passes whose key has a record.
    PassWhatIsTaken,
    /// Whatever an operator says of an outcome that is still waited for is done.
    BelieveOperatorAtOnce,
    /// A response body is waited for without end.
    WaitForResponses,
    /// A claim that cannot be there is taken back.
    TakeBackAll,
    /// A connection that owes a part of its last request is given to the next.
    ReuseOwing,
    /// A write is acknowledged before it is on the disk.
    AcknowledgeUnsynced,
    /// A disk that hangs is waited for.
    WaitForDisk,
    /// An old record is waited for in place, whoever else is on the thread.
    WaitInPlace,
    /// What comes while the disk hangs waits in line.
    QueueAtHungDisk,
    /// A claim is made for somebody who was told that it was not.
    MakeAbandonedClaims,
    /// A request with a length and chunks passes.
    AcceptTwoFramings,
    /// The length that stands beside the chunks of a response is believed.
    BelieveLength,
    /// A request body that broke off is taken for whole.
    AcceptHalfBody,
    /// What came before a stream was reset without an error is the whole of a body.
    TakeResetForEnd,
    /// Scripts that Redis has forgotten are not loaded again.
    ForgetScripts,
    /// A response that comes after its time-out is dropped.
    DropLate,
    /// A store that lost its data goes on as if nothing had happened.
    OverlookLoss,
    /// A claim counts without the replicas that were asked for.
    IgnoreReplicas,
    /// What the journal holds is not read when a data folder is opened.
    ForgetJournal,
    /// An HTTP/2 request may name one host twice in two ways.
    AcceptTwoHosts,
    /// An exchange whose HTTP/2 stream was reset no longer counts for its connection.
    ForgetResetStreams,
    /// The head of a request may take for ever.
    WaitForHeads,
    /// A request body may take for ever.
    WaitForBodies,
    /// A client may take for ever for what it is sent.
    WaitForReaders,
    /// A connection that became a tunnel has no place among those that are served.
    ForgetTunnels,
    /// A stream of HTTP/2 holds as much of an answer as the library lets it.
    HoldWhatIsNotRead,
    /// An exchange whose HTTP/2 client takes nothing of the answer is under way.
    CountStuckStreams,
    /// The cache of responses has no limit.
    CacheWithoutLimit,
    /// A connection that rests forgets what it has read of the next request.
    ForgetReadAhead,
    /// A damaged filter of the embedded store's index says which keys there are.
    TrustFilters,
    /// Keys that move into another generation of that index are not added to its filter.
    MoveUnnoticed,
    /// The embedded store's tables lead to responses that were not forced to the disk.
    CommitBeforeResponses,
    /// The room of expired responses is written again while somebody reads them.
    ReuseWhileRead,
    /// A response that was damaged in the embedded store's file is replayed.
    TrustResponses,
    /// When a record expires is believed wherever it stands.
    TrustTimes,
    /// Two keys that share their place in the tables are on their way there at once.
    LetTwinsIn,
    /// A key that was taken over and not executed forgets what it was before.
    ForgetFirstOutcome,
    /// An unknown outcome grows old while its request is still waited for.
    LetUnknownAge,
    /// The wait for a busy service counts as sending.
    CountWaitingAsSent,
    /// The answer to a lookup that cannot be read is one that found nothing.
    UnreadableIsAbsent,
    /// Every request that waits for a lookup makes one of its own.
    AskForEach,
    /// A claim that was there already is on the replicas.
    TrustOldClaims,
    /// A server that was promoted has all that its primary had acknowledged.
    OverlookPromotion,
    /// A server that forces nothing while it rewrites its file forces every write.
    TrustRewrites,
    /// Every write waits for replicas that are known to be behind.
    WaitForStragglers,
    /// An owner who was told that his key is taken over sends all the same.
    SendWhenFenced,
    /// A record may be kept for longer than a clock can count.
    KeepForEver,
    /// Nothing is read from a server whose marker cannot be written.
    InsistOnMarker,
    /// A damaged response that is over stops the embedded store.
    StopAtDamage,
    /// Damage inside the embedded store's journal is taken for a torn end.
    TakeDamageForTorn,
    /// A first start makes the embedded store's tables under their own name.
    CreateInPlace,
    /// Frames of the embedded store's journal are hashed without a secret.
    OpenDigest,
    /// A connection rests though more of the body of its last request may come.
    RestInBody,
    /// Replicas that were behind have to catch up with a history that has ended.
    ExpectOldHistory,
    /// A connection to a service that speaks HTTP/1.0 is used again.
    ReuseHttp10,
    /// A body that is read whole may take as long as it moves.
    HoldTrickles,
    /// Idle connections to the admin listener keep out who comes after them.
    KeepIdleOperators,
    /// What is left of a transfer coding that nobody took away is the body of a response.
    IgnoreCodings,
    /// No time passes while an upstream does not accept.
    StopTheClock,
    /// Whoever hears from a look that its server has become a replica stays with it.
    StayWithReplica,
    /// A server that takes no claims does not say that it has a record which cannot be read.
    HideDamage,
    /// A record is as old as its claim, whatever its owner has written since.
    AgeFromClaim,
    /// What comes of a body after its answer is the head of another request.
    TakeRestForHead,
    /// A response has all the time that its client takes.
    ReadPastTotal,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 103] = [
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
        Self::SendWithoutLooking,
        Self::IgnoreHolder,
        Self::NoRepeat,
        Self::GiveUpRecording,
        Self::ReleaseOnTimeout,
        Self::AcceptEviction,
        Self::SayStored,
        Self::LateRetryIsNew,
        Self::ReuseOldConnections,
        Self::SendTooLate,
        Self::AllowHaste,
        Self::HangUp,
        Self::SendAfterConnecting,
        Self::TrustLength,
        Self::ClaimWithoutRoom,
        Self::FullForGood,
        Self::MoveWithoutRoom,
        Self::AppendByKey,
        Self::AdmitBeforeReading,
        Self::TellUnfitFirst,
        Self::ForgetWhatWasSeen,
        Self::FreeWhatHasPassed,
        Self::FreeWhatIsUnwritten,
        Self::OneRevision,
        Self::TrustOwnClock,
        Self::StrangersAreAlike,
        Self::PassWhatIsTaken,
        Self::BelieveOperatorAtOnce,
        Self::WaitForResponses,
        Self::TakeBackAll,
        Self::ReuseOwing,
        Self::AcknowledgeUnsynced,
        Self::WaitForDisk,
        Self::WaitInPlace,
        Self::QueueAtHungDisk,
        Self::MakeAbandonedClaims,
        Self::AcceptTwoFramings,
        Self::BelieveLength,
        Self::AcceptHalfBody,
        Self::TakeResetForEnd,
        Self::ForgetScripts,
        Self::DropLate,
        Self::OverlookLoss,
        Self::IgnoreReplicas,
        Self::ForgetJournal,
        Self::AcceptTwoHosts,
        Self::ForgetResetStreams,
        Self::WaitForHeads,
        Self::WaitForBodies,
        Self::WaitForReaders,
        Self::ForgetTunnels,
        Self::HoldWhatIsNotRead,
        Self::CountStuckStreams,
        Self::CacheWithoutLimit,
        Self::ForgetReadAhead,
        Self::TrustFilters,
        Self::MoveUnnoticed,
        Self::CommitBeforeResponses,
        Self::ReuseWhileRead,
        Self::TrustResponses,
        Self::TrustTimes,
        Self::LetTwinsIn,
        Self::ForgetFirstOutcome,
        Self::LetUnknownAge,
        Self::CountWaitingAsSent,
        Self::UnreadableIsAbsent,
        Self::AskForEach,
        Self::TrustOldClaims,
        Self::OverlookPromotion,
        Self::TrustRewrites,
        Self::WaitForStragglers,
        Self::SendWhenFenced,
        Self::KeepForEver,
        Self::InsistOnMarker,
        Self::StopAtDamage,
        Self::TakeDamageForTorn,
        Self::CreateInPlace,
        Self::OpenDigest,
        Self::RestInBody,
        Self::ExpectOldHistory,
        Self::ReuseHttp10,
        Self::HoldTrickles,
        Self::KeepIdleOperators,
        Self::IgnoreCodings,
        Self::StopTheClock,
        Self::StayWithReplica,
        Self::HideDamage,
        Self::AgeFromClaim,
        Self::TakeRestForHead,
        Self::ReadPastTotal,
    ];
}

/// Whether the rule is broken in this process.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub(crate) const fn is_active(_: Mutant) -> bool {
    false
}

/// Whether an environment variable is the switch of this module and no setting.
#[cfg(feature = "proxy")]
pub(crate) fn is_switch(name: &str) -> bool {
    cfg!(feature = "mutants") && name == "ONCEGATE_MUTANT"
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
