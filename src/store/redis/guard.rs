//! Whether the server can keep the store's promise, now and not only at the start.
//!
//! 1. Every new connection is looked at before an operation uses it, and every
//!    [`ping`](crate::store::Store::ping) looks again.
//! 2. A server that is unfit (a replica, one that evicts, too few replicas) gets no
//!    claim until a look finds it fit.
//! 3. Replicas that did not take a write in time are behind until they have taken all that
//!    was written by then. Nobody waits for them meanwhile: a wait holds up everything else
//!    on its connection.
//! 4. A server that takes no writes is read from all the same.
//! 5. A server that lost its data set is told of until an operator acknowledges it;
//!    with [`refuse_after_loss`](super::RedisOptions::refuse_after_loss) it gets no
//!    claim until then.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use redis::{
    FromRedisValue, InfoDict, Pipeline, RedisError, RedisResult, Value, aio::MultiplexedConnection,
};
use tokio::time::Instant;

use super::{
    RedisOptions,
    marker::{self, Loss, Marker, Seen},
    scripts,
    verify::{self, Unfit, Written},
};
use crate::{
    ambient::{Ambient, System},
    mutants::{Mutant, is_active},
    store::{StoreError, StoreErrorKind},
};

/// How old a look may be for a claim that is about to be refused.
const FRESH: Duration = Duration::from_millis(200);

/// How often a marker that others change meanwhile is judged anew.
const ATTEMPTS: usize = 5;

/// What this process knows of the server.
#[derive(Debug)]
pub(super) struct Guard {
    peer: String,
    options: RedisOptions,
    standing: Mutex<Standing>,
    /// Whether claims are refused; for a glance without the lock.
    refuses: AtomicBool,
}

#[derive(Debug, Default)]
struct Standing {
    epoch: Option<String>,
    /// The marker as it lies in the server.
    written: Vec<u8>,
    unfit: Option<Unfit>,
    replicas: Replicas,
    loss: Option<Loss>,
    /// How often a loss was noticed.
    losses: u64,
    looked: Option<Instant>,
}

/// Whether replicas take what is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Replicas {
    #[default]
    InStep,
    /// They did not take a write in time.
    Behind,
    /// The same, and there is so much for them to take.
    BehindUntil(Written),
}

/// What came of the marker.
enum Taken {
    /// It was left alone.
    Nothing,
    /// It lies in the server as it has to be.
    Settled(Marker, Vec<u8>),
    /// It would have to be this one, and the server does not take it.
    Refused(Marker, Unfit),
}

impl Guard {
    pub(super) fn new(peer: String, options: RedisOptions) -> Self {
        Self { peer, options, standing: Mutex::default(), refuses: AtomicBool::new(false) }
    }

    /// Looks at the server.
    pub(super) async fn look(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        let replicas = self.standing().replicas.clone();
        let (info, lies, settings) = ask(connection).await?;
        let forces_writes = verify::forces_writes(&info, &settings);
        let written = Written::so_far(&info);
        let goal = match &replicas {
            Replicas::InStep => None,
            // What was to be taken of another history never will be.
            Replicas::BehindUntil(goal) if goal.history == written.history => Some(goal.clone()),
            Replicas::Behind | Replicas::BehindUntil(_) => Some(written),
        };
        let least = goal.as_ref().map_or(0, |goal| goal.offset);
        let unfit = verify::judge(&info, forces_writes, least, &self.options).err();
        // A replica holds what its primary lets it hold, and takes no marker.
        let taken = if unfit.as_ref().is_some_and(|unfit| unfit.is_no_primary) {
            Taken::Nothing
        } else {
            self.mark(connection, &info, forces_writes, lies).await?
        };
        let now = match goal {
            Some(goal) if unfit.is_some() => Replicas::BehindUntil(goal),
            Some(_) | None => Replicas::InStep,
        };
        self.conclude(unfit, taken, (replicas, now));
        Ok(())
    }

