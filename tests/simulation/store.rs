//! The way from a process to the store: a network that delays, loses and repeats.
//!
//! A command that left arrives or not whatever becomes of the process that sent
//! it, so each one travels in a task of its own.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use oncegate::{
    engine::{
        policy::Keep,
        record::{Fence, Record, StoreKey},
    },
    store::{Claimed, Cursor, MemoryStore, Page, Store, StoreError, StoreErrorKind, Write},
};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

use super::{faults::Fault, node::Node, world::World};

/// One process's view of the store.
#[derive(Debug)]
pub struct Link {
    world: Arc<World>,
    node: Arc<Node>,
}

#[derive(Clone)]
enum Command {
    Claim(Record, Keep),
    Swap(Fence, Record, Keep),
    Remove(Fence),
    Get,
    Age,
}

#[derive(Debug)]
enum Reply {
    Claimed(Claimed),
    Written(Write),
    Got(Option<Record>),
    Aged(Option<(Fence, Duration)>),
}

/// What happens to one operation.
struct Trip {
    there: Duration,
    back: Duration,
    fate: Fate,
}

enum Fate {
    Arrives,
    /// The command never arrives.
    RequestLost,
    /// It is executed, and nobody hears of it.
    ReplyLost,
    /// The same, and the client of the store sends it once more, as a client does
    /// whose connection broke.
    Repeated,
    /// The time-out comes first, the execution this much later.
    Late(Duration),
    /// It is executed, and this much later once more.
    Duplicated(Duration),
    /// The process dies before the command leaves.
    DiesBefore,
    /// The process dies after the execution and before the reply.
    DiesAfter,
}

impl Link {
    pub fn new(world: &Arc<World>, node: &Arc<Node>) -> Self {
        Self { world: Arc::clone(world), node: Arc::clone(node) }
    }

    async fn call(&self, key: &StoreKey, command: Command) -> Result<Reply, StoreError> {
        self.node.proceed().await;
        let trip = self.draw(key);
        if matches!(trip.fate, Fate::DiesBefore) {
            // What the process said just before may still get out.
            wait(trip.there).await;
            self.die().await;
        }
        if Instant::now() < self.world.state().store_down_until {
            self.world.count(Fault::StoreDown);
            return self.fail(key, StoreErrorKind::Unavailable, trip.back).await;
        }
        let (reply, answer) = oneshot::channel();
        let repeated = matches!(trip.fate, Fate::Repeated).then(|| command.clone());
        let travel = self.travel(*key, command, &trip);
        tokio::spawn(async move { drop(reply.send(travel.await)) });
        let result = answer.await.expect("a command travels to its end");
        match trip.fate {
            Fate::Arrives | Fate::Duplicated(_) => {}
            Fate::RequestLost | Fate::ReplyLost | Fate::Late(_) => {
                return self.fail(key, StoreErrorKind::Timeout, trip.back).await;
            }
            Fate::Repeated => {
                let again = Trip { fate: Fate::Arrives, ..trip };
                let command = repeated.expect("it was kept for this");
                let (reply, answer) = oneshot::channel();
                let travel = self.travel(*key, command, &again);
                tokio::spawn(async move { drop(reply.send(travel.await)) });
                let result = answer.await.expect("a command travels to its end");
                self.node.proceed().await;
                return Ok(result.expect("it arrived"));
            }
            Fate::DiesBefore => unreachable!("the dead do not go on"),
            Fate::DiesAfter => self.die().await,
        }
        self.node.proceed().await;
        Ok(result.expect("it arrived"))
    }

    /// The journey of a command; `None` when it was not executed in time.
    fn travel(
        &self,
        key: StoreKey,
        command: Command,
        trip: &Trip,
    ) -> impl Future<Output = Option<Reply>> + Send + use<> {
        let Trip { there, back, .. } = *trip;
        let (lost, late, again) = match trip.fate {
            Fate::RequestLost => (true, None, None),
            Fate::Late(late) => (false, Some(late), None),
            Fate::Duplicated(again) => (false, None, Some(again)),
            Fate::Arrives
            | Fate::ReplyLost
            | Fate::Repeated
            | Fate::DiesBefore
            | Fate::DiesAfter => (false, None, None),
        };
        let (world, node) = (Arc::clone(&self.world), Arc::clone(&self.node));
        if again.is_some() {
            let number = world.key(&key);
            world.state().excused[number] = true;
        }
        async move {
            wait(there).await;
            if lost {
                return None;
            }
            if let Some(after) = late.or(again) {
                let (world, node, command) =
                    (Arc::clone(&world), Arc::clone(&node), command.clone());
                tokio::spawn(async move {
                    sleep(after).await;
                    execute(&world, &node, &key, &command).await;
                });
            }
            if late.is_some() {
                return None;
            }
            let reply = execute(&world, &node, &key, &command).await;
            wait(back).await;
            Some(reply)
        }
    }

