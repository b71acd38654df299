//! Clients: they send, lose patience, and send again.

use std::{pin::Pin, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use http::{Request, header::AUTHORIZATION};
use http_body_util::{BodyExt as _, Full};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tower::ServiceExt as _;

use super::{
    backend::ATTEMPT,
    checker::{Attempt, Rule, is_doubtful},
    faults::Fault,
    observed::Observed,
    scenario::{Plan, Variant},
    world::{Slot, World, name},
};

/// Runs all clients in one task, polled in their order: see the module's guide.
pub async fn all(world: &Arc<World>) {
    let mut clients: Vec<Option<Pin<Box<dyn Future<Output = ()>>>>> = Vec::new();
    for plan in &world.scenario.clients {
        clients.push(Some(Box::pin(one(world, plan))));
    }
    std::future::poll_fn(|cx| {
        for client in &mut clients {
            if client.as_mut().is_some_and(|running| running.as_mut().poll(cx).is_ready()) {
                *client = None;
            }
        }
        if clients.iter().all(Option::is_none) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

async fn one(world: &Arc<World>, plan: &Plan) {
    sleep_until(world.start + plan.start).await;
    for _ in 0..plan.tries {
        let (slot, leaves) = {
            let mut state = world.state();
            let slot = state.rng.count(0, world.scenario.gates - 1);
            let leaves = state.rng.chance(plan.impatience);
            let after = state.rng.duration(Duration::ZERO, world.scenario.lease);
            (slot, leaves.then_some(after))
        };
        let observed = attempt(world, plan.key, plan.variant, slot, leaves).await;
        let (content, pause) = {
            let mut state = world.state();
            let pause = state.rng.duration(Duration::ZERO, world.scenario.lease * 2);
            // Who has his answer asks once more only now and then.
            (observed.is_final() && state.rng.chance(500), pause)
        };
        if content {
            return;
        }
        sleep(pause).await;
    }
}

/// Sends one request and writes down what came back.
pub async fn attempt(
    world: &Arc<World>,
    key: usize,
    variant: Variant,
    slot: usize,
    leaves: Option<Duration>,
) -> Observed {
    let (number, place) = {
        let mut state = world.state();
        let number = state.attempts.len();
        let start = Instant::now();
        state.attempts.push(Attempt { key, variant, start, end: None, observed: None });
        (number, state.slots[slot].clone())
    };
    world.note(|| format!("request {number}: key {key}, {variant:?}, place {slot}"));
    let observed = match place {
        None => Observed::Broken,
        Some(place) => {
            let node = Arc::clone(&place.node);
            tokio::select! {
                biased;
                () = node.died() => Observed::Broken,
                () = leave(leaves) => {
                    world.count(Fault::ClientLeft);
                    Observed::Left
                }
                observed = timeout(world.scenario.bound(), send(place, key, variant, number)) => {
                    observed.unwrap_or_else(|_| {
                        world.violated(Rule::Live, format!("request {number} was not answered"));
                        Observed::Left
                    })
                }
            }
        }
    };
    world.note(|| format!("request {number} -> {observed:?}"));
    if observed == Observed::Unknown && !is_doubtful(world, key) {
        world.violated(Rule::Known, format!("request {number}: nothing happened to key {key}"));
    }
    let mut state = world.state();
    state.attempts[number].end = Some(Instant::now());
    state.attempts[number].observed = Some(observed.clone());
    observed
}

async fn leave(after: Option<Duration>) {
    match after {
        Some(after) => sleep(after).await,
        None => std::future::pending().await,
    }
}

async fn send(place: Slot, key: usize, variant: Variant, number: usize) -> Observed {
    let (body, principal) = match variant {
        Variant::Original => ("pay 10", "Bearer a"),
        Variant::OtherBody => ("pay 11", "Bearer a"),
        Variant::OtherPrincipal => ("pay 10", "Bearer b"),
    };
    let request = Request::post("/payments")
        .header("idempotency-key", name(key))
        .header(ATTEMPT, number)
        .header(AUTHORIZATION, principal)
        .body(Full::from(Bytes::from_static(body.as_bytes())))
        .expect("all parts are valid");
    let answer = match place.service.oneshot(request).await {
        Ok(answer) => answer,
        Err(error) => unreachable!("a keyed request always gets an answer: {error}"),
    };
    let (head, body) = answer.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes());
    place.node.proceed().await;
    Observed::of(&head, body.ok())
}
