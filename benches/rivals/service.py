"""The service of the cases with a middleware of Python in it.

What it has begun and finished it says at /executed, which the middleware has no part in, and
so it is with /release. MODE is as the bench's backend has it: answer, hold, break or cookies.
"""

import asyncio
import os

MODE = os.environ["MODE"]
begun = finished = 0
released = asyncio.Event()


async def answer(send, body, headers=()):
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": 200, "headers": [
        (b"content-type", b"application/json"), length, *headers]})
    await send({"type": "http.response.body", "body": body})


async def execute():
    """A payment goes on although whoever has asked for it does not."""
    global begun, finished
    begun += 1
    execution = begun
    if MODE == "hold":
        await released.wait()
    finished += 1
    if MODE == "break" and execution == 1:
        raise RuntimeError("the service breaks off")
    return execution


async def pay(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    execution = await asyncio.shield(asyncio.ensure_future(execute()))
    cookies = [(b"set-cookie", b"c%d=1" % at) for at in range(3 if MODE == "cookies" else 0)]
    await answer(send, b'{"execution":%d}' % execution, cookies)


if os.environ["MIDDLEWARE"] == "asgi-idempotency-header":
    import redis.asyncio
    from idempotency_header_middleware import IdempotencyHeaderMiddleware
    from idempotency_header_middleware.backends import RedisBackend

    connection = redis.asyncio.Redis(port=int(os.environ["REDIS_PORT"]), decode_responses=True)
    payments = IdempotencyHeaderMiddleware(pay, backend=RedisBackend(connection))
else:
    from fastapi_idempotency import IdempotencyMiddleware

    payments = IdempotencyMiddleware(pay)


async def app(scope, receive, send):
    if scope["path"] == "/executed":
        await answer(send, b"%d %d" % (begun, finished))
    elif scope["path"] == "/release":
        released.set()
        await answer(send, b"")
    else:
        await payments(scope, receive, send)
