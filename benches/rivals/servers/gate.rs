//! The gate, as cargo has built it for this bench.

use std::{net::SocketAddr, process::Command, time::Duration};

use super::Server;
use crate::{
    Result,
    process::{self, Process, free_address},
};

pub(crate) fn start(backend: SocketAddr, timeout: Option<Duration>) -> Result<Server> {
    let (address, folder) = (free_address()?, process::folder()?);
    let mut command = Command::new(env!("CARGO_BIN_EXE_oncegate"));
    // Settings of whoever calls would change what is seen.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ONCEGATE_") {
            command.env_remove(name);
        }
    }
    command.args(["serve", "--store", "memory:", "--upstream", &format!("http://{backend}")]);
    command.args(["--listen", &address.to_string(), "--admin", "127.0.0.1:0"]);
    if let Some(timeout) = timeout {
        let timeout = format!("{}ms", timeout.as_millis());
        command.env("ONCEGATE_UPSTREAM__RESPONSE_TIMEOUT", timeout);
    }
    let process = Process::start("oncegate", &mut command, folder, address)?;
    Ok(Server { address, path: "/payments", process, redis: None })
}
