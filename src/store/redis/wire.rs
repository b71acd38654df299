//! Names and values as Redis gets and gives them.

use std::time::Duration;

use redis::{FromRedisValue as _, Pipeline, Script, Value};

use crate::{
    engine::record::StoreKey,
    store::{StoreError, StoreErrorKind},
};

/// The longest time to live that is asked for, since Redis refuses one that
/// overflows its clock: a hundred years.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The two keys of a record.
pub(super) struct Name {
    pub(super) head: String,
    pub(super) response: String,
}

impl Name {
    pub(super) fn of(key: &StoreKey) -> Self {
        let hex = key.to_hex();
        let head = ["oncegate:{", &hex, "}"].concat();
        Self { response: [&head, ":r"].concat(), head }
    }

    pub(super) fn parse(head: &[u8]) -> Option<StoreKey> {
        let text = std::str::from_utf8(head).ok()?;
        StoreKey::from_hex(text.strip_prefix("oncegate:{")?.strip_suffix('}')?)
    }
}

/// The call of a script on a record's keys.
///
/// Built by hand: `redis::ScriptInvocation` would copy a response once more.
pub(super) fn call(script: &Script, key: &StoreKey) -> Pipeline {
    let name = Name::of(key);
    let mut call = Pipeline::with_capacity(2);
    call.cmd("EVALSHA").arg(script.get_hash()).arg(2).arg(name.head).arg(name.response);
    call
}

/// A string that a command replied with, or nothing.
pub(super) fn bulk(reply: Option<Value>) -> Result<Option<Vec<u8>>, StoreError> {
    Option::from_redis_value(reply.unwrap_or(Value::Nil)).map_err(|_| unexpected("claim"))
}

pub(super) fn unexpected(operation: &str) -> StoreError {
    let what = format!("{operation}: Redis replied with something else than it was asked for");
    StoreError::new(StoreErrorKind::Corrupt, what)
}

/// A time to live. Redis refuses 0.
pub(super) fn milliseconds(keep: Duration) -> u64 {
    u64::try_from(keep.min(LONGEST).as_millis()).unwrap_or(u64::MAX).max(1)
}
