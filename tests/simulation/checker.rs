//! What was promised, and whether it was kept.
//!
//! | rule | promise |
//! |---|---|
//! | [`Once`](Rule::Once) | a key is executed at most once |
//! | [`Same`](Rule::Same) | who has seen a recorded answer sees it again, byte by byte, and nothing else |
//! | [`Whole`](Rule::Whole) | an answer is what the backend said, all of it |
//! | [`Live`](Rule::Live) | every request is answered, every process stops, in bounded time |
//! | [`Settled`](Rule::Settled) | nothing stays pending, and nothing is held once all is quiet |
//! | [`Unexecuted`](Rule::Unexecuted) | who was told "not executed" was not executed |
//! | [`Fingerprint`](Rule::Fingerprint) | another request with the key of an executed one is refused |
//! | [`Finished`](Rule::Finished) | a dispatch is finished whatever its client does |
//! | [`Known`](Rule::Known) | an outcome is unknown for a reason only |
//!
//! What is allowed after a recorded answer was seen, besides the answer: that the
//! process is gone or going, that the store does not answer, and `key-in-use` from
//! a process that asked the store before. Once all is quiet, none of these is.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use oncegate::{engine::record::Record, store::Store as _};
use tokio::time::{Instant, sleep};

use super::{
    backend::found_as,
    client,
    observed::Observed,
    scenario::Variant,
    world::{State, World},
};

/// A promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    Once,
    Same,
    Whole,
    Live,
    Settled,
    Unexecuted,
    Fingerprint,
    Finished,
    Known,
}

/// A promise that was broken.
#[derive(Clone, Debug)]
pub struct Violation {
    pub rule: Rule,
    pub what: String,
}

/// A request of a client.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub key: usize,
    pub variant: Variant,
    pub start: Instant,
    pub end: Option<Instant>,
    pub observed: Option<Observed>,
}

/// Ends all faults, waits until everything must be quiet, asks for every key once
/// more, and judges.
pub async fn heal_and_judge(world: &Arc<World>) {
    /// More than all clocks differ.
    const QUIET: Duration = Duration::from_secs(4 * 3600);
    world.note(|| "healed".to_owned());
    world.state().healed = true;
    // What is on its way arrives; what has a lease loses it.
    sleep(world.scenario.bound()).await;
    gates_are_idle(world);
    sleep(QUIET).await;
    nothing_is_pending(world).await;
    probe(world).await;
    judge(world);
}

fn gates_are_idle(world: &World) {
    let slots = world.state().slots.clone();
    for slot in slots.iter().flatten().filter(|slot| slot.node.is_running()) {
        let (pending, buffered) = (slot.gate.pending(), slot.gate.buffered());
        if (pending, buffered) != (0, 0) {
            let what = format!("gate {}: {pending} keys, {buffered} bytes held", slot.node.id);
            world.violated(Rule::Settled, what);
        }
    }
}

async fn nothing_is_pending(world: &World) {
    for (name, key) in world.keys() {
        let record = world.records.get(name).await.expect("memory does not fail");
        world.note(|| format!("key {key} ends as {record:?}"));
        let now = oncegate::ambient::Ambient::now(&world.store_clock);
        let is_unknown = match record {
            Some(Record::Pending(pending)) if now <= pending.lease_until => {
                world.violated(Rule::Settled, format!("key {key} stays pending"));
                false
            }
            Some(Record::Pending(_) | Record::Unknown(_)) => true,
            Some(Record::Done(_) | Record::Expired(_)) | None => false,
        };
        if is_unknown && !is_doubtful(world, key) {
            world.violated(Rule::Known, format!("key {key} is unknown and nothing happened"));
        }
    }
}

/// Whether anything happened that leaves the outcome of a key unknown: trouble with
/// the store or the backend, an owner that was harmed, a clock that stepped.
pub fn is_doubtful(world: &World, key: usize) -> bool {
    let state = world.state();
    let mut owners = state.claims.iter().filter(|(claimed, _)| *claimed == key);
    state.excused[key]
        || state.doubted[key]
        || world.scenario.steps_clocks()
        || owners.any(|(_, node)| !node.is_unharmed())
}

/// Asks for every key in every place, twice.
async fn probe(world: &Arc<World>) {
    for key in 0..world.scenario.keys {
        for slot in 0..world.scenario.gates {
            for _ in 0..2 {
                let variant = {
                    let state = world.state();
                    let row = state.ledger.iter().find(|row| row.key == key);
                    row.map_or(Variant::Original, |row| row.variant)
                };
                let before = seen_by_now(&world.state(), key);
                let observed = client::attempt(world, key, variant, slot, None).await;
                let expired = world.scenario.is_short_lived() && observed == Observed::Expired;
                let is_kept = before.is_none_or(|before| before == observed) || expired;
                if !is_kept || observed == Observed::InUse {
                    world.violated(Rule::Same, format!("key {key}: at last {observed:?}"));
                }
            }
        }
    }
}

