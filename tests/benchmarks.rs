//! What the benchmarks make of their figures.

#[path = "../benches/side_by_side/balance.rs"]
mod balance;
#[path = "../benches/side_by_side/executed.rs"]
mod executed;
#[path = "../benches/side_by_side/verdict.rs"]
mod verdict;

use self::{
    balance::allowed,
    executed::{Promise, astray},
    verdict::{Late, Quantile, Verdict},
};

const CONNECTIONS: u64 = 32;

#[test]
fn a_request_that_is_executed_twice_is_an_error() {
    let (count, why) = astray(Promise::Once, 20_000, 10_000, CONNECTIONS).expect("an error");
    assert_eq!(count, 20_000 - 10_000 - 2 * CONNECTIONS);
    assert!(why.contains("executed twice"), "{why}");
}

#[test]
fn what_the_load_leaves_on_its_way_is_none() {
    for beyond in [0, CONNECTIONS, 2 * CONNECTIONS] {
        assert_eq!(astray(Promise::Once, 10_000 + beyond, 10_000, CONNECTIONS), None);
    }
    assert!(astray(Promise::Once, 10_001 + 2 * CONNECTIONS, 10_000, CONNECTIONS).is_some());
}

#[test]
fn an_answer_that_the_backend_did_not_give_is_an_error() {
    assert_eq!(astray(Promise::Once, 9_999, 10_000, CONNECTIONS).map(|(count, _)| count), Some(1));
}

#[test]
fn a_replay_that_is_executed_is_an_error() {
    assert_eq!(astray(Promise::Never, 0, 10_000, CONNECTIONS), None);
    assert_eq!(astray(Promise::Never, 1, 10_000, CONNECTIONS).map(|(count, _)| count), Some(1));
}

fn late(ms: f64) -> Late {
    Late { at: Quantile::P99, ms }
}

#[test]
fn on_a_quiet_machine_a_latency_has_a_verdict() {
    let verdict = Verdict::of_latency(-0.4, 1.0, late(0.06));
    assert_eq!(verdict, Verdict::Reached(Some(late(0.06))));
    assert_eq!(verdict.to_string(), "reached; the machine itself was late by 0.06 ms at p99");
    assert_eq!(
        Verdict::of_latency(0.1, 1.0, late(0.5)).to_string(),
        "MISSED; the machine itself was late by 0.50 ms at p99"
    );
}

#[test]
fn where_the_machine_is_late_by_half_of_what_a_goal_leaves_there_is_none() {
    for excess in [-0.9, 0.0, 0.1, 1.02] {
        let verdict = Verdict::of_latency(excess, 1.0, late(0.51));
        assert_eq!(
            verdict.to_string(),
            "no verdict: the machine itself was late by 0.51 ms at p99"
        );
    }
    let median = Late { at: Quantile::P50, ms: 0.2 };
    assert_eq!(Verdict::of_latency(-0.1, 0.25, median), Verdict::Disturbed(median));
}

#[test]
fn what_the_machine_cannot_explain_is_missed_however_late_it_was() {
    // A p99 of 8.24 times the 0.30 ms with the fewest records, where 1.3 times were allowed.
    let (fewest, machine) = (0.30, 0.17);
    let verdict = Verdict::of_latency((8.24 - 1.3) * fewest, 0.3 * fewest, late(machine));
    assert_eq!(verdict, Verdict::Missed(Some(late(machine))));
    assert_eq!(Verdict::of_latency(1.03, 1.0, late(0.51)), Verdict::Missed(Some(late(0.51))));
    // No machine is so late that a goal is reached by that.
    assert_eq!(Verdict::of_latency(-5.0, 1.0, late(0.51)), Verdict::Disturbed(late(0.51)));
    // One that was not late at all explains nothing.
    assert_eq!(Verdict::of_latency(0.0, 1.0, late(0.0)), Verdict::Reached(Some(late(0.0))));
    assert_eq!(Verdict::of_latency(0.01, 1.0, late(0.0)), Verdict::Missed(Some(late(0.0))));
}

#[test]
fn a_rate_that_the_load_has_bound_is_known_from_below_only() {
    assert_eq!(Verdict::of_rate(true, true, false), Verdict::Reached(None));
    assert_eq!(Verdict::of_rate(false, true, false), Verdict::Bound);
    assert_eq!(Verdict::of_rate(true, false, true), Verdict::Bound);
    assert_eq!(Verdict::of_rate(false, false, true), Verdict::Missed(None));
}

#[test]
fn three_times_the_requests_leave_a_third_of_the_machine_for_each() {
    let most = allowed(3.0, 77.8 + 37.4, 16.0, 16.0);
    assert!((most - 27.73).abs() < 0.01, "{most}");
    let (other, own) = (77.8 + 37.4 + 16.0, most + 16.0);
    assert!((other / own - 3.0).abs() < 1e-9);
}

#[test]
fn a_verdict_says_why_there_is_none() {
    assert_eq!(Verdict::of(true).to_string(), "reached");
    assert_eq!(Verdict::of(false).to_string(), "MISSED");
    assert_eq!(Verdict::Errors("nginx".to_owned()).to_string(), "no verdict: errors of nginx");
    assert_eq!(Verdict::Unmeasured("nginx".to_owned()).to_string(), "not measured: nginx");
}
