use super::{
    super::{
        Verdict,
        gate::starter,
        promise::{Figures, Promise},
        toy_gate::{forgetful, lying, taciturn},
    },
    *,
};

const ODDS: Odds = Odds { before: 0.3, after: 0.3, seed: 11 };
const SETTINGS: Settings =
    Settings { payments: 120, concurrency: 16, attempts: 60, patience: PATIENCE };

async fn play(gate: StartGate, settings: Settings) -> Vec<Played> {
    let stage = Stage::set(ODDS, gate).await.unwrap();
    let played = stage.play(settings).await.unwrap();
    stage.clear().await;
    played
}

fn broken(played: &[Played]) -> Vec<&'static str> {
    let kept = |played: &&Played| played.round.promise.check(&played.figures).is_empty();
    played.iter().filter(|played| !kept(played)).map(|played| played.round.name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_gate_the_story_is_true() {
    let played = play(starter, SETTINGS).await;
    let (text, verdict) = render(&played);
    assert_eq!(verdict, Verdict::Kept, "{text}");
    let [never, blind, behind, hold, retry, reconcile]: [Figures; 6] =
        played.iter().map(|played| played.figures).collect::<Vec<_>>().try_into().unwrap();
    assert!(never.paid < 120 && never.attempts == 120 && never.doubled == 0);
    assert!(blind.paid > 120 && blind.doubled > 0 && blind.lost == 0);
    assert!(behind.paid == 120 && behind.attempts > 120);
    assert!(hold.unknown > 0 && hold.lost > 0 && hold.lost < hold.unknown);
    for repaired in [retry, reconcile] {
        assert!(repaired.paid == 120 && repaired.attempts > 120 && repaired.unknown == 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_forgets_is_found_out() {
    let played = play(forgetful, SETTINGS).await;
    // Under `hold` the client stops at once, and under `retry` the backend deduplicates.
    let found = ["retries + keys, gate behind the link", "gate in front of the link: reconcile"];
    assert_eq!(broken(&played), found);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_lies_is_found_out() {
    let played = play(lying, SETTINGS).await;
    let in_front = |name: &&str| name.starts_with("gate in front of the link");
    assert_eq!(broken(&played).iter().copied().filter(in_front).count(), 3);
    assert_eq!(broken(&played).len(), 3);
    assert!(played[3].figures.lost_but_confirmed > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_does_not_say_unknown_is_found_out() {
    let played = play(taciturn, Settings { attempts: 3, ..SETTINGS }).await;
    let hold = &played[3];
    assert_eq!(hold.round.promise, Promise::NothingHidden);
    assert!(hold.figures.lost_in_silence > 0 && hold.figures.doubled == 0);
    assert!(!hold.round.promise.check(&hold.figures).is_empty());
}

#[test]
fn clients_try_long_enough_for_the_odds() {
    assert_eq!(attempts(1000, 0.3, 0.3), 60);
    assert!(attempts(1000, 0.9, 0.9) > 2000);
    assert_eq!(attempts(10, 0.01, 0.01), 60);
    assert_eq!(fewest(0.3, 0.9), 59);
    assert_eq!(fewest(0.9, 0.01), 2062);
}