/// The recorded answer that somebody has seen.
fn seen_by_now(state: &State, key: usize) -> Option<Observed> {
    let of_key = state.attempts.iter().filter(|attempt| attempt.key == key);
    let mut seen = of_key.filter_map(|attempt| attempt.observed.as_ref());
    seen.find(|observed| observed.is_recorded()).cloned()
}

/// Judges the whole history.
fn judge(world: &World) {
    let mut state = world.state();
    let mut found = Vec::new();
    for key in 0..world.scenario.keys {
        judge_key(&state, key, world.scenario.is_short_lived(), &mut found);
    }
    for violation in &found {
        drop(state);
        world.note(|| format!("VIOLATED {:?}: {}", violation.rule, violation.what));
        state = world.state();
    }
    state.violations.extend(found);
}

fn judge_key(state: &State, key: usize, short_lived: bool, found: &mut Vec<Violation>) {
    let mut violated = |rule, what| found.push(Violation { rule, what });
    let rows: Vec<_> = state.ledger.iter().enumerate().filter(|(_, row)| row.key == key).collect();
    if rows.len() > 1 {
        violated(Rule::Once, format!("key {key} was executed {} times", rows.len()));
    }
    let attempts = || {
        let all = state.attempts.iter().enumerate();
        all.filter(|(_, attempt)| attempt.key == key).filter_map(|(number, attempt)| {
            Some((number, attempt, attempt.observed.as_ref()?, attempt.end?))
        })
    };
    let seen = attempts()
        .filter(|(_, _, observed, _)| observed.is_recorded())
        .min_by_key(|(.., end)| *end);
    for (number, attempt, observed, _) in attempts() {
        if let Observed::Strange(status, outcome) = observed {
            violated(Rule::Whole, format!("request {number} got {status}, {outcome:?}"));
        }
        if observed.denies() && rows.iter().any(|(_, row)| row.attempt == number) {
            violated(Rule::Unexecuted, format!("request {number} was told {observed:?}"));
        }
        if let Observed::Recorded(status, body) | Observed::Delivered(status, body) = observed {
            let row = rows.iter().find(|(index, row)| {
                (row.status, &row.body) == (*status, body)
                    || (StatusCode::OK, &found_as(*index)) == (*status, body)
            });
            match row {
                None => violated(Rule::Whole, format!("request {number} got {observed:?}")),
                Some((_, row)) if row.variant != attempt.variant => {
                    violated(Rule::Fingerprint, format!("request {number} got {observed:?}"));
                }
                Some(_) => {}
            }
        }
        let is_other = rows
            .first()
            .is_some_and(|(_, row)| row.at < attempt.start && row.variant != attempt.variant);
        if is_other && !may_be_told_another(observed) {
            violated(Rule::Fingerprint, format!("request {number} was told {observed:?}"));
        }
        if let Some((first, first_attempt, recorded, end)) = seen
            && attempt.variant == first_attempt.variant
            && attempt.start > end
            && !may_be_told_after(observed, recorded, short_lived)
        {
            let what =
                format!("request {first} saw {recorded:?}, request {number} then {observed:?}");
            violated(Rule::Same, what);
        }
        if let Some((.., recorded, _)) = seen
            && observed.is_recorded()
            && observed != recorded
        {
            violated(Rule::Same, format!("{recorded:?} and {observed:?}"));
        }
    }
}

/// Whether another request than the executed one may be told this.
fn may_be_told_another(observed: &Observed) -> bool {
    match observed {
        Observed::Broken
        | Observed::Left
        | Observed::Reused
        | Observed::InUse
        | Observed::StoreDown
        | Observed::ShuttingDown => true,
        Observed::Recorded(..)
        | Observed::Delivered(..)
        | Observed::Released
        | Observed::Unreachable
        | Observed::Lost
        | Observed::Unknown
        | Observed::NotStored
        | Observed::Expired
        | Observed::Strange(..) => false,
    }
}

/// Whether somebody may be told this after `recorded` was seen.
fn may_be_told_after(observed: &Observed, recorded: &Observed, short_lived: bool) -> bool {
    match observed {
        Observed::Broken
        | Observed::Left
        | Observed::StoreDown
        | Observed::ShuttingDown
        | Observed::InUse => true,
        Observed::Recorded(..) | Observed::NotStored => observed == recorded,
        Observed::Expired => short_lived,
        Observed::Delivered(..)
        | Observed::Released
        | Observed::Unreachable
        | Observed::Lost
        | Observed::Unknown
        | Observed::Reused
        | Observed::Strange(..) => false,
    }
}
