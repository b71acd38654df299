//! What one seed draws before anything runs.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use oncegate::{
    OnConflict, OnUnknown, Policy,
    engine::reconcile::{Matcher, Reconcile},
};

use super::rng::Rng;

const HOUR: Duration = Duration::from_secs(3600);

/// One small world.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub seed: u64,
    pub gates: usize,
    pub keys: usize,
    pub rule: Rule,
    pub shape: Shape,
    pub lease: Duration,
    pub on_conflict: OnConflict,
    pub response_timeout: Option<Duration>,
    /// Short ones pass while clients still retry; then `key-expired` is an answer too.
    pub retention: Duration,
    pub cache: usize,
    /// Store operations in a thousand that meet a fault.
    pub store_faults: u64,
    /// Dispatches in a thousand that meet a fault.
    pub backend_faults: u64,
    /// Store operations in a hundred thousand at which their process dies.
    pub deaths: u64,
    pub clients: Vec<Plan>,
    pub moves: Vec<(Duration, Move)>,
    /// Decisions that are taken while it runs.
    pub rng: Rng,
}

/// The policy for unknown outcomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    Hold,
    Reconcile,
}

/// The kind of response that the backend gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Plain,
    /// An event stream: it reaches the client while it is made.
    Live,
    /// Longer than the policy records.
    Large,
}

/// What one client does.
#[derive(Clone, Debug)]
pub struct Plan {
    pub key: usize,
    pub variant: Variant,
    pub start: Duration,
    pub tries: usize,
    /// Requests in a thousand of which the client does not await the answer.
    pub impatience: u64,
}

/// Which request goes with the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    Original,
    OtherBody,
    OtherPrincipal,
}

/// A blow at a gate or at the store.
#[derive(Clone, Copy, Debug)]
pub enum Move {
    /// The process is gone; a new one takes its place after a while.
    Kill { slot: usize, back_after: Duration },
    /// The process stands still.
    Pause { slot: usize, length: Duration },
    /// The process is told to go, and a new one takes its place.
    Drain { slot: usize, limit: Duration },
    /// The store refuses connections.
    StoreDown { length: Duration },
    /// A gate's wall clock jumps, in milliseconds.
    GateClock { slot: usize, by: i64 },
    /// An operator looks at a key, and says what he can find out.
    Operator { slot: usize, key: usize },
    /// The store's wall clock jumps, in milliseconds.
    StoreClock { by: i64 },
}

impl Scenario {
    pub fn draw(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let gates = rng.count(1, 4);
        let keys = rng.pick(&[1, 1, 1, 2, 2, 3, 6]);
        let rule = rng.pick(&[Rule::Hold, Rule::Hold, Rule::Reconcile]);
        let lease = Duration::from_millis(rng.between(6, 60) * 100);
        let on_conflict = match rng.count(0, 2) {
            0 => OnConflict::Reject,
            _ => OnConflict::Wait(rng.duration(Duration::from_millis(100), lease * 3)),
        };
        let response_timeout =
            rng.chance(250).then(|| rng.duration(Duration::from_millis(100), lease * 2));
        let retention = if rng.chance(100) { lease * 4 } else { 24 * HOUR };
        let span = lease * 6;
        let count = rng.count(1, 8);
        let mut clients: Vec<Plan> = Vec::with_capacity(count + 2);
        for _ in 0..count {
            let plan = Plan {
                key: rng.count(0, keys - 1),
                variant: match rng.count(0, 11) {
                    0 => Variant::OtherBody,
                    1 => Variant::OtherPrincipal,
                    _ => Variant::Original,
                },
                start: rng.duration(Duration::ZERO, span),
                tries: rng.count(1, 4),
                impatience: rng.pick(&[0, 0, 150, 600]),
            };
            // A double click: the same at the same moment, wherever it arrives.
            if rng.chance(200) {
                clients.push(plan.clone());
            }
            clients.push(plan);
        }
        let mut this = Self {
            seed,
            gates,
            keys,
            rule,
            shape: rng.pick(&[
                Shape::Plain,
                Shape::Plain,
                Shape::Plain,
                Shape::Plain,
                Shape::Plain,
                Shape::Plain,
                Shape::Live,
                Shape::Large,
            ]),
            lease,
            on_conflict,
            response_timeout,
            retention,
            cache: rng.pick(&[0, 1 << 16]),
            store_faults: rng.pick(&[0, 0, 30, 150, 400]),
            backend_faults: rng.pick(&[0, 150, 400, 800]),
            deaths: rng.pick(&[0, 0, 2_000, 10_000]),
            clients,
            moves: Vec::new(),
            rng: Rng::new(0),
        };
        this.draw_moves(&mut rng, span);
        this.rng = rng;
        this
    }

