//! How each of them is started. What `side_by_side` starts as well comes from there.

pub(crate) mod gate;
#[path = "../../side_by_side/servers/idempotent_proxy.rs"]
pub(crate) mod idempotent_proxy;
#[path = "../../side_by_side/servers/python.rs"]
pub(crate) mod python;
#[path = "../../side_by_side/servers/redis.rs"]
pub(crate) mod redis;
#[path = "../../side_by_side/servers/server.rs"]
#[expect(dead_code, reason = "a server and its Redis are kept here, and not asked what they cost")]
mod server;

pub(crate) use self::server::Server;
