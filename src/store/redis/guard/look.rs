//! The look at a server, and the marker that is left there.

use std::collections::HashMap;

use redis::{
    FromRedisValue, InfoDict, Pipeline, RedisError, RedisResult, Value, aio::MultiplexedConnection,
};

use super::{Guard, Replicas};
use crate::{
    ambient::{Ambient, System},
    mutants::{Mutant, is_active},
    store::redis::{
        marker::{self, Loss, Marker, Seen},
        scripts,
        verify::{self, Unfit, Written},
    },
};

/// How often a marker that others change meanwhile is judged anew.
const ATTEMPTS: usize = 5;

/// What came of the marker.
pub(super) enum Taken {
    /// It was left alone.
    Nothing,
    /// It lies in the server as it has to be.
    Settled(Marker, Vec<u8>),
    /// It would have to be this one, and the server does not take it.
    Refused(Marker, Unfit),
}

impl Guard {
    /// Looks at the server.
    pub(in super::super) async fn look(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> RedisResult<()> {
        let replicas = self.standing().replicas.clone();
        let (info, lies, settings) = ask(connection).await?;
        let forces_writes = verify::forces_writes(&info, &settings);
        let written = Written::so_far(&info);
        let goal = match &replicas {
            Replicas::InStep => None,
            // What was to be taken of another history never will be.
            Replicas::BehindUntil(goal)
                if goal.history == written.history || is_active(Mutant::ExpectOldHistory) =>
            {
                Some(goal.clone())
            }
            Replicas::Behind | Replicas::BehindUntil(_) => Some(written),
        };
        let least = goal.as_ref().map_or(0, |goal| goal.offset);
        let unfit = verify::judge(&info, forces_writes, least, &self.options).err();
        // A replica holds what its primary lets it hold, and takes no marker.
        let taken = if unfit.as_ref().is_some_and(|unfit| unfit.is_no_primary) {
            Taken::Nothing
        } else {
            self.mark(connection, &info, forces_writes, lies?).await?
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

    /// Ends the alarm, for all gates.
    pub(in super::super) async fn acknowledge(
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
}

/// What a server says of itself, the marker, and how it writes.
type Said = (InfoDict, RedisResult<Option<Vec<u8>>>, HashMap<String, String>);

/// One round trip. A server that loads its data, or has lost its primary, says so, and shows no
/// marker.
async fn ask(connection: &mut MultiplexedConnection) -> RedisResult<Said> {
    let mut pipeline = Pipeline::with_capacity(3);
    pipeline.cmd("INFO").cmd("GET").arg(marker::NAME);
    pipeline.cmd("CONFIG").arg("GET").arg(&verify::WRITING);
    let replies = connection.send_packed_commands(&pipeline, 0, pipeline.len()).await?;
    let mut replies = replies.into_iter();
    let mut next = || replies.next().unwrap_or(Value::Nil).extract_error();
    let info = InfoDict::from_redis_value(next()?)?;
    let lies = next().and_then(|lies| Ok(FromRedisValue::from_redis_value(lies)?));
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
