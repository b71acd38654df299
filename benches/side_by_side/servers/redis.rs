//! A Redis of one's own, without files: what it writes to disk is the same for everybody
//! who uses it, and a matter of its own configuration.

use std::{net::SocketAddr, process::Command, rc::Rc};

use crate::{
    Result,
    process::{self, Process, find, free_address},
};

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
