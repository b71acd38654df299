//! A process: it runs, stands still, or is gone.

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
};

use oncegate::{
    ambient::Ambient,
    engine::record::{Timestamp, Token},
};
use tokio::{sync::Notify, time::Instant};

/// One process that runs a gate.
pub struct Node {
    /// Counts processes, not places.
    pub id: usize,
    status: Mutex<Status>,
    changed: Notify,
    /// It was paused, told to go, or killed.
    harmed: AtomicBool,
    clock: Clock,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Running,
    /// Told to go at this time.
    Draining(Instant),
    Paused,
    Dead,
}

impl Node {
    pub fn new(id: usize, clock: Clock) -> Arc<Self> {
        let status = Mutex::new(Status::Running);
        Arc::new(Self { id, status, changed: Notify::new(), harmed: AtomicBool::new(false), clock })
    }

    fn status(&self) -> Status {
        *self.status.lock().expect("nothing panics while it is held")
    }

    fn set(&self, status: Status) {
        self.harmed.store(true, Ordering::Relaxed);
        *self.status.lock().expect("nothing panics while it is held") = status;
        self.changed.notify_waiters();
    }

    /// Goes on when the process does: at once, after a pause, or never.
    pub async fn proceed(&self) {
        loop {
            let changed = self.changed.notified();
            match self.status() {
                Status::Running | Status::Draining(_) => return,
                Status::Paused => changed.await,
                Status::Dead => std::future::pending().await,
            }
        }
    }

    /// Resolves when the process is gone.
    pub async fn died(&self) {
        loop {
            let changed = self.changed.notified();
            if self.is_dead() {
                return;
            }
            changed.await;
        }
    }

    pub fn is_dead(&self) -> bool {
        self.status() == Status::Dead
    }

    pub fn is_running(&self) -> bool {
        self.status() == Status::Running
    }

    /// Whether it never did anything but run.
    pub fn is_unharmed(&self) -> bool {
        !self.harmed.load(Ordering::Relaxed)
    }

    /// Whether its limit to finish what runs is over.
    pub fn gives_up(&self) -> bool {
        matches!(self.status(), Status::Draining(until) if Instant::now() >= until)
    }

    pub fn kill(&self) {
        self.set(Status::Dead);
    }

    pub fn pause(&self) {
        if self.is_running() {
            self.set(Status::Paused);
        }
    }

    pub fn resume(&self) {
        if self.status() == Status::Paused {
            self.set(Status::Running);
        }
    }

    pub fn drain(&self, until: Instant) {
        self.set(Status::Draining(until));
    }

    pub fn clock(&self) -> Clock {
        self.clock.clone()
    }

    pub fn step_clock(&self, by: i64) {
        self.clock.step(by);
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node({})", self.id)
    }
}

/// A wall clock that can be stepped, over the virtual one; and tokens.
#[derive(Clone, Debug)]
pub struct Clock {
    start: Instant,
    offset: Arc<AtomicI64>,
    tokens: Arc<AtomicU64>,
}

impl Clock {
    pub fn new(start: Instant, tokens: Arc<AtomicU64>) -> Self {
        Self { start, offset: Arc::default(), tokens }
    }

    pub fn step(&self, by: i64) {
        self.offset.fetch_add(by, Ordering::Relaxed);
    }
}

impl Ambient for Clock {
    fn now(&self) -> Timestamp {
        const EPOCH: u64 = 1_800_000_000_000;
        let elapsed = EPOCH + self.start.elapsed().as_millis() as u64;
        Timestamp(elapsed.saturating_add_signed(self.offset.load(Ordering::Relaxed)))
    }

    fn token(&self) -> Token {
        Token(u128::from(self.tokens.fetch_add(1, Ordering::Relaxed) + 1).to_be_bytes())
    }
}
