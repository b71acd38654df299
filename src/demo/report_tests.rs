use std::time::Duration;

use super::*;
use crate::demo::{
    ledger::Row,
    promise::Promise,
    rounds::ROUNDS,
    storm::{Ending, Tally, reference},
};

fn row(id: u64, payment: u64) -> Row {
    Row { id, amount: 1, reference: reference(payment), key: None }
}

fn tally(endings: &[Ending]) -> Tally {
    Tally { endings: endings.to_vec(), attempts: 9, wall: Duration::from_millis(5) }
}

/// Figures with which the promise is kept.
fn kept(promise: Promise) -> Figures {
    let all = Figures { sent: 100, attempts: 200, ..Figures::default() };
    match promise {
        Promise::Less => {
            Figures { executed: 70, paid: 70, once: 70, lost: 30, confirmed: 49, failed: 51, ..all }
        }
        Promise::More => {
            Figures { executed: 140, paid: 140, once: 70, doubled: 30, confirmed: 100, ..all }
        }
        Promise::Exactly => Figures { executed: 100, paid: 100, once: 100, confirmed: 100, ..all },
        Promise::NothingHidden => Figures {
            executed: 70,
            paid: 70,
            once: 70,
            lost: 30,
            confirmed: 49,
            unknown: 51,
            ..all
        },
    }
}

#[test]
fn the_figures_put_both_views_side_by_side() {
    use Ending::{Confirmed, Failed, Unknown};
    let endings = [Confirmed, Confirmed, Unknown, Unknown, Failed, Failed, Confirmed];
    // Payment 1 twice, 2 and 4 though their clients do not know, 6 never, and a stranger.
    let rows = [row(1, 0), row(2, 1), row(3, 1), row(4, 2), row(5, 4), row(6, 77)];
    let expected = Figures {
        sent: 7,
        attempts: 9,
        executed: 6,
        paid: 6,
        once: 3,
        doubled: 1,
        lost: 3,
        foreign: 1,
        confirmed: 3,
        unknown: 2,
        failed: 2,
        lost_but_confirmed: 1,
        lost_in_silence: 1,
        millis: 5,
    };
    assert_eq!(Figures::of(&tally(&endings), &rows), expected);
}

#[test]
fn every_check_can_fail() {
    use Promise::{Exactly, Less, More, NothingHidden};
    type Break = fn(&mut Figures);
    let cases: [(Promise, Break, &str); 17] = [
        (Less, |f| f.paid = 100, "did the link break anything"),
        (Less, |f| f.foreign = 1, "somebody else"),
        (More, |f| f.paid = 100, "did the link break anything"),
        (More, |f| f.foreign = 1, "somebody else"),
        (Exactly, |f| f.executed = 99, "99 executions"),
        (Exactly, |f| f.paid = 101, "101 € instead"),
        (Exactly, |f| f.doubled = 1, "more than once"),
        (Exactly, |f| f.lost = 1, "never executed"),
        (Exactly, |f| f.confirmed = 99, "99 of 100 clients"),
        (Exactly, |f| f.foreign = 1, "somebody else"),
        (NothingHidden, |f| f.doubled = 1, "more than once"),
        (NothingHidden, |f| f.lost = 29, "do not make 100"),
        (NothingHidden, |f| f.paid = 71, "71 € for 70"),
        (NothingHidden, |f| f.confirmed = 71, "71 were confirmed"),
        (NothingHidden, |f| f.lost_but_confirmed = 1, "confirmed and never executed"),
        (NothingHidden, |f| f.lost_in_silence = 1, "did not say so"),
        (NothingHidden, |f| f.failed = 1, "clients know nothing"),
    ];
    for promise in [Less, More, Exactly, NothingHidden] {
        assert_eq!(promise.check(&kept(promise)), Vec::<String>::new(), "{promise:?}");
    }
    for (promise, breaks, expected) in cases {
        let mut figures = kept(promise);
        breaks(&mut figures);
        let broken = promise.check(&figures);
        assert!(
            broken.iter().any(|what| what.contains(expected)),
            "{promise:?} should say {expected:?}: {broken:?}"
        );
    }
}

#[test]
fn one_broken_promise_breaks_the_verdict_and_says_what_broke() {
    let mut played: Vec<_> =
        ROUNDS.map(|round| Played { round, figures: kept(round.promise) }).into();
    let (text, verdict) = render(&played);
    assert_eq!(verdict, Verdict::Kept);
    assert!(text.ends_with("Every promise was kept."));
    for index in 0..played.len() {
        let good = played[index].figures;
        played[index].figures.foreign = 3;
        let (text, verdict) = render(&played);
        assert_eq!(verdict, Verdict::Broken);
        assert_eq!(text.matches("broken: 3 rows of the ledger").count(), 1, "{text}");
        played[index].figures = good;
    }
}

#[test]
fn the_table_is_a_table_of_at_most_a_hundred_columns() {
    let mut played: Vec<_> =
        ROUNDS.map(|round| Played { round, figures: kept(round.promise) }).into();
    played[1].figures.attempts = 1_234_567;
    let (text, _) = render(&played);
    let lines: Vec<_> = text.lines().take_while(|line| !line.starts_with('✓')).collect();
    assert!(lines.len() > 10, "{text}");
    let width = lines[0].chars().count();
    assert!(width <= 100, "{width}");
    assert!(lines.iter().all(|line| line.chars().count() == width), "{text}");
    for heading in ["sent", "attempts", "executed", "paid €", "lost", "doubled", "unknown"] {
        assert!(text.contains(heading), "{heading} is broken up:\n{text}");
    }
}
