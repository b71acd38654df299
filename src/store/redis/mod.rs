//! Records in Redis 7 or Valkey: shared by any number of gates.
//!
//! A record lies under two keys of one hash slot, because they live for different
//! times: `oncegate:{<store key>}` is the head, `oncegate:{<store key>}:r` the
//! response. Each operation is one round trip, and atomic:
//!
//! | operation | what is sent |
//! |---|---|
//! | claim | `MULTI`, `SET head NX GET PX`, `GET response`, `EXEC`, in one piece |
//! | swap, remove | `EVALSHA` of a script that compares the fence |
//! | get | `MGET head response` |
//! | scan | `SCAN`, then the heads in one pipeline: two |
//!
//! The transaction around a claim costs no round trip. Without it somebody else's
//! commands could come between the two reads, and a claim could see one owner's
//! head with another one's response.
//!
//! Durability is what the server is set up for. Redis expires keys by its own wall
//! clock.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use redis::{Cmd, InfoDict, IntoConnectionInfo, Pipeline, Script};

use self::link::{Link, Request};
use super::{Claimed, Cursor, Page, Store, StoreError, StoreErrorKind, Write};
use crate::engine::{
    codec,
    policy::Keep,
    record::{Fence, Record, StoreKey},
};
use crate::mutants::{Mutant, is_active};

mod link;
mod scripts;
mod verify;

/// How many times one page of a listing asks the server, whose database may hold
/// mostly other things.
const SCANS: usize = 16;

/// The longest time to live that is asked for, since Redis refuses one that
/// overflows its clock: a hundred years.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// A store on one Redis server.
#[derive(Debug)]
pub struct RedisStore {
    link: Link,
    options: RedisOptions,
}

/// How to deal with a Redis server.
///
/// # Defaults
/// A reply within 2 seconds, a connection within 1 second, no eviction.
#[derive(Clone, Debug)]
pub struct RedisOptions {
    /// How long to wait for a reply. An operation is repeated once, so it takes
    /// twice as long at the most.
    pub reply_timeout: Duration,
    /// How long to wait for a connection.
    pub connect_timeout: Duration,
    /// Whether the server may throw records away when its memory is full. A
    /// request whose claim was thrown away can run twice.
    pub allow_eviction: bool,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            reply_timeout: Duration::from_secs(2),
            connect_timeout: Duration::from_secs(1),
            allow_eviction: false,
        }
    }
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
    /// and that it throws nothing away. To be called before the first claim.
    ///
    /// # Errors
    /// [`StoreErrorKind::Misconfigured`], with the setting to change, or any error
    /// of an operation.
    pub async fn verify(&self) -> Result<(), StoreError> {
        let info: InfoDict = self.link.run("verify", Request::One(&redis::cmd("INFO"))).await?;
        verify::judge(self.link.peer(), &info, &self.options)
    }

    async fn compare(
        &self,
        operation: &str,
        script: &Script,
        call: &Cmd,
    ) -> Result<Write, StoreError> {
        let applied: bool = self.link.run(operation, Request::Script(script, call)).await?;
        Ok(if applied { Write::Applied } else { Write::Fenced })
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn claim(
        &self,
        key: &StoreKey,
        record: &Record,
        keep: Keep,
    ) -> Result<Claimed, StoreError> {
        let name = Name::of(key);
        let mut pipeline = Pipeline::with_capacity(2);
        pipeline.atomic();
        pipeline
            .cmd("SET")
            .arg(&name.head)
            .arg(&*codec::encode(record, keep.record).head)
            .arg(&["NX", "GET", "PX"])
            .arg(milliseconds(keep.record));
        pipeline.cmd("GET").arg(&name.response);
        let (head, response): (Option<Vec<u8>>, Option<Vec<u8>>) =
            self.link.run("claim", Request::Many(&pipeline)).await?;
        let Some(head) = head.filter(|_| !is_active(Mutant::IgnoreHolder)) else {
            return Ok(Claimed::Mine);
        };
        let is_mine = codec::decode_fence(&head)?.token == record.fence().token;
        if is_mine && !is_active(Mutant::ForgetOwnClaim) {
            return Ok(Claimed::Mine);
        }
        Ok(Claimed::Held(codec::decode(&head, response.map(Bytes::from))?))
    }

    async fn swap(
        &self,
        key: &StoreKey,
        expect: Fence,
        record: &Record,
        keep: Keep,
    ) -> Result<Write, StoreError> {
        let new = codec::encode(record, keep.record);
        let mut call = call(&scripts::SWAP, key);
        call.arg(&codec::encode_fence(expect)[..])
            .arg(&codec::encode_fence(record.fence())[..])
            .arg(&*new.head)
            .arg(milliseconds(keep.record))
            .arg(new.response.as_deref().unwrap_or_default())
            .arg(milliseconds(keep.response.unwrap_or(keep.record)));
        self.compare("swap", &scripts::SWAP, &call).await
    }

    async fn remove(&self, key: &StoreKey, expect: Fence) -> Result<Write, StoreError> {
        let mut call = call(&scripts::REMOVE, key);
        call.arg(&codec::encode_fence(expect)[..]);
        self.compare("remove", &scripts::REMOVE, &call).await
    }

    async fn get(&self, key: &StoreKey) -> Result<Option<Record>, StoreError> {
        let name = Name::of(key);
        let mut command = redis::cmd("MGET");
        command.arg(&name.head).arg(&name.response);
        let (head, response): (Option<Vec<u8>>, Option<Vec<u8>>) =
            self.link.run("get", Request::One(&command)).await?;
        let Some(head) = head else { return Ok(None) };
        Ok(Some(codec::decode(&head, response.map(Bytes::from))?))
    }

    async fn age(&self, key: &StoreKey) -> Result<Option<(Fence, Duration)>, StoreError> {
        let name = Name::of(key);
        let mut pipeline = Pipeline::with_capacity(2);
        pipeline.atomic();
        pipeline.cmd("GET").arg(&name.head).cmd("PTTL").arg(&name.head);
        let (head, left): (Option<Vec<u8>>, i64) =
            self.link.run("age", Request::Many(&pipeline)).await?;
        let Some(head) = head else { return Ok(None) };
        let left = Duration::from_millis(u64::try_from(left).unwrap_or(u64::MAX));
        Ok(Some(codec::decode_age(&head, left)?))
    }

    async fn scan(&self, cursor: Option<Cursor>, limit: usize) -> Result<Page, StoreError> {
        let mut page = Page { records: Vec::new(), next: cursor };
        for _ in 0..SCANS {
            let mut command = redis::cmd("SCAN");
            command.arg(page.next.as_ref().map_or("0", |cursor| &cursor.0));
            command.arg("MATCH").arg("oncegate:{*}").arg("COUNT").arg(limit.clamp(1, 1000));
            let (next, names): (String, Vec<Vec<u8>>) =
                self.link.run("scan", Request::One(&command)).await?;
            page.next = (next != "0").then_some(Cursor(next));
            self.summaries(&names, &mut page).await?;
            if page.next.is_none() || page.records.len() >= limit {
                break;
            }
        }
        Ok(page)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.link.run("ping", Request::One(&redis::cmd("PING"))).await
    }
}