    /// Sees to it that the marker is as it has to be.
    async fn mark(
        &self,
        connection: &mut MultiplexedConnection,
        info: &InfoDict,
        forces_writes: bool,
        mut lies: Option<Vec<u8>>,
    ) -> RedisResult<Taken> {
        let run_id: String = info.get("run_id").unwrap_or_default();
        let (promoted, fresh) = (verify::promoted(info), hex(&System.token().0));
        let promoted = promoted.as_deref();
        for _ in 0..ATTEMPTS {
            let known = self.standing().epoch.clone();
            let found = lies.as_deref().and_then(read);
            let seen = Seen { run_id: &run_id, forces_writes, promoted, now: System.now() };
            let wanted = marker::judge(known.as_deref(), found.as_ref(), &seen, &fresh);
            if found.as_ref() == Some(&wanted) {
                return Ok(lies.map_or(Taken::Nothing, |lies| Taken::Settled(wanted, lies)));
            }
            lies = match exchange(connection, lies.as_deref(), &write(&wanted)).await {
                Ok(lies) => lies,
                Err(error)
                    if verify::takes_no_writes(&error) && !is_active(Mutant::InsistOnMarker) =>
                {
                    let why = Unfit::for_now(format!("takes no writes ({error})"));
                    return Ok(Taken::Refused(wanted, why));
                }
                Err(error) => return Err(error),
            };
        }
        Ok(Taken::Nothing)
    }

    /// Whether the last look found trouble, and is too old to refuse a claim for it.
    pub(super) fn should_look_again(&self) -> bool {
        self.refuses.load(Ordering::Acquire)
            && self.standing().looked.is_none_or(|looked| looked.elapsed() >= FRESH)
    }

    /// Whether replicas are behind, so that nobody should wait for them.
    pub(super) fn replicas_are_behind(&self) -> bool {
        self.standing().replicas != Replicas::InStep && !is_active(Mutant::WaitForStragglers)
    }

    /// A write was not on the replicas in time: no claims until they have caught up.
    pub(super) fn replicas_fell_behind(&self) {
        let mut standing = self.standing();
        if standing.replicas == Replicas::InStep {
            standing.replicas = Replicas::Behind;
            let why = "has replicas that do not take its writes in time, and store.durability \
                       asks for them; claims go on when they have caught up";
            tracing::error!(peer = self.peer, "Redis {why}");
            standing.unfit.get_or_insert_with(|| Unfit::for_now(why.to_owned()));
            self.refuses.store(true, Ordering::Release);
        }
    }

    /// Whether the marker that lay beside a claim is not the one that was looked at.
    pub(super) fn is_surprised_by(&self, marker: Option<&[u8]>) -> bool {
        marker != Some(&self.standing().written)
    }

    /// Whether claims may be made.
    pub(super) fn admit(&self) -> Result<(), StoreError> {
        if self.refuses.load(Ordering::Acquire) { self.verdict() } else { Ok(()) }
    }

    /// What is wrong with the server.
    pub(super) fn verdict(&self) -> Result<(), StoreError> {
        let standing = self.standing();
        if let Some(unfit) = &standing.unfit {
            return Err(StoreError::new(
                unfit.kind,
                format!("Redis at {} {}", self.peer, unfit.why),
            ));
        }
        match &standing.loss {
            None => Ok(()),
            Some(loss) => Err(StoreError::new(
                StoreErrorKind::DataLost,
                format!(
                    "Redis at {} {}; keys from before may run twice. Acknowledge it with \
                     POST /api/store/acknowledge at the admin listener",
                    self.peer,
                    loss.why.explain()
                ),
            )),
        }
    }

    /// How often a loss was noticed.
    pub(super) fn losses(&self) -> u64 {
        self.standing().losses
    }

