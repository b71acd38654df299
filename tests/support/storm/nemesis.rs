//! What goes wrong, by a seed.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::fleet::Fleet;
use crate::support::redis::Server;

/// Which disasters there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Faults {
    /// Gates are killed, paused and cut off from Redis, and Redis is paused, one
    /// thing after the other with this long between their beginnings, and at least
    /// each of [`ROUND`] once.
    Everything(Duration),
    /// Gates are terminated and started again, one by one.
    RollingRestart,
}

/// One of them.
#[derive(Clone, Copy, Debug)]
enum Disaster {
    Kill,
    Pause,
    CutLink,
    HoldReplies,
    LoseReply,
    PauseRedis,
}

/// What happens in a round, in an order of the seed: which disasters there are is not
/// left to luck, since a run without a killed gate would prove little.
const ROUND: [Disaster; 10] = [
    Disaster::Kill,
    Disaster::Kill,
    Disaster::Pause,
    Disaster::Pause,
    Disaster::Pause,
    Disaster::CutLink,
    Disaster::HoldReplies,
    Disaster::LoseReply,
    Disaster::LoseReply,
    Disaster::PauseRedis,
];

/// What was done.
#[derive(Debug, Default)]
pub struct Struck {
    pub disasters: usize,
    pub exit_codes: Vec<i32>,
}

/// Strikes until it is time, and heals everything.
pub async fn strike(
    faults: Faults,
    seed: u64,
    fleet: &Arc<Fleet>,
    redis: &Server,
    until: Instant,
) -> Struck {
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut struck, mut round) = (Struck::default(), ROUND);
    match faults {
        Faults::Everything(every) => {
            while Instant::now() < until || struck.disasters < ROUND.len() {
                let place = struck.disasters % ROUND.len();
                if place == 0 {
                    random.shuffle(&mut round);
                }
                let next = Instant::now() + every;
                one(round[place], &mut random, fleet, redis).await;
                tokio::time::sleep(next.saturating_duration_since(Instant::now())).await;
                struck.disasters += 1;
            }
        }
        Faults::RollingRestart => {
            while Instant::now() < until {
                let gate = struck.disasters % fleet.len();
                let code = blocking(fleet, move |fleet| {
                    let code = fleet.terminate(gate);
                    fleet.launch(gate);
                    code
                });
                struck.exit_codes.extend(code.await);
                // What deploys wait for, before they go on with the next one.
                tokio::time::sleep(Duration::from_millis(200)).await;
                struck.disasters += 1;
            }
        }
    }
    struck
}

async fn one(disaster: Disaster, random: &mut fastrand::Rng, fleet: &Arc<Fleet>, redis: &Server) {
    let gate = random.usize(0..fleet.len());
    let short = Duration::from_millis(random.u64(50..400));
    let long = Duration::from_millis(random.u64(200..1500));
    match disaster {
        // The first gate lives throughout, so that its memory can be looked at.
        Disaster::Kill if fleet.len() > 1 => {
            let gate = random.usize(1..fleet.len());
            blocking(fleet, move |fleet| fleet.kill(gate)).await;
            tokio::time::sleep(short).await;
            blocking(fleet, move |fleet| fleet.launch(gate)).await;
        }
        Disaster::Kill | Disaster::Pause => {
            fleet.pause(gate);
            tokio::time::sleep(long).await;
            fleet.resume(gate);
        }
        Disaster::CutLink => {
            fleet.link(gate).cut();
            tokio::time::sleep(short).await;
            fleet.link(gate).release();
        }
        Disaster::HoldReplies => {
            fleet.link(gate).hold();
            tokio::time::sleep(short).await;
            fleet.link(gate).release();
        }
        Disaster::LoseReply => fleet.link(gate).lose_next_reply(),
        Disaster::PauseRedis => {
            let id = Pid::from_raw(redis.id()).unwrap();
            kill_process(id, Signal::STOP).unwrap();
            tokio::time::sleep(short).await;
            kill_process(id, Signal::CONT).unwrap();
        }
    }
}

async fn blocking<T: Send + 'static>(
    fleet: &Arc<Fleet>,
    work: impl FnOnce(&Fleet) -> T + Send + 'static,
) -> T {
    let fleet = Arc::clone(fleet);
    tokio::task::spawn_blocking(move || work(&fleet)).await.unwrap()
}
