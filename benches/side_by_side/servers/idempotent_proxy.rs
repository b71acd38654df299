//! ldclabs/idempotent-proxy, with its log off.

use std::{net::SocketAddr, process::Command, time::Duration};

use super::{Server, redis};
use crate::{
    Result,
    process::{self, Process, find, free_address},
    versions::installed,
};

const PROGRAM: &str = "idempotent-proxy-server";

pub(crate) fn missing() -> Option<String> {
    find(PROGRAM)
        .is_none()
        .then(|| "idempotent-proxy: cargo install idempotent-proxy-server --locked".to_owned())
}

/// Its name with the version, where it is there.
pub(crate) fn version() -> Option<String> {
    find(PROGRAM)?;
    Some(format!("{PROGRAM} {}", installed(PROGRAM).as_deref().unwrap_or("of unknown version")))
}

/// Starts it before a backend; `timeout` is how long it waits for that, where this is not the
/// usual time.
pub(crate) fn start(
    backend: SocketAddr,
    with_redis: bool,
    timeout: Option<Duration>,
) -> Result<Server> {
    let program = find(PROGRAM).ok_or("idempotent-proxy-server is missing")?;
    let (address, folder) = (free_address()?, process::folder()?);
    // It wants the file to be there, and takes the environment first.
    process::write(&folder, ".env", "")?;
    let mut command = Command::new(program);
    command.env("SERVER_ADDR", address.to_string()).env("LOG_LEVEL", "error");
    command.env("URL_UP", format!("http://{backend}/payments"));
    if let Some(timeout) = timeout {
        command.env("REQUEST_TIMEOUT", timeout.as_millis().to_string());
    }
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
