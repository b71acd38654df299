//! Records in Redis 7 or Valkey: shared by any number of gates.
//!
//! A record lies under two keys of one hash slot, because they live for different
//! times: `oncegate:{<store key>}` is the head, `oncegate:{<store key>}:r` the
//! response. Each operation is one round trip, and atomic:
//!
//! | operation | what is sent |
//! |---|---|
//! | claim | `SET head NX GET PX`, `GET response` |
//! | swap, remove | `EVALSHA` of a script that compares the fence |
//! | get | `MGET head response` |
//! | scan | `SCAN`, then the heads in one pipeline: two |
//!
//! A claim that a server refuses is followed by a `get`: what is there is told all the same.
//!
//! The two commands of a claim are one piece on the wire and two on the server: what
//! decides is the first. Somebody else's may come between them, so a response carries
//! the fence of its head, and a claim that read two owners' values reads again. A
//! transaction would double what the claim costs Redis.
//!
//! With [`Durability::Replicated`](super::Durability::Replicated) a `WAIT` follows in
//! the same piece. Redis expires keys by its own wall clock.

use std::{error::Error as _, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use redis::{Cmd, IntoConnectionInfo, Pipeline, RedisError, Script, Value};

pub use self::options::RedisOptions;
use self::{
    link::Link,
    request::{Commands, Request},
    wire::{Name, bulk, call, milliseconds, pipeline, read, replies, unexpected},
};
use super::{Claimed, Cursor, Page, Store, StoreError, StoreErrorKind, Write};
use crate::engine::{
    codec::{self, CodecError},
    policy::Keep,
    record::{Fence, Record, StoreKey},
};
use crate::mutants::{Mutant, is_active};

mod guard;
mod link;
mod listing;
mod marker;
mod options;
mod replicated;
mod request;
mod scripts;
mod verify;
mod wire;

/// How often a claim is made anew when others write between its two reads, and let
/// go of the key.
const LOOKS: usize = 5;

/// A store on one Redis server.
#[derive(Debug)]
pub struct RedisStore {
    link: Link,
    options: RedisOptions,
}

impl RedisStore {
    /// A store on the server of `url`, `redis://[user[:password]@]host[:port][/db]`.
    ///
    /// Nothing is sent yet: the first operation connects, and every later one does
    /// when the connection has broken. Use [`ping`](Store::ping) to see whether the
    /// server answers and [`verify`](Self::verify) to see whether it will do.
    ///
    /// # Errors
    /// [`StoreErrorKind::Misconfigured`] when the URL is none of a Redis server.
    pub fn connect(url: &str, options: RedisOptions) -> Result<Self, StoreError> {
        // The URL itself stays out of the message: it may carry a password.
        let refused = |error: redis::RedisError| {
            let what = "store.url: not the URL of a Redis server";
            StoreError::new(StoreErrorKind::Misconfigured, what).because(error)
        };
        let info = url.into_connection_info().map_err(refused)?;
        let link = Link::new(info, &options).map_err(refused)?;
        Ok(Self { link, options })
    }

    /// The server's host and port.
    #[must_use]
    pub fn peer(&self) -> &str {
        self.link.peer()
    }

    /// Checks that the server can keep the store's promise: its version, its role,
    /// that it throws nothing away, and the durability that was asked for. To be called
    /// before the first claim; a loss of data is no error here.
    ///
    /// # Errors
    /// [`StoreErrorKind::Misconfigured`], with the setting to change, or any error
    /// of an operation.
    pub async fn verify(&self) -> Result<(), StoreError> {
        self.link.look("ping").await?;
        self.link.guard().fitness()
    }

    async fn compare(
        &self,
        operation: &str,
        script: &Script,
        call: Cmd,
    ) -> Result<Write, StoreError> {
        let call = Request::Script(script, Commands::One(&call));
        written(operation, self.link.run(operation, call).await?)
    }

    /// Claims. What somebody else has written is told whether or not the server will do for
    /// claims: it is there, and nothing is dispatched for it.
    async fn try_claim(
        &self,
        key: &StoreKey,
        record: &Record,
        keep: Keep,
    ) -> Result<Claimed, StoreError> {
        self.admit().await.map_err(StoreError::undone)?;
        let name = Name::of(key);
        let keep = keep.bounded();
        let head = codec::encode(record, keep.record).head;
        let mut set = Cmd::with_capacity(7, 128 + head.len());
        set.arg("SET").arg(name.head()).arg(&*head);
        set.arg(&["NX", "GET", "PX"]).arg(milliseconds(keep.record));
        let mut get = Cmd::with_capacity(2, 128);
        get.arg("GET").arg(name.response());
        let mut pipeline = pipeline([set, get]);
        if self.options.refuse_after_loss {
            pipeline.cmd("GET").arg(marker::NAME);
        }
        let waits = self.wait_for_replicas(&mut pipeline);
        for attempt in 0..LOOKS {
            let request = Request::Send(Commands::Many(&pipeline));
            let reply = match attempt {
                0 => self.link.run_first("claim", request).await?,
                _ => self.link.run("claim", request).await?,
            };
            let mut reply = replies(reply, "claim")?;
            let is_replicated = self.is_replicated(waits, &mut reply);
            let marker = match self.options.refuse_after_loss {
                true => Some(bulk(reply.pop(), "claim")?),
                false => None,
            };
            let (response, head) = (bulk(reply.pop(), "claim")?, bulk(reply.pop(), "claim")?);
            let head = head.filter(|_| !is_active(Mutant::IgnoreHolder));
            let holder = head.as_deref().map(codec::decode_fence).transpose()?;
            let is_mine = holder.is_none_or(|holder| {
                holder.token == record.fence().token && !is_active(Mutant::ForgetOwnClaim)
            });
            if is_mine || is_active(Mutant::AdmitBeforeReading) {
                if let Some(marker) = marker
                    && !self.is_known(marker.as_deref()).await?
                {
                    continue;
                }
                // A new connection may have found out what the last one did not know.
                self.link.guard().admit()?;
            }
            match head {
                None if !is_replicated => return Err(self.too_few_replicas("claim", waits)),
                None => return Ok(Claimed::Mine),
                // It was written before, and its reply was lost. A connection that has written
                // nothing waits for nothing (Redis 7.2 and later), so it is written once more.
                Some(_) if is_mine && self.replicas() > 0 && !is_active(Mutant::TrustOldClaims) => {
                    match self.swap(key, record.fence(), record, keep).await? {
                        Write::Applied => return Ok(Claimed::Mine),
                        Write::Fenced => {}
                    }
                }
                Some(_) if is_mine => return Ok(Claimed::Mine),
                Some(head) => match codec::decode(&head, response.map(Bytes::from)) {
                    Err(CodecError::Mixed) => {
                        // One command reads at one moment.
                        if let Some(held) = self.get(key).await? {
                            return Ok(Claimed::Held(held));
                        }
                    }
                    held => return Ok(Claimed::Held(held?)),
                },
            }
        }
        let what = format!(
            "claim at Redis {}: the key, or what tells data that was lost, changes all the time",
            self.link.peer()
        );
        Err(StoreError::new(StoreErrorKind::Unavailable, what))
    }

    /// Whether the marker that lay beside a claim is the one that was looked at, after another
    /// look if need be.
    async fn is_known(&self, marker: Option<&[u8]>) -> Result<bool, StoreError> {
        let guard = self.link.guard();
        if !guard.is_surprised_by(marker) {
            return Ok(true);
        }
        Box::pin(self.link.look("claim")).await?;
        if !guard.is_surprised_by(marker) {
            return Ok(true);
        }
        // It is not what that look has seen, either: one that is older has ended after it, or it
        // was changed once more.
        guard.admit()?;
        Ok(false)
    }

    /// Refuses what must not be dispatched, after another look if the last one is old.
    async fn admit(&self) -> Result<(), StoreError> {
        if self.link.guard().should_look_again() {
            Box::pin(self.link.look("claim")).await?;
        }
        self.link.guard().admit()
    }
}

/// What a script replied.
fn written(operation: &str, reply: Value) -> Result<Write, StoreError> {
    match reply {
        Value::Int(1) => Ok(Write::Applied),
        Value::Int(0) => Ok(Write::Fenced),
        _ => Err(unexpected(operation)),
    }
}

/// Whether a claim was refused by a server that answers, and that has its data.
fn still_answers(error: &StoreError) -> bool {
    let kind = error.kind();
    let is_there = matches!(kind, StoreErrorKind::Unavailable | StoreErrorKind::Misconfigured);
    let said = error.source().and_then(|source| source.downcast_ref::<RedisError>());
    is_there
        && said.is_none_or(|said| said.code().is_some())
        && !is_active(Mutant::AdmitBeforeReading)
}

#[async_trait]
impl Store for RedisStore {
    async fn claim(
        &self,
        key: &StoreKey,
        record: &Record,
        keep: Keep,
    ) -> Result<Claimed, StoreError> {
        let error = match self.try_claim(key, record, keep).await {
            Err(error) if still_answers(&error) => error,
            claimed => return claimed,
        };
        // A server that takes no claims is read from all the same.
        match self.get(key).await {
            Ok(Some(held)) if held.fence().token != record.fence().token => Ok(Claimed::Held(held)),
            // There is a record, and nobody may pass it.
            Err(unread)
                if unread.kind() == StoreErrorKind::Corrupt && !is_active(Mutant::HideDamage) =>
            {
                Err(unread)
            }
            Ok(_) | Err(_) => Err(error),
        }
    }

    async fn swap(
        &self,
        key: &StoreKey,
        expect: Fence,
        record: &Record,
        keep: Keep,
    ) -> Result<Write, StoreError> {
        let takes_over = expect.token != record.fence().token;
        if takes_over {
            self.admit().await.map_err(StoreError::undone)?;
        }
        let keep = keep.bounded();
        let new = codec::encode(record, keep.record);
        let length = new.head.len() + new.response.as_deref().map_or(0, <[u8]>::len);
        let mut call = call(&scripts::SWAP, key, codec::FENCE.len() + length + 32);
        call.arg(&codec::encode_fence(expect)[..])
            .arg(&*new.head)
            .arg(milliseconds(keep.record))
            .arg(new.response.as_deref().unwrap_or_default())
            .arg(milliseconds(keep.response.unwrap_or(keep.record)));
        let write = self.swapped(call).await?;
        if takes_over {
            self.link.guard().admit()?;
        }
        Ok(write)
    }

    /// No replica is waited for: where one that has not heard of it is promoted, the key is
    /// unknown and not free.
    async fn remove(&self, key: &StoreKey, expect: Fence) -> Result<Write, StoreError> {
        let mut call = call(&scripts::REMOVE, key, codec::FENCE.len());
        call.arg(&codec::encode_fence(expect)[..]);
        self.compare("remove", &scripts::REMOVE, call).await
    }

    async fn get(&self, key: &StoreKey) -> Result<Option<Record>, StoreError> {
        let name = Name::of(key);
        let mut command = redis::cmd("MGET");
        command.arg(name.head()).arg(name.response());
        let reply = self.link.run("get", Request::Send(Commands::One(&command))).await?;
        let (head, response): (Option<Vec<u8>>, Option<Vec<u8>>) = read(reply, "get")?;
        let Some(head) = head else { return Ok(None) };
        let record = match codec::decode(&head, response.map(Bytes::from)) {
            // One command reads at one moment, so this is a response whose own head is gone.
            Err(CodecError::Mixed) => codec::decode(&head, None),
            record => record,
        };
        Ok(Some(record?))
    }

    async fn age(&self, key: &StoreKey) -> Result<Option<(Fence, Duration)>, StoreError> {
        let name = Name::of(key);
        let mut pipeline = Pipeline::with_capacity(4);
        pipeline.cmd("MULTI").cmd("GET").arg(name.head()).cmd("PTTL").arg(name.head()).cmd("EXEC");
        let reply = self.link.run("age", Request::Send(Commands::Many(&pipeline))).await?;
        let both = replies(reply, "age")?.pop().unwrap_or(Value::Nil);
        let (head, left): (Option<Vec<u8>>, i64) = read(both, "age")?;
        let Some(head) = head else { return Ok(None) };
        let left = Duration::from_millis(u64::try_from(left).unwrap_or(u64::MAX));
        Ok(Some(codec::decode_age(&head, left)?))
    }

    async fn scan(&self, cursor: Option<Cursor>, limit: usize) -> Result<Page, StoreError> {
        self.page(cursor, limit).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.link.look("ping").await?;
        self.link.guard().verdict()
    }

    fn losses(&self) -> u64 {
        self.link.guard().losses()
    }

    async fn acknowledge_loss(&self) -> Result<(), StoreError> {
        self.link.run("acknowledge", Request::Acknowledge).await.map(drop)
    }
}