    fn draw_moves(&mut self, rng: &mut Rng, span: Duration) {
        let mut paused = [false; 4];
        let mut stepped = [false; 4];
        let mut store_stepped = false;
        for _ in 0..rng.pick(&[0, 0, 1, 2, 4]) {
            let at = rng.duration(Duration::ZERO, span);
            let slot = rng.count(0, self.gates - 1);
            let hour = HOUR.as_millis() as u64;
            let by = rng.between(0, 2 * hour) as i64 - hour as i64;
            let next = match rng.count(0, 8) {
                0 => Move::Kill { slot, back_after: rng.duration(Duration::ZERO, self.lease) },
                1 | 2 if !std::mem::replace(&mut paused[slot], true) => {
                    Move::Pause { slot, length: rng.duration(Duration::ZERO, self.longest_pause()) }
                }
                3 => Move::Drain { slot, limit: rng.duration(Duration::ZERO, self.lease) },
                4 => Move::StoreDown { length: rng.duration(Duration::ZERO, self.lease * 2) },
                5 if !std::mem::replace(&mut stepped[slot], true) => Move::GateClock { slot, by },
                // A step of the clock by which the quiescence is measured lies outside
                // the promise of `reconcile`.
                6 if self.rule == Rule::Hold && !std::mem::replace(&mut store_stepped, true) => {
                    Move::StoreClock { by }
                }
                7 | 8 => Move::Operator { slot, key: rng.count(0, self.keys - 1) },
                _ => continue,
            };
            self.moves.push((at, next));
        }
        self.moves.sort_by_key(|(at, _)| *at);
    }

    pub fn longest_pause(&self) -> Duration {
        self.lease * 4
    }

    /// One leg of a store operation.
    pub fn longest_leg(&self) -> Duration {
        self.lease * 3 / 2
    }

    /// From the sending of a request to its execution, and as long again to the
    /// response.
    pub fn longest_flight(&self) -> Duration {
        self.lease * 2
    }

    /// After this long every request has its answer: conflict patience, a few store
    /// operations, a dispatch, and every pause there is.
    pub fn bound(&self) -> Duration {
        let patience = match self.on_conflict {
            OnConflict::Wait(limit) => limit,
            OnConflict::Reject => Duration::ZERO,
        };
        patience + 60 * self.lease + 4 * self.longest_pause()
    }

    /// Whether a wall clock steps.
    pub fn steps_clocks(&self) -> bool {
        let steps = |next: &Move| matches!(next, Move::GateClock { .. } | Move::StoreClock { .. });
        self.moves.iter().any(|(_, next)| steps(next))
    }

    pub fn is_short_lived(&self) -> bool {
        self.retention < HOUR
    }

    pub fn policy(&self) -> Policy {
        Policy {
            on_conflict: self.on_conflict,
            on_unknown: match self.rule {
                Rule::Hold => OnUnknown::Hold,
                Rule::Reconcile => OnUnknown::Reconcile(Arc::new(self.reconcile())),
            },
            lease: self.lease,
            response_timeout: self.response_timeout,
            retention: self.retention,
            max_response_body: match self.shape {
                Shape::Plain | Shape::Live => 1 << 20,
                Shape::Large => 16,
            },
            problem_base: String::new(),
            ..Policy::default()
        }
    }

    /// The quiescence covers what lies between the last word of an owner and the
    /// execution of his request: the lease within which he sends, the longest reply
    /// of the store, a pause right before the first byte, and the way.
    fn reconcile(&self) -> Reconcile {
        let status = |status| Matcher { status: vec![status], json: None, equals: None };
        Reconcile {
            request: "GET /executions/{key}".parse().expect("it is a template"),
            executed: status(StatusCode::OK),
            not_executed: status(StatusCode::NOT_FOUND),
            quiescence: self.lease
                + self.longest_leg() * 2
                + self.longest_pause()
                + self.longest_flight(),
            timeout: self.lease,
        }
    }
}
