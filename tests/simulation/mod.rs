//! A deterministic simulation of gates, one store, one backend, and clients that
//! retry, under faults.
//!
//! The layer is the real one. Everything around it is simulated: the clock is
//! tokio's paused one, which advances when nothing can run; the store is a
//! [`MemoryStore`](oncegate::store::MemoryStore) behind a [network](store) that
//! delays, loses and repeats; the [backend] keeps a ledger. One `u64` decides
//! everything, so the seed that fails is the seed that replays.
//!
//! Read in this order: [`scenario`] is what a seed draws; [`world`] is what all
//! parts share; [`node`] is a process that can be paused and killed; [`store`] and
//! [`backend`] are what it talks to; [`client`] and [`nemesis`] act; [`checker`]
//! judges what clients [observed]; [`campaign`] runs
//! many.
//!
//! What takes part in the order of events must not draw from tokio's own
//! randomness: followers of a key wait on a `watch`, whose wakers fire in a random
//! order, so all clients live in one task that polls them in their order.

pub mod backend;
pub mod campaign;
pub mod checker;
pub mod client;
pub mod faults;
pub mod nemesis;
pub mod node;
pub mod observed;
pub mod rng;
pub mod scenario;
pub mod store;
pub mod world;

use std::sync::Arc;

use checker::Violation;
use faults::Faults;
use scenario::Scenario;
use world::World;

/// What one seed showed.
pub struct Report {
    /// The promises that were broken, the first one first.
    pub violations: Vec<Violation>,
    /// The faults that happened.
    pub faults: Faults,
    /// Requests of clients.
    pub requests: usize,
    /// What happened, if it was traced.
    pub log: Vec<String>,
}

impl Report {
    /// Whether any promise was broken.
    pub fn is_broken(&self) -> bool {
        !self.violations.is_empty()
    }
}

/// Runs one seed in a runtime of its own.
pub fn run(seed: u64, traced: bool) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O needs nothing of the system");
    let scenario = Scenario::draw(seed);
    let world = runtime.block_on(async {
        let world = World::new(scenario, traced);
        live(&world).await;
        world
    });
    world.end();
    // What still hangs in dead processes goes with the runtime.
    drop(runtime);
    world.report()
}

async fn live(world: &Arc<World>) {
    world.start_gates();
    let nemesis = tokio::spawn(nemesis::run(Arc::clone(world)));
    client::all(world).await;
    nemesis.await.expect("the nemesis does not panic");
    checker::heal_and_judge(world).await;
}
