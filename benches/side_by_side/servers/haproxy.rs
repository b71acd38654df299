//! HAProxy with one thread, reusing connections to the backend.

use std::{net::SocketAddr, process::Command};

use super::Server;
use crate::{
    Result,
    process::{self, Process, find, free_address},
};

pub(super) fn start(backend: SocketAddr) -> Result<Server> {
    let program = find("haproxy").ok_or("haproxy is missing; try: apt-get install haproxy")?;
    let (address, folder) = (free_address()?, process::folder()?);
    let configuration = format!(
        "global
    nbthread 1
    maxconn 4096
defaults
    mode http
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    http-reuse always
frontend side_by_side
    bind {address}
    default_backend backend
backend backend
    server backend {backend}
"
    );
    let file = process::write(&folder, "haproxy.cfg", &configuration)?;
    let mut command = Command::new(program);
    // -db: in the foreground.
    command.arg("-db").arg("-f").arg(file);
    let process = Process::start("haproxy", &mut command, folder, address)?;
    Ok(Server { address, path: "/payments", process, redis: None })
}
