//! A Redis of one's own, without files: what it writes to disk is the same for everybody
//! who uses it, and a matter of its own configuration.

use std::{
    net::SocketAddr,
    process::Command,
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use crate::{
    Result, interrupt,
    process::{self, Process, find, free_address},
};

/// How long Redis may take to settle.
const SETTLE: Duration = Duration::from_secs(300);
/// How long it is watched, and how much it works then beside a table that it is resizing.
const WATCH: Duration = Duration::from_millis(500);
const IDLE: Duration = Duration::from_millis(100);

pub(crate) fn start() -> Result<(Rc<Process>, SocketAddr)> {
    let program =
        find("redis-server").ok_or("redis-server is missing; try: apt-get install redis-server")?;
    let (address, folder) = (free_address()?, process::folder()?);
    let mut command = Command::new(program);
    command.args(["--port", &address.port().to_string(), "--bind", "127.0.0.1"]);
    command.args(["--save", "", "--appendonly", "no"]);
    let process = Process::start("redis-server", &mut command, folder, address)?;
    Ok((Rc::new(process), address))
}

/// Lets Redis finish with the table of its keys.
///
/// Whenever the number of keys has doubled it moves them to a larger one, a little with
/// each command and for a millisecond at a time beside them. With millions of keys that
/// takes minutes, and whoever comes in such a millisecond waits. It belongs to no number
/// of records, so it is over before anything is measured; it goes fast while nobody waits.
pub(crate) fn settle(redis: &Process, url: &str) -> Result<()> {
    let mut connection = redis::Client::open(url)?.get_connection()?;
    let mut turns = |per_second: u32| {
        redis::cmd("CONFIG").arg("SET").arg("hz").arg(per_second).exec(&mut connection)
    };
    turns(500)?;
    let begin = Instant::now();
    loop {
        let before = redis.cpu()?;
        thread::sleep(WATCH);
        interrupt::check()?;
        if redis.cpu()? - before < IDLE {
            break;
        }
        if begin.elapsed() > SETTLE {
            return Err("Redis is still busy minutes after its last command".into());
        }
    }
    Ok(turns(10)?)
}
