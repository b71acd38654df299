//! snok/asgi-idempotency-header: middleware of a Python service, so there is no proxy and
//! no backend; the service answers by itself.
//!
//! The manual of uvicorn recommends `uvicorn[standard]`: with uvloop and httptools there, it
//! uses them by itself. So does the client of Redis with hiredis.

use std::{ffi::OsString, path::PathBuf, process::Command};

use super::{Server, redis};
use crate::{
    Result,
    load::ANSWER,
    process::{self, Process, find, free_address},
};

/// The interpreter; one with the packages can be named.
pub(crate) const VARIABLE: &str = "SIDE_BY_SIDE_PYTHON";

fn python() -> Option<PathBuf> {
    std::env::var_os(VARIABLE).map(named).or_else(|| find("python3"))
}

/// A server starts in a folder of its own, so that a path has to say where it begins. Links
/// are left as they are: the interpreter of an environment is one, and finds its packages by
/// where the link is.
fn named(python: OsString) -> PathBuf {
    let python = PathBuf::from(python);
    if python.components().count() == 1 {
        // The name of a program on the path.
        return python;
    }
    // It fails for an empty path, which has no component.
    std::path::absolute(&python).unwrap_or(python)
}

/// What is not there of what makes the service faster.
pub(crate) fn slower() -> Option<String> {
    let list = "import importlib.util as util\n\
                parts = ['uvloop', 'httptools', 'hiredis']\n\
                print(', '.join(part for part in parts if util.find_spec(part) is None), end='')";
    let output = Command::new(python()?).args(["-c", list]).output().ok()?;
    let parts = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.success() && !parts.is_empty()).then(|| {
        format!(
            "asgi-idempotency-header ran without {parts}: pip install 'uvicorn[standard]' \
             'redis[hiredis]'"
        )
    })
}

pub(super) fn missing() -> Option<String> {
    let found = python().and_then(|python| {
        let import = "import idempotency_header_middleware, uvicorn, redis";
        Command::new(python).args(["-c", import]).output().ok()
    });
    found.is_none_or(|output| !output.status.success()).then(|| {
        format!(
            "asgi-idempotency-header: python3 -m venv ENV && ENV/bin/pip install \
             asgi-idempotency-header fastapi 'uvicorn[standard]' 'redis[hiredis]', then set {VARIABLE}=ENV/bin/python"
        )
    })
}

pub(super) fn start() -> Result<Server> {
    let python = python().ok_or("python3 is missing; try: apt-get install python3-venv")?;
    let (address, folder) = (free_address()?, process::folder()?);
    let (redis, at) = redis::start()?;
    let service = format!(
        r#"
import redis.asyncio
from idempotency_header_middleware import IdempotencyHeaderMiddleware
from idempotency_header_middleware.backends import RedisBackend

ANSWER = b'{ANSWER}'

async def pay(scope, receive, send):
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    await send({{"type": "http.response.start", "status": 200, "headers": [
        (b"content-type", b"application/json"), (b"content-length", b"48")]}})
    await send({{"type": "http.response.body", "body": ANSWER}})

connection = redis.asyncio.Redis(host="{host}", port={port}, decode_responses=True)
app = IdempotencyHeaderMiddleware(pay, backend=RedisBackend(connection))
"#,
        host = at.ip(),
        port = at.port(),
    );
    process::write(&folder, "service.py", &service)?;
    let mut command = Command::new(python);
    command.args(["-m", "uvicorn", "service:app", "--no-access-log", "--log-level", "warning"]);
    command.args(["--lifespan", "off", "--timeout-keep-alive", "3600", "--host", "127.0.0.1"]);
    command.args(["--port", &address.port().to_string()]);
    let process = Process::start("uvicorn", &mut command, folder, address)?;
    Ok(Server { address, path: "/payments", process, redis: Some(redis) })
}
