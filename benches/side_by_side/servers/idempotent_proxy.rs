//! ldclabs/idempotent-proxy, with its log off.

use std::{net::SocketAddr, process::Command};

use super::{Server, redis};
use crate::{
    Result,
    process::{self, Process, find, free_address},
};

pub(super) const PROGRAM: &str = "idempotent-proxy-server";

pub(super) fn start(backend: SocketAddr, with_redis: bool) -> Result<Server> {
    let program = find(PROGRAM).ok_or("idempotent-proxy-server is missing")?;
    let (address, folder) = (free_address()?, process::folder()?);
    // It wants the file to be there, and takes the environment first.
    process::write(&folder, ".env", "")?;
    let mut command = Command::new(program);
    command.env("SERVER_ADDR", address.to_string()).env("LOG_LEVEL", "error");
    command.env("URL_UP", format!("http://{backend}/payments"));
    let redis = if with_redis {
        let (process, at) = redis::start()?;
        command.env("REDIS_URL", at.to_string());
        Some(process)
    } else {
        command.env_remove("REDIS_URL");
        None
    };
    let process = Process::start("idempotent-proxy", &mut command, folder, address)?;
    Ok(Server { address, path: "/URL_UP", process, redis })
}