impl RedisStore {
    /// Reads the heads of `names`, those that are still there.
    async fn summaries(&self, names: &[Vec<u8>], page: &mut Page) -> Result<(), StoreError> {
        let keys: Vec<StoreKey> = names.iter().filter_map(|name| Name::parse(name)).collect();
        if keys.is_empty() {
            return Ok(());
        }
        let mut pipeline = Pipeline::with_capacity(2 * keys.len());
        for key in &keys {
            let name = Name::of(key);
            pipeline.cmd("GET").arg(name.head).cmd("EXISTS").arg(name.response);
        }
        let rows: Vec<(Option<Vec<u8>>, bool)> =
            self.link.run("scan", Request::Many(&pipeline)).await?;
        for (key, (head, response_is_there)) in keys.into_iter().zip(rows) {
            if let Some(head) = head {
                page.records.push((key, codec::decode_summary(&head, response_is_there)?));
            }
        }
        Ok(())
    }
}

/// The two keys of a record.
struct Name {
    head: String,
    response: String,
}

impl Name {
    fn of(key: &StoreKey) -> Self {
        let head = format!("oncegate:{{{key}}}");
        Self { response: format!("{head}:r"), head }
    }

    fn parse(head: &[u8]) -> Option<StoreKey> {
        let text = std::str::from_utf8(head).ok()?;
        StoreKey::from_hex(text.strip_prefix("oncegate:{")?.strip_suffix('}')?)
    }
}

/// The call of a script on a record's keys.
///
/// Built by hand: `redis::ScriptInvocation` would copy a response once more.
fn call(script: &Script, key: &StoreKey) -> Cmd {
    let name = Name::of(key);
    let mut call = redis::cmd("EVALSHA");
    call.arg(script.get_hash()).arg(2).arg(name.head).arg(name.response);
    call
}

/// A time to live. Redis refuses 0.
fn milliseconds(keep: Duration) -> u64 {
    u64::try_from(keep.min(LONGEST).as_millis()).unwrap_or(u64::MAX).max(1)
}
