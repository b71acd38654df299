//! What a reader should know beside the goals that compare requests/s with those of
//! idempotent-proxy, both on Redis: how the two compare by processor time, what the goal for
//! first requests means in processor time, and how they compare where both are in memory.

use crate::{
    balance::allowed,
    goals::{FIRST, FIRST_IN_REDIS, FIRST_OVER_RIVAL, sound},
    measure::Cost,
    results::Results,
    rows,
};

/// A line for each that there are figures for.
pub(crate) fn remarks(results: &Results) -> Vec<String> {
    let remarks = [costs_beside_rival(results), share_of_machine(results), in_memory(results)];
    remarks.into_iter().flatten().collect()
}

/// The ratios of processor time, which hardly depend on how many connections there are.
fn costs_beside_rival(results: &Results) -> Option<String> {
    let pairs = [
        ("a replay from Redis", rows::REPLAY_REDIS, rows::RIVAL_REPLAY),
        ("a first request", rows::FIRST_REDIS, rows::RIVAL_FIRST),
    ];
    let parts = pairs.map(|(what, gate, rival)| {
        let (gate, rival) = (sound(results, gate).ok()?, sound(results, rival).ok()?);
        let both = |cost: &Cost| Some(cost.cpu + cost.redis?);
        let ratio = rival.over(both, gate, both)?;
        let figures = [rival.cpu()?, rival.redis()?, gate.cpu()?, gate.redis()?];
        let [rival, its_redis, own, redis] = figures;
        Some(format!(
            "{ratio:.2} x for {what} ({rival:.1} + {its_redis:.1} us beside {own:.1} + {redis:.1})"
        ))
    });
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| {
        format!(
            "Processor time of server and Redis per request, idempotent-proxy / oncegate: {}.",
            parts.join(", ")
        )
    })
}

/// What gate and Redis may take for the goal of so many times the rival's first requests.
fn share_of_machine(results: &Results) -> Option<String> {
    let row = |id| sound(results, id).ok();
    let (gate, rival) = (row(rows::FIRST_REDIS)?, row(rows::RIVAL_FIRST)?);
    let (around, around_rival) = (gate.around()?, rival.around()?);
    let (own, others) = (gate.cpu()? + gate.redis()?, rival.cpu()? + rival.redis()?);
    let allowed = allowed(FIRST_OVER_RIVAL, others, around_rival, around);
    let goals = (FIRST + FIRST_IN_REDIS) * row(rows::PASS)?.cpu()?;
    Some(format!(
        "For {FIRST_OVER_RIVAL} x the first requests/s of idempotent-proxy at equal use of the \
         machine, gate and Redis may take {allowed:.1} us together, beside {around:.1} of load and \
         backend; they take {own:.1}, and the goals of {FIRST} x and {FIRST_IN_REDIS} x allow \
         {goals:.1}."
    ))
}

/// The same two in memory. A replay is one from the gate's cache, on one thread: what lies
/// behind the cache is not asked.
fn in_memory(results: &Results) -> Option<String> {
    let pairs = [
        ("replays", rows::CACHED, rows::RIVAL_REPLAY_MEMORY),
        ("first requests", rows::FIRST_MEMORY, rows::RIVAL_FIRST_MEMORY),
    ];
    let parts = pairs.map(|(what, gate, rival)| {
        let (gate, rival) = (sound(results, gate).ok()?, sound(results, rival).ok()?);
        let rates = gate.over(|cost| Some(cost.rate), rival, |cost| Some(cost.rate))?;
        let cpu = rival.over(|cost| Some(cost.cpu), gate, |cost| Some(cost.cpu))?;
        let bound = if gate.is_bound_by_load() || rival.is_bound_by_load() {
            ", where the load was the limit"
        } else {
            ""
        };
        Some(format!(
            "{rates:.2} x as many {what} a second{bound}, for which idempotent-proxy takes {cpu:.2} \
             x the processor time ({:.1} us beside {:.1})",
            rival.cpu()?,
            gate.cpu()?
        ))
    });
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| {
        format!(
            "In memory, oncegate (its replays on one thread) / idempotent-proxy: {}.",
            parts.join("; ")
        )
    })
}
