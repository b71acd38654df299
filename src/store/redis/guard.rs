//! Whether the server can keep the store's promise, now and not only at the start.
//!
//! 1. Every new connection is looked at before an operation uses it, and every
//!    [`ping`](crate::store::Store::ping) looks again.
//! 2. A server that is unfit (a replica, one that evicts, too few replicas) gets no
//!    claim until a look finds it fit.
//! 3. A server that lost its data set is told of until an operator acknowledges it;
//!    with [`refuse_after_loss`](super::RedisOptions::refuse_after_loss) it gets no
//!    claim until then.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use redis::{InfoDict, Pipeline, RedisResult, aio::MultiplexedConnection};
use tokio::time::Instant;

use super::{
    RedisOptions,
    marker::{self, Loss, Marker, Seen},
    scripts,
    verify::{self, Unfit},
};
use crate::{
    ambient::{Ambient, System},
    mutants::{Mutant, is_active},
    store::{Durability, StoreError, StoreErrorKind},
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
    loss: Option<Loss>,
    /// How often a loss was noticed.
    losses: u64,
    looked: Option<Instant>,
}

impl Guard {
    pub(super) fn new(peer: String, options: RedisOptions) -> Self {
        Self { peer, options, standing: Mutex::default(), refuses: AtomicBool::new(false) }
    }

    /// Looks at the server.
    pub(super) async fn look(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        let mut pipeline = Pipeline::with_capacity(2);
        pipeline.cmd("INFO").cmd("GET").arg(marker::NAME);
        let (info, mut lies): (InfoDict, Option<Vec<u8>>) =
            pipeline.query_async(connection).await?;
        let run_id: String = info.get("run_id").unwrap_or_default();
        let found = lies.as_deref().and_then(read);
        // A server that never restarts need not be asked how it writes.
        let asks = self.options.durability == Durability::Fsync
            || found.as_ref().is_some_and(|found| found.run_id != run_id);
        let forces_writes = asks && verify::forces_writes(&info, connection).await?;
        let unfit = verify::judge(&info, forces_writes, &self.options).err();
        // A replica holds what its primary lets it hold, and takes no marker.
        let taken = if unfit.as_ref().is_some_and(|unfit| unfit.is_no_primary) {
            None
        } else {
            let fresh = hex(&System.token().0);
            let mut settled = None;
            for _ in 0..ATTEMPTS {
                let known = self.standing().epoch.clone();
                let found = lies.as_deref().and_then(read);
                let seen = Seen { run_id: &run_id, forces_writes, now: System.now() };
                let wanted = marker::judge(known.as_deref(), found.as_ref(), &seen, &fresh);
                if found.as_ref() == Some(&wanted) {
                    settled = lies.map(|lies| (wanted, lies));
                    break;
                }
                lies = exchange(connection, lies.as_deref(), &write(&wanted)).await?;
            }
            settled
        };
        self.conclude(unfit, taken);
        Ok(())
    }

    /// Whether the last look found trouble, and is too old to refuse a claim for it.
    pub(super) fn should_look_again(&self) -> bool {
        self.refuses.load(Ordering::Acquire)
            && self.standing().looked.is_none_or(|looked| looked.elapsed() >= FRESH)
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
        self.look(connection).await
    }

    fn conclude(&self, unfit: Option<Unfit>, taken: Option<(Marker, Vec<u8>)>) {
        let mut standing = self.standing();
        if let Some(unfit) = &unfit
            && standing.unfit.as_ref() != Some(unfit)
        {
            tracing::error!(peer = self.peer, "Redis {}", unfit.why);
        }
        standing.unfit = unfit;
        standing.looked = Some(Instant::now());
        if let Some((marker, lies)) = taken {
            let is_open = |loss: &Loss| !loss.acknowledged && !is_active(Mutant::OverlookLoss);
            let open = marker.loss.filter(is_open);
            if let Some(loss) = &open
                && standing.loss.as_ref() != Some(loss)
            {
                standing.losses += 1;
                tracing::error!(peer = self.peer, "Redis {}", loss.why.explain());
            }
            if open.is_none() && standing.loss.is_some() {
                tracing::warn!(peer = self.peer, "the loss of data was acknowledged");
            }
            (standing.epoch, standing.loss, standing.written) = (Some(marker.epoch), open, lies);
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
