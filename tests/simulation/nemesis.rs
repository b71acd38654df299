//! Who strikes at gates and clocks at the times that the scenario says.

use std::sync::Arc;

use http::Response;
use oncegate::{Resolution, Resolved, engine::record::StoredResponse};
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    backend::found_as,
    checker::Rule,
    faults::Fault,
    scenario::Move,
    world::{Slot, World},
};

/// Strikes, and ends when every blow has passed.
pub async fn run(world: Arc<World>) {
    let mut blows = Vec::new();
    for (at, next) in world.scenario.moves.clone() {
        sleep_until(world.start + at).await;
        world.note(|| format!("nemesis: {next:?}"));
        blows.push(tokio::spawn(strike(Arc::clone(&world), next)));
    }
    for blow in blows {
        blow.await.expect("a blow does not panic");
    }
}

async fn strike(world: Arc<World>, next: Move) {
    match next {
        Move::Kill { slot, back_after } => {
            let Some(Slot { node, .. }) = take(&world, slot) else { return };
            world.count(Fault::GateKilled);
            node.kill();
            sleep(back_after).await;
            world.start_gate(slot);
        }
        Move::Pause { slot, length } => {
            let Some(Slot { node, .. }) = peek(&world, slot) else { return };
            world.count(Fault::GatePaused);
            node.pause();
            sleep(length).await;
            node.resume();
        }
        Move::Drain { slot, limit } => {
            let Some(Slot { node, gate, .. }) = peek(&world, slot) else { return };
            if !node.is_running() {
                return;
            }
            world.count(Fault::GateDrained);
            let told = Instant::now();
            node.drain(told + limit);
            let given_up = gate.drain(limit).await;
            world.note(|| format!("gate {} is drained, {given_up} given up", node.id));
            if told.elapsed() > limit + std::time::Duration::from_secs(6) {
                world.violated(Rule::Live, format!("gate {} did not stop in time", node.id));
            }
            if !node.is_dead() {
                node.kill();
                world.start_gate(slot);
            }
        }
        Move::StoreDown { length } => {
            let until = Instant::now() + length;
            let mut state = world.state();
            state.store_down_until = state.store_down_until.max(until);
        }
        Move::GateClock { slot, by } => {
            let Some(Slot { node, .. }) = peek(&world, slot) else { return };
            world.count(Fault::GateClockStepped);
            node.step_clock(by);
        }
        Move::Operator { slot, key } => {
            let Some(place) = peek(&world, slot) else { return };
            tokio::select! {
                biased;
                () = place.node.died() => {}
                () = resolve(&world, &place, key) => {}
            }
        }
        Move::StoreClock { by } => {
            world.count(Fault::StoreClockStepped);
            world.store_clock.step(by);
        }
    }
}

/// An operator looks at a key whose outcome is unknown, looks into the ledger, and
/// says what he found. That nothing was executed he knows only if nothing was sent
/// and whoever might still send is gone.
async fn resolve(world: &World, place: &Slot, key: usize) {
    let Some((name, _)) = world.keys().find(|(_, number)| *number == key) else { return };
    let Ok(Some(record)) = place.gate.store().get(name).await else { return };
    let resolution = {
        let state = world.state();
        let mut owners = state.claims.iter().filter(|(claimed, _)| *claimed == key);
        match state.ledger.iter().position(|row| row.key == key) {
            Some(row) => {
                let head = Response::new(()).into_parts().0;
                Resolution::Executed(StoredResponse::new(head, found_as(row), None))
            }
            None if !state.dispatched[key] && owners.all(|(_, node)| node.is_dead()) => {
                Resolution::NotExecuted
            }
            None => return,
        }
    };
    let resolved = place.gate.resolve(name, record.fence(), resolution, &world.policy).await;
    world.note(|| format!("operator, key {key}: {resolved:?}"));
    if matches!(resolved, Ok(Resolved::Applied)) {
        world.count(Fault::OperatorResolved);
    }
}

fn peek(world: &World, slot: usize) -> Option<Slot> {
    world.state().slots[slot].clone()
}

fn take(world: &World, slot: usize) -> Option<Slot> {
    let mut state = world.state();
    let running = state.slots[slot].as_ref().is_some_and(|slot| !slot.node.is_dead());
    if running { state.slots[slot].take() } else { None }
}