    fn draw(&self, key: &StoreKey) -> Trip {
        let scenario = &self.world.scenario;
        let lease = scenario.lease;
        let mut state = self.world.state();
        let quick = Duration::from_millis(state.rng.pick(&[0, 0, 1, 2, 5, 20]));
        let mut trip = Trip { there: quick, back: quick, fate: Fate::Arrives };
        if state.healed {
            return trip;
        }
        if state.rng.next() % 100_000 < scenario.deaths {
            trip.fate = if state.rng.chance(500) { Fate::DiesBefore } else { Fate::DiesAfter };
            return trip;
        }
        if !state.rng.chance(scenario.store_faults) {
            return trip;
        }
        let slow = state.rng.duration(Duration::ZERO, scenario.longest_leg());
        let later = state.rng.duration(Duration::ZERO, lease * 2);
        let (fate, fault) = match state.rng.count(0, 7) {
            0 => (Fate::RequestLost, Fault::StoreRequestLost),
            1 => (Fate::ReplyLost, Fault::StoreReplyLost),
            2 => (Fate::Repeated, Fault::StoreReplyLostRepeated),
            3 => (Fate::Late(later), Fault::StoreLate),
            4 => (Fate::Duplicated(later), Fault::StoreDuplicated),
            5 | 6 => {
                state.excused[self.world.key(key)] = true;
                trip.there = slow;
                (Fate::Arrives, Fault::StoreSlow)
            }
            _ => {
                state.excused[self.world.key(key)] = true;
                trip.back = slow;
                (Fate::Arrives, Fault::StoreSlow)
            }
        };
        trip.fate = fate;
        drop(state);
        self.world.count(fault);
        trip
    }

    /// An error; the outcome of the key may be unknown for that reason.
    async fn fail(
        &self,
        key: &StoreKey,
        kind: StoreErrorKind,
        after: Duration,
    ) -> Result<Reply, StoreError> {
        let number = self.world.key(key);
        self.world.state().excused[number] = true;
        wait(after).await;
        self.node.proceed().await;
        Err(StoreError::new(kind, "simulated"))
    }

    async fn die(&self) {
        self.world.die(&self.node);
        self.node.proceed().await;
    }
}

/// What the store does.
async fn execute(world: &World, node: &Arc<Node>, key: &StoreKey, command: &Command) -> Reply {
    let records: &MemoryStore = &world.records;
    let reply = match command {
        Command::Claim(record, keep) => records.claim(key, record, *keep).await.map(Reply::Claimed),
        Command::Swap(expect, record, keep) => {
            records.swap(key, *expect, record, *keep).await.map(Reply::Written)
        }
        Command::Remove(expect) => records.remove(key, *expect).await.map(Reply::Written),
        Command::Get => records.get(key).await.map(Reply::Got),
        Command::Age => records.age(key).await.map(Reply::Aged),
    };
    let reply = reply.expect("memory does not fail");
    let number = world.key(key);
    match (command, &reply) {
        (Command::Claim(..), Reply::Claimed(Claimed::Mine))
        | (Command::Swap(_, Record::Pending(_), _), Reply::Written(Write::Applied)) => {
            world.state().claims.push((number, Arc::clone(node)));
        }
        _ => {}
    }
    world.note(|| format!("store: gate {}, key {number}: {command:?} -> {reply:?}", node.id));
    reply
}

async fn wait(duration: Duration) {
    if !duration.is_zero() {
        sleep(duration).await;
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim(record, _) => write!(f, "claim {:?}", record.fence()),
            Self::Swap(expect, record, _) => write!(f, "swap {expect:?} by {record:?}"),
            Self::Remove(expect) => write!(f, "remove {expect:?}"),
            Self::Get => f.write_str("get"),
            Self::Age => f.write_str("age"),
        }
    }
}

#[async_trait]
impl Store for Link {
    async fn claim(
        &self,
        key: &StoreKey,
        record: &Record,
        keep: Keep,
    ) -> Result<Claimed, StoreError> {
        match self.call(key, Command::Claim(record.clone(), keep)).await? {
            Reply::Claimed(claimed) => Ok(claimed),
            other => unreachable!("{other:?}"),
        }
    }

    async fn swap(
        &self,
        key: &StoreKey,
        expect: Fence,
        record: &Record,
        keep: Keep,
    ) -> Result<Write, StoreError> {
        match self.call(key, Command::Swap(expect, record.clone(), keep)).await? {
            Reply::Written(write) => Ok(write),
            other => unreachable!("{other:?}"),
        }
    }

    async fn remove(&self, key: &StoreKey, expect: Fence) -> Result<Write, StoreError> {
        match self.call(key, Command::Remove(expect)).await? {
            Reply::Written(write) => Ok(write),
            other => unreachable!("{other:?}"),
        }
    }

    async fn get(&self, key: &StoreKey) -> Result<Option<Record>, StoreError> {
        match self.call(key, Command::Get).await? {
            Reply::Got(record) => Ok(record),
            other => unreachable!("{other:?}"),
        }
    }

    async fn age(&self, key: &StoreKey) -> Result<Option<(Fence, Duration)>, StoreError> {
        match self.call(key, Command::Age).await? {
            Reply::Aged(age) => Ok(age),
            other => unreachable!("{other:?}"),
        }
    }

    async fn scan(&self, cursor: Option<Cursor>, limit: usize) -> Result<Page, StoreError> {
        self.world.records.scan(cursor, limit).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
