//! Varnish, passing requests through or keeping the answers of POST by key.

use std::{net::SocketAddr, process::Command};

use super::Server;
use crate::{
    Result,
    process::{self, Process, find, free_address},
};

/// Nothing is kept.
pub(super) const PASS: &str = "sub vcl_recv { return (pass); }";

/// Varnish asks the backend with GET unless told otherwise; only the first answer of a key
/// comes from there.
pub(super) const CACHE: &str = "
sub vcl_recv { return (hash); }
sub vcl_hash { hash_data(req.http.Idempotency-Key); return (lookup); }
sub vcl_backend_response { set beresp.ttl = 1h; return (deliver); }";

pub(super) fn start(backend: SocketAddr, rules: &str) -> Result<Server> {
    let program = find("varnishd").ok_or("varnishd is missing; try: apt-get install varnish")?;
    let (address, folder) = (free_address()?, process::folder()?);
    let (host, port) = (backend.ip(), backend.port());
    let vcl =
        format!("vcl 4.1;\nbackend service {{ .host = \"{host}\"; .port = \"{port}\"; }}\n{rules}");
    let file = process::write(&folder, "rules.vcl", &vcl)?;
    let mut command = Command::new(program);
    command.arg("-F").arg("-a").arg(address.to_string()).arg("-f").arg(file);
    command.arg("-n").arg(folder.path().join("work"));
    // Without the jail, which wants users of its own; connections stay open between requests.
    command.args(["-j", "none", "-s", "malloc,256m", "-p", "timeout_idle=3600"]);
    let process = Process::start("varnish", &mut command, folder, address)?;
    Ok(Server { address, path: "/payments", process, redis: None })
}
