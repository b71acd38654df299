//! Names and values as Redis gets and gives them.

use std::time::Duration;

use arrayvec::ArrayString;
use redis::{Cmd, FromRedisValue, Pipeline, Script, Value};

use crate::{
    engine::record::StoreKey,
    store::{StoreError, StoreErrorKind},
};

/// The two keys of a record, of which one begins with the other.
pub(super) struct Name(ArrayString<RESPONSE>);

const HEAD: usize = "oncegate:{}".len() + 64;
const RESPONSE: usize = HEAD + ":r".len();

impl Name {
    pub(super) fn of(key: &StoreKey) -> Self {
        let mut name = ArrayString::new();
        for part in ["oncegate:{", &key.to_hex(), "}:r"] {
            name.push_str(part);
        }
        Self(name)
    }

    pub(super) fn head(&self) -> &str {
        &self.0[..HEAD]
    }

    pub(super) fn response(&self) -> &str {
        &self.0
    }

    pub(super) fn parse(head: &[u8]) -> Option<StoreKey> {
        let text = std::str::from_utf8(head).ok()?;
        StoreKey::from_hex(text.strip_prefix("oncegate:{")?.strip_suffix('}')?)
    }
}

/// The call of a script on a record's keys, with room for arguments of `length` bytes.
///
/// Built by hand: `redis::ScriptInvocation` would copy a response once more.
pub(super) fn call(script: &Script, key: &StoreKey, length: usize) -> Cmd {
    let name = Name::of(key);
    let mut call = Cmd::with_capacity(10, 64 + HEAD + RESPONSE + length);
    call.arg("EVALSHA").arg(script.get_hash()).arg(2).arg(name.head()).arg(name.response());
    call
}

/// Several commands at once.
pub(super) fn pipeline(commands: impl IntoIterator<Item = Cmd>) -> Pipeline {
    // Room for what durability and the look for a loss may add.
    let mut pipeline = Pipeline::with_capacity(4);
    for command in commands {
        pipeline.add_command(command);
    }
    pipeline
}

/// The replies of several commands.
pub(super) fn replies(reply: Value, operation: &str) -> Result<Vec<Value>, StoreError> {
    match reply {
        Value::Array(replies) => Ok(replies),
        _ => Err(unexpected(operation)),
    }
}

/// A string that a command replied with, or nothing.
pub(super) fn bulk(reply: Option<Value>, operation: &str) -> Result<Option<Vec<u8>>, StoreError> {
    match reply {
        Some(Value::BulkString(bytes)) => Ok(Some(bytes)),
        Some(Value::Nil) => Ok(None),
        _ => Err(unexpected(operation)),
    }
}

/// A reply of any other kind.
pub(super) fn read<T: FromRedisValue>(reply: Value, operation: &str) -> Result<T, StoreError> {
    T::from_redis_value(reply).map_err(|error| unexpected(operation).because(error))
}

pub(super) fn unexpected(operation: &str) -> StoreError {
    let what = format!("{operation}: Redis replied with something else than it was asked for");
    StoreError::new(StoreErrorKind::Corrupt, what)
}

/// A time as Redis takes it, which reads 0 as for ever or refuses it.
pub(super) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}
