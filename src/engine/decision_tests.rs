use std::time::Duration;

use bytes::Bytes;

use super::{
    super::{
        reconcile::{Matcher, Reconcile},
        record::{Pending, Token, Tombstone, Unknown},
    },
    *,
};

const MINE: Fingerprint = Fingerprint::from_bytes([1; 32]);
const NOW: Timestamp = Timestamp(1_000);
const FENCE: Fence = Fence::new(Token([9; 16]));

fn pending(lease_until: u64) -> Record {
    Record::Pending(Pending {
        fence: FENCE,
        fingerprint: MINE,
        node: "n".into(),
        started: Timestamp(1),
        lease_until: Timestamp(lease_until),
    })
}

fn unknown() -> Record {
    Record::Unknown(Unknown {
        fence: FENCE,
        fingerprint: MINE,
        node: "n".into(),
        started: Timestamp(1),
        since: Timestamp(7),
        reason: Reason::Reset,
    })
}

fn done(response: Recorded) -> Record {
    Record::Done(Arc::new(Done {
        fence: FENCE,
        fingerprint: MINE,
        completed: Timestamp(5),
        retained_until: Timestamp(2_000),
        response,
    }))
}

fn whole() -> Recorded {
    let mut head = http::Response::new(()).into_parts().0;
    head.status = StatusCode::CREATED;
    Recorded::Whole(StoredResponse::new(head, Bytes::from_static(b"1"), None))
}

fn expired() -> Record {
    Record::Expired(Tombstone { fence: FENCE, fingerprint: MINE, completed: Timestamp(5) })
}

fn every_record() -> Vec<Record> {
    vec![
        pending(2_000),
        pending(999),
        unknown(),
        done(whole()),
        done(Recorded::StatusOnly(StatusCode::OK)),
        expired(),
    ]
}

fn reconcile() -> Policy {
    let matcher = |status| Matcher { status: vec![status], json: None, equals: None };
    let reconcile = Reconcile {
        request: "GET /p/{key}".parse().unwrap(),
        executed: matcher(StatusCode::OK),
        not_executed: matcher(StatusCode::NOT_FOUND),
        quiescence: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
    };
    Policy { on_unknown: OnUnknown::Reconcile(Arc::new(reconcile)), ..Policy::default() }
}

fn every_policy() -> Vec<Policy> {
    let mut policies = Vec::new();
    for on_conflict in [OnConflict::Reject, OnConflict::Wait(Duration::from_secs(1))] {
        for on_unknown in [OnUnknown::Hold, OnUnknown::Retry, reconcile().on_unknown] {
            for on_late_retry in [OnLateRetry::Refuse, OnLateRetry::Execute] {
                for dialect in [Dialect::Ietf, Dialect::Stripe] {
                    policies.push(Policy {
                        on_conflict,
                        on_unknown: on_unknown.clone(),
                        on_late_retry,
                        dialect,
                        ..Policy::default()
                    });
                }
            }
        }
    }
    policies
}

#[test]
fn another_request_is_refused_in_every_state() {
    for policy in every_policy() {
        for record in every_record() {
            let other = Fingerprint::from_bytes([2; 32]);
            assert_eq!(
                decide(&record, other, &policy, NOW),
                Decision::Refuse(Refusal::KeyReused),
                "{record:?}"
            );
        }
    }
}

/// The promise in one line: under `hold` nothing that may have run is dispatched again.
#[test]
fn hold_never_takes_over_what_may_have_run() {
    for policy in every_policy().into_iter().filter(|policy| policy.on_unknown == OnUnknown::Hold) {
        for record in every_record() {
            let decision = decide(&record, MINE, &policy, NOW);
            assert!(
                !matches!(decision, Decision::TakeOver(_, Because::Retry { .. })),
                "{record:?} {decision:?}"
            );
            if let Decision::TakeOver(..) = decision {
                assert!(matches!(record, Record::Expired(_)), "{record:?}");
            }
        }
    }
}

#[test]
fn the_rows_of_the_default_policy() {
    let policy = Policy::default();
    let row = |record: &Record| decide(record, MINE, &policy, NOW);
    let refuse = Decision::Refuse;
    assert_eq!(row(&pending(2_000)), refuse(Refusal::KeyInUse));
    assert_eq!(
        row(&pending(999)),
        refuse(Refusal::OutcomeUnknown { since: Timestamp(999), reason: Reason::OwnerLost }),
        "a lease that passed means unknown, never free",
    );
    assert_eq!(
        row(&unknown()),
        refuse(Refusal::OutcomeUnknown { since: Timestamp(7), reason: Reason::Reset })
    );
    assert!(
        matches!(row(&done(whole())), Decision::Replay(replay) if replay.response().status() == StatusCode::CREATED)
    );
    assert_eq!(
        row(&done(Recorded::StatusOnly(StatusCode::OK))),
        refuse(Refusal::ResponseNotStored(StatusCode::OK))
    );
    assert_eq!(row(&expired()), refuse(Refusal::KeyExpired { completed: Timestamp(5) }));
}

#[test]
fn the_rows_that_a_policy_changes() {
    let wait =
        Policy { on_conflict: OnConflict::Wait(Duration::from_secs(1)), ..Policy::default() };
    assert_eq!(decide(&pending(2_000), MINE, &wait, NOW), Decision::Wait);
    let retry = Policy { on_unknown: OnUnknown::Retry, ..Policy::default() };
    let again = |since, reason| {
        Decision::TakeOver(FENCE, Because::Retry { since: Timestamp(since), reason })
    };
    assert_eq!(decide(&pending(999), MINE, &retry, NOW), again(999, Reason::OwnerLost));
    assert_eq!(decide(&unknown(), MINE, &retry, NOW), again(7, Reason::Reset));
    for record in [pending(999), unknown()] {
        let decision = decide(&record, MINE, &reconcile(), NOW);
        assert!(matches!(decision, Decision::Reconcile(FENCE, _)), "{decision:?}");
    }
    let stripe = Policy { dialect: Dialect::Stripe, ..Policy::default() };
    assert_eq!(
        decide(&expired(), MINE, &stripe, NOW),
        Decision::TakeOver(FENCE, Because::LateRetry { completed: Timestamp(5) })
    );
}
