//! A Redis that has done what it does by itself after its last command.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{Result, interrupt, process::Process};

/// How long Redis may take to settle.
const SETTLE: Duration = Duration::from_secs(300);
/// How long it is watched, and how much it works then beside a table that it is resizing.
const WATCH: Duration = Duration::from_millis(500);
const IDLE: Duration = Duration::from_millis(100);

/// Lets Redis finish with the table of its keys.
///
/// Whenever the number of keys has doubled it moves them to a larger one, a little with
/// each command and for a millisecond at a time beside them. With millions of keys that
/// takes minutes, and whoever comes in such a millisecond waits. It belongs to no number
/// of records, so it is over before anything is measured; it goes fast while nobody waits.
pub(super) fn settle(redis: &Process, url: &str) -> Result<()> {
    let mut connection = redis::Client::open(url)?.get_connection()?;
    let mut turns = |per_second: u32| {
        redis::cmd("CONFIG").arg("SET").arg("hz").arg(per_second).exec(&mut connection)
    };
    turns(500)?;
    let begin = Instant::now();
    loop {
        let before = redis.cpu();
        thread::sleep(WATCH);
        interrupt::check()?;
        if redis.cpu() - before < IDLE {
            break;
        }
        if begin.elapsed() > SETTLE {
            return Err("Redis is still busy minutes after its last command".into());
        }
    }
    Ok(turns(10)?)
}
