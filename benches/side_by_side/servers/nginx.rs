//! nginx: the backend of everybody, the pass-through that others are compared with, and a
//! cache of POST answers, which is what a replay is to a proxy that knows no better.

use std::{net::SocketAddr, process::Command};

use super::Server;
use crate::{
    Result,
    load::{ANSWER, exchange},
    process::{self, Process, find, free_address},
};

/// Answers each request with 48 bytes.
pub(crate) fn backend() -> Result<Server> {
    let answer = format!(
        "default_type application/json;
         location / {{ return 200 '{ANSWER}'; }}
         location = /status {{ stub_status; }}"
    );
    start("nginx (backend)", 1, "", &answer)
}

/// How many requests the backend has had, this one included.
pub(crate) fn requests(backend: SocketAddr) -> Result<u64> {
    let ask = "GET /status HTTP/1.1\r\nHost: backend\r\nConnection: close\r\n\r\n";
    let answer = exchange(backend, ask)?;
    // Below `server accepts handled requests`: three numbers.
    let numbers = answer.lines().find(|line| line.starts_with(' ')).unwrap_or_default();
    let requests = numbers.split_whitespace().nth(2).ok_or("no requests in stub_status")?;
    Ok(requests.parse()?)
}

pub(super) fn pass(backend: SocketAddr, workers: usize) -> Result<Server> {
    let location = "location / { proxy_pass http://backend; }";
    start("nginx", workers, &upstream(backend), location)
}

/// What the cache does with the file of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenFiles {
    /// Opened for each answer, as nginx does when it is not told otherwise.
    ForEach,
    /// Kept open between answers, which its manual offers for speed.
    Kept,
}

pub(super) fn cache(backend: SocketAddr, files: OpenFiles) -> Result<Server> {
    let paths = "proxy_cache_path cache keys_zone=answers:16m inactive=1h use_temp_path=off;";
    let files = match files {
        OpenFiles::ForEach => "",
        OpenFiles::Kept => "open_file_cache max=10000 inactive=1h;",
    };
    let location = "location / {
        proxy_pass http://backend;
        proxy_cache answers;
        proxy_cache_methods POST;
        proxy_cache_key $http_idempotency_key;
        proxy_cache_valid 200 1h;
    }";
    start("nginx (cache)", 1, &format!("{}\n{paths}\n{files}", upstream(backend)), location)
}

/// Keep-alive to the backend, which nginx does not do by itself.
fn upstream(backend: SocketAddr) -> String {
    format!(
        "upstream backend {{ server {backend}; keepalive 128; keepalive_requests 1000000000; }}
         proxy_http_version 1.1;
         proxy_set_header Connection '';"
    )
}

fn start(name: &'static str, workers: usize, http: &str, server: &str) -> Result<Server> {
    let program = find("nginx").ok_or("nginx is missing; try: apt-get install nginx")?;
    let (address, folder) = (free_address()?, process::folder()?);
    // Workers of a superuser become nobody else, since the folder is closed to others.
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    let configuration = format!(
        "daemon off; pid pid; error_log stderr crit; {user}
         worker_processes {workers};
         events {{ worker_connections 4096; }}
         http {{
             access_log off;
             tcp_nodelay on;
             keepalive_timeout 1h;
             keepalive_requests 1000000000;
             client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
             uwsgi_temp_path uwsgi; scgi_temp_path scgi;
             {http}
             server {{ listen {address} backlog=4096; {server} }}
         }}"
    );
    let file = process::write(&folder, "nginx.conf", &configuration)?;
    let mut command = Command::new(program);
    command.arg("-p").arg(folder.path()).arg("-c").arg(file).args(["-e", "stderr"]);
    let process = Process::start(name, &mut command, folder, address)?;
    Ok(Server { address, path: "/payments", process, redis: None })
}
