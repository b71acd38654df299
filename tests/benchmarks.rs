//! What the benchmarks make of their figures.

#[path = "../benches/side_by_side/executed.rs"]
mod executed;

use self::executed::{Promise, astray};

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
