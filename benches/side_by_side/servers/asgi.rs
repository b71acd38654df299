//! snok/asgi-idempotency-header: middleware of a Python service, so there is no proxy and
//! no backend; the service answers by itself. What it has executed it counts itself, and says
//! so beside the middleware, so that one that does nothing would be seen.
//!
//! The manual of uvicorn recommends `uvicorn[standard]`: with uvloop and httptools there, it
//! uses them by itself. So does the client of Redis with hiredis.

use std::net::SocketAddr;

use super::{
    Server,
    python::{self, VARIABLE},
};
use crate::{
    Result,
    load::{ANSWER, exchange},
};

/// What the service is made of.
pub(crate) const PACKAGES: [&str; 6] =
    ["asgi-idempotency-header", "uvicorn", "uvloop", "httptools", "redis", "hiredis"];

/// What is not there of what makes the service faster.
pub(crate) fn slower() -> Option<String> {
    let list = "import importlib.util as util\n\
                parts = ['uvloop', 'httptools', 'hiredis']\n\
                print(', '.join(part for part in parts if util.find_spec(part) is None), end='')";
    let parts = python::run(python::interpreter()?, list)?;
    (!parts.is_empty()).then(|| {
        format!(
            "asgi-idempotency-header ran without {parts}: pip install 'uvicorn[standard]' \
             'redis[hiredis]'"
        )
    })
}

pub(super) fn missing() -> Option<String> {
    (!python::has("idempotency_header_middleware, uvicorn, redis")).then(|| {
        format!(
            "asgi-idempotency-header: python3 -m venv ENV && ENV/bin/pip install \
             asgi-idempotency-header fastapi 'uvicorn[standard]' 'redis[hiredis]', then set {VARIABLE}=ENV/bin/python"
        )
    })
}

const SERVICE: &str = r#"
import os
import redis.asyncio
from idempotency_header_middleware import IdempotencyHeaderMiddleware
from idempotency_header_middleware.backends import RedisBackend

ANSWER = os.environ["ANSWER"].encode()
executed = 0

async def answer(send, body):
    await send({"type": "http.response.start", "status": 200, "headers": [
        (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})

async def pay(scope, receive, send):
    global executed
    while (await receive()).get("more_body"):
        pass
    executed += 1
    await answer(send, ANSWER)

connection = redis.asyncio.Redis(port=int(os.environ["REDIS_PORT"]), decode_responses=True)
payments = IdempotencyHeaderMiddleware(pay, backend=RedisBackend(connection))

# The ledger stands beside the middleware.
async def app(scope, receive, send):
    if scope["path"] == "/executed":
        await answer(send, b"%d" % executed)
    else:
        await payments(scope, receive, send)
"#;

pub(super) fn start() -> Result<Server> {
    python::serve(SERVICE, true, &[("ANSWER", ANSWER)])
}

/// How many requests the service has executed.
pub(crate) fn executed(service: SocketAddr) -> Result<u64> {
    let ask = "GET /executed HTTP/1.1\r\nHost: service\r\nConnection: close\r\n\r\n";
    let answer = exchange(service, ask)?;
    let (_, number) = answer.rsplit_once("\r\n\r\n").ok_or("no body in /executed")?;
    Ok(number.parse()?)
}
