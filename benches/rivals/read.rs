//! What was only read: in which state of the source, and where.

pub(crate) struct Read {
    /// With its version, or the commit of what was read.
    pub(crate) name: &'static str,
    pub(crate) duplicate: &'static str,
    pub(crate) other_payload: &'static str,
    pub(crate) worth_knowing: &'static str,
    pub(crate) place: &'static str,
}

pub(crate) const READ: [Read; 9] = [
    Read {
        name: "express-idempotency 2.1.0 (Node)",
        duplicate: "409",
        other_payload: "417",
        worth_knowing: "of the response's headers only Content-Type is kept; callers are not told \
                        apart; without `processingTimeout`, which is off by itself, a response \
                        that never finishes locks the key",
        place: "VilledeMontreal/express-idempotency, `src/services/idempotencyService.ts` at \
                03a058c, `src/defaults/defaultIntentValidator.ts` at 1230e6e, issue 32",
    },
    Read {
        name: "@node-idempotency/core 1.0 (Node)",
        duplicate: "an error, or waits",
        other_payload: "an error",
        worth_knowing: "one lifetime (`cacheTTLMS`) for the lock and the record",
        place: "mahendraHegde/node-idempotency, `packages/core/src/idempotency.ts` at 148eb76",
    },
    Read {
        name: "hono-idempotency, 06e4329 (Node, Workers)",
        duplicate: "409",
        other_payload: "422, or 409 while the first runs",
        worth_knowing: "with Redis one lifetime for the lock and the record; any status but 2xx \
                        frees the key; Set-Cookie is not kept",
        place: "paveg/hono-idempotency, `src/middleware.ts` at 06e4329, `src/stores/redis.ts` at \
                1e5e274",
    },
    Read {
        name: "idempot-js, 220d5f2 (Node, Bun, Deno)",
        duplicate: "409",
        other_payload: "422",
        worth_knowing: "another key with the same body is refused with 409",
        place: "idempot-dev/idempot-js, `packages/core/src/validation.js` at 220d5f2",
    },
    Read {
        name: "gofiber idempotency v3, 073ed97 (Go)",
        duplicate: "waits, by itself in one process",
        other_payload: "not compared",
        worth_knowing: "a response that cannot be saved becomes an error after the handler has run",
        place: "gofiber/fiber, `middleware/idempotency/idempotency.go` at 073ed97, `config.go` at \
                05f9936",
    },
    Read {
        name: "fastapi-idempotency 0.2.0 of ronango (ASGI; memory, Redis)",
        duplicate: "409",
        other_payload: "422",
        worth_knowing: "another project than the one of that name that pip installs and that is \
                        run above; a stream is not kept and frees the key, and so does any 5xx",
        place: "ronango/fastapi-idempotency, `src/fastapi_idempotency/middleware.py` at 08b645b",
    },
    Read {
        name: "Runway, which names no version (Go gateway; memory, Redis)",
        duplicate: "waits",
        other_payload: "not mentioned",
        worth_knowing: "errors of Redis let requests pass; a response over 1 MiB is not kept, and \
                        who waited for one that was not kept goes on by himself",
        place: "its manual, page *Idempotency Key Support*",
    },
    Read {
        name: "AWS Powertools for TypeScript, September 2026 (DynamoDB, Redis)",
        duplicate: "an error",
        other_payload: "an error, where `payloadValidation` is set",
        worth_knowing: "with Redis, recovering an orphan may overwrite a record that has been \
                        completed meanwhile (open)",
        place: "aws-powertools/powertools-lambda-typescript, issue 5714",
    },
    Read {
        name: "Restate, client 2.2 (server with a log of its own)",
        duplicate: "attaches to the first and waits",
        other_payload: "not mentioned",
        worth_knowing: "a durable execution engine: handlers are written with its SDK",
        place: "docs.restate.dev, *Invocation*; `Client.IdempotentInvocationHandle`",
    },
];