    /// Ends the alarm, for all gates.
    pub(super) async fn acknowledge(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> RedisResult<()> {
        for _ in 0..ATTEMPTS {
            self.look(connection).await?;
            let (lies, told) = {
                let standing = self.standing();
                let Some(loss) = &standing.loss else { return Ok(()) };
                let loss = Some(Loss { acknowledged: true, ..loss.clone() });
                let marker = read(&standing.written).map(|marker| Marker { loss, ..marker });
                (standing.written.clone(), marker)
            };
            if let Some(told) = told {
                exchange(connection, Some(&lies), &write(&told)).await?;
            }
        }
        self.look(connection).await?;
        match &self.standing().loss {
            None => Ok(()),
            Some(_) => {
                let why = "the server did not take it: the loss is still to be acknowledged";
                Err(RedisError::from((redis::ErrorKind::Client, why)))
            }
        }
    }

    /// `replicas`: as they were when the look began, and as it found them.
    fn conclude(&self, unfit: Option<Unfit>, taken: Taken, replicas: (Replicas, Replicas)) {
        let mut standing = self.standing();
        let (unfit, marker, lies) = match taken {
            Taken::Nothing => (unfit, None, None),
            Taken::Settled(marker, lies) => (unfit, Some(marker), Some(lies)),
            Taken::Refused(marker, why) => (unfit.or(Some(why)), Some(marker), None),
        };
        if standing.replicas != replicas.0 {
            // They fell behind during the look, and what it found is older.
            standing.looked = Some(Instant::now());
            return;
        }
        standing.replicas = replicas.1;
        if let Some(unfit) = &unfit
            && standing.unfit.as_ref() != Some(unfit)
        {
            tracing::error!(peer = self.peer, "Redis {}", unfit.why);
        }
        standing.unfit = unfit;
        standing.looked = Some(Instant::now());
        if let Some(marker) = marker {
            let is_open = |loss: &Loss| !loss.acknowledged && !is_active(Mutant::OverlookLoss);
            let open = marker.loss.filter(is_open);
            if let Some(loss) = &open
                && !standing.loss.as_ref().is_some_and(|known| known.is(loss))
            {
                standing.losses += 1;
                tracing::error!(peer = self.peer, "Redis {}", loss.why.explain());
            }
            if open.is_none() && standing.loss.is_some() {
                tracing::warn!(peer = self.peer, "the loss of data was acknowledged");
            }
            standing.loss = open;
            // What the server did not take is nobody's to remember.
            if let Some(lies) = lies {
                (standing.epoch, standing.written) = (Some(marker.epoch), lies);
            }
        }
        let refuses =
            standing.unfit.is_some() || (standing.loss.is_some() && self.options.refuse_after_loss);
        self.refuses.store(refuses, Ordering::Release);
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        // Every change under the lock is a plain assignment.
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the server says of itself, the marker, and how it writes: one round trip.
async fn ask(
    connection: &mut MultiplexedConnection,
) -> RedisResult<(InfoDict, Option<Vec<u8>>, HashMap<String, String>)> {
    let mut pipeline = Pipeline::with_capacity(3);
    pipeline.cmd("INFO").cmd("GET").arg(marker::NAME);
    pipeline.cmd("CONFIG").arg("GET").arg(&verify::WRITING);
    let replies = connection.send_packed_commands(&pipeline, 0, pipeline.len()).await?;
    let mut replies = replies.into_iter();
    let mut next = || replies.next().unwrap_or(Value::Nil).extract_error();
    let info = InfoDict::from_redis_value(next()?)?;
    let lies = FromRedisValue::from_redis_value(next()?)?;
    // A user may not be allowed to ask this.
    let settings = next().ok().and_then(|reply| FromRedisValue::from_redis_value(reply).ok());
    Ok((info, lies, settings.unwrap_or_default()))
}

/// Writes `new` in place of `lies`, and tells what lies there afterwards.
async fn exchange(
    connection: &mut MultiplexedConnection,
    lies: Option<&[u8]>,
    new: &[u8],
) -> RedisResult<Option<Vec<u8>>> {
    scripts::EXCHANGE
        .key(marker::NAME)
        .arg(lies.unwrap_or_default())
        .arg(new)
        .invoke_async(connection)
        .await
}

/// A marker that cannot be read is somebody else's value: the same as none.
fn read(bytes: &[u8]) -> Option<Marker> {
    serde_json::from_slice(bytes).ok()
}

fn write(marker: &Marker) -> Vec<u8> {
    serde_json::to_vec(marker).expect("a marker has string keys and plain values")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
