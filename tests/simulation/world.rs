//! What all parts of one simulation share.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, atomic::AtomicU64},
};

use bytes::Bytes;
use http::{Request, StatusCode};
use oncegate::{
    Gate, IdempotencyLayer, IdempotencyService, Policy,
    engine::{fingerprint::Hasher, record::StoreKey},
    store::MemoryStore,
};
use tokio::time::Instant;
use tower::Layer as _;

use super::{
    Report,
    backend::Upstream,
    checker::{Attempt, Rule, Violation},
    faults::{Fault, Faults},
    node::{Clock, Node},
    rng::Rng,
    scenario::{Scenario, Variant},
    store::Link,
};

/// A simulation on its way.
pub struct World {
    pub scenario: Scenario,
    pub start: Instant,
    pub records: Arc<MemoryStore>,
    pub store_clock: Clock,
    pub policy: Arc<Policy>,
    tokens: Arc<AtomicU64>,
    keys: BTreeMap<StoreKey, usize>,
    state: Mutex<State>,
}

/// What changes.
pub struct State {
    pub rng: Rng,
    pub slots: Vec<Option<Slot>>,
    pub processes: usize,
    pub attempts: Vec<Attempt>,
    pub ledger: Vec<Execution>,
    pub violations: Vec<Violation>,
    pub faults: Faults,
    /// Keys whose outcome may be unknown for a reason.
    pub excused: Vec<bool>,
    /// Keys whose requests met trouble on their way to the backend or back.
    pub doubted: Vec<bool>,
    /// Keys with a request that was sent.
    pub dispatched: Vec<bool>,
    /// Which process claimed which key.
    pub claims: Vec<(usize, Arc<Node>)>,
    pub store_down_until: Instant,
    /// No more faults.
    pub healed: bool,
    /// The simulation is over, what is dropped now has no meaning.
    pub over: bool,
    log: Option<Vec<String>>,
}

/// A place behind the load balancer, and the process in it.
#[derive(Clone)]
pub struct Slot {
    pub node: Arc<Node>,
    pub gate: Gate,
    pub service: IdempotencyService<Upstream>,
}

/// A row of the backend's ledger.
#[derive(Clone, Debug)]
pub struct Execution {
    pub key: usize,
    /// The request that was executed.
    pub attempt: usize,
    pub variant: Variant,
    pub at: Instant,
    pub status: StatusCode,
    pub body: Bytes,
}

impl World {
    pub fn new(scenario: Scenario, traced: bool) -> Arc<Self> {
        let start = Instant::now();
        let tokens = Arc::default();
        let store_clock = Clock::new(start, Arc::clone(&tokens));
        let hasher = Hasher::new(b"");
        let (head, ()) = Request::new(()).into_parts();
        let keys =
            (0..scenario.keys).map(|key| (hasher.store_key(&[], &head, &name(key)), key)).collect();
        let state = State {
            rng: scenario.rng.clone(),
            slots: vec![None; scenario.gates],
            processes: 0,
            attempts: Vec::new(),
            ledger: Vec::new(),
            violations: Vec::new(),
            faults: Faults::default(),
            excused: vec![false; scenario.keys],
            doubted: vec![false; scenario.keys],
            dispatched: vec![false; scenario.keys],
            claims: Vec::new(),
            store_down_until: start,
            healed: false,
            over: false,
            log: traced.then(Vec::new),
        };
        let this = Arc::new(Self {
            records: Arc::new(MemoryStore::new(Arc::new(store_clock.clone()))),
            policy: Arc::new(scenario.policy()),
            scenario,
            start,
            store_clock,
            tokens,
            keys,
            state: Mutex::new(state),
        });
        this.note(|| format!("{:#?}", this.scenario));
        this
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it is held")
    }

    /// The number of a key by the name that the store knows.
    pub fn key(&self, key: &StoreKey) -> usize {
        self.keys[key]
    }

    /// The names that the store knows, with their numbers.
    pub fn keys(&self) -> impl Iterator<Item = (&StoreKey, usize)> {
        self.keys.iter().map(|(key, number)| (key, *number))
    }

    pub fn start_gates(self: &Arc<Self>) {
        for slot in 0..self.scenario.gates {
            self.start_gate(slot);
        }
    }

    /// A new process in a place.
    pub fn start_gate(self: &Arc<Self>, slot: usize) {
        let id = self.state().processes;
        let node = Node::new(id, Clock::new(self.start, Arc::clone(&self.tokens)));
        let link = Link::new(self, &node);
        let gate = Gate::builder(link)
            .ambient(Arc::new(node.clock()))
            .cache(self.scenario.cache)
            .node("simulated")
            .build();
        let layer = IdempotencyLayer::new(gate.clone(), Arc::clone(&self.policy));
        let service = layer.layer(Upstream::new(self, &node));
        let mut state = self.state();
        state.processes += 1;
        state.slots[slot] = Some(Slot { node, gate, service });
        drop(state);
        self.note(|| format!("gate {id} starts in place {slot}"));
    }

    /// The process ends by itself, and a new one takes its place after a while.
    pub fn die(self: &Arc<Self>, node: &Arc<Node>) {
        if node.is_dead() {
            return;
        }
        self.count(Fault::GateDied);
        self.note(|| format!("gate {} dies at a store operation", node.id));
        node.kill();
        let (world, dead) = (Arc::clone(self), Arc::clone(node));
        tokio::spawn(async move {
            tokio::time::sleep(world.scenario.lease / 2).await;
            let slots = world.state().slots.clone();
            let place = slots
                .iter()
                .position(|slot| slot.as_ref().is_some_and(|slot| Arc::ptr_eq(&slot.node, &dead)));
            if let Some(slot) = place {
                world.start_gate(slot);
            }
        });
    }

    /// A row in the ledger.
    pub fn execute(&self, attempt: usize, status: StatusCode) -> Bytes {
        let mut state = self.state();
        let Attempt { key, variant, .. } = state.attempts[attempt];
        let number = state.ledger.len();
        let body = Bytes::from(format!("{number}: key {key} as request {attempt} asked"));
        let at = Instant::now();
        state.ledger.push(Execution { key, attempt, variant, at, status, body: body.clone() });
        drop(state);
        self.note(|| format!("EXECUTED request {attempt}, key {key}: row {number}"));
        body
    }

    /// Counts a fault.
    pub fn count(&self, fault: Fault) {
        self.state().faults.add(fault);
    }

    pub fn violated(&self, rule: Rule, what: String) {
        self.note(|| format!("VIOLATED {rule:?}: {what}"));
        self.state().violations.push(Violation { rule, what });
    }

    /// Writes down what happens, if somebody wants to read it.
    pub fn note(&self, what: impl FnOnce() -> String) {
        let mut state = self.state();
        if state.log.is_none() {
            return;
        }
        let at = self.start.elapsed().as_millis();
        drop(state);
        let what = what();
        state = self.state();
        if let Some(log) = &mut state.log {
            log.push(format!("{:>6}.{:03} {what}", at / 1000, at % 1000));
        }
    }

    /// What is dropped from now on has no meaning.
    pub fn end(&self) {
        let mut state = self.state();
        state.over = true;
        let slots = std::mem::take(&mut state.slots);
        drop(state);
        drop(slots);
    }

    pub fn report(&self) -> Report {
        let mut state = self.state();
        Report {
            violations: std::mem::take(&mut state.violations),
            faults: state.faults.clone(),
            requests: state.attempts.len(),
            log: state.log.take().unwrap_or_default(),
        }
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "World({})", self.scenario.seed)
    }
}

/// What clients call a key.
pub fn name(key: usize) -> String {
    format!("key-{key}")
}
