//! The standalone reverse proxy.
//!
//! [`Server`] listens and drains; `pipeline` is the way of a request;
//! `upstream` is the way to the service, with the evidence of what was sent;
//! `headers` is what a proxy changes. The HTTP implementation is hyper's on both
//! sides; nothing here parses HTTP.

mod headers;
mod inbound;
mod observe;
mod outbound;
mod pause;
mod pipeline;
mod route;
mod server;
mod start;
mod tunnel;
mod upstream;
mod watch;

pub(crate) use observe::GateMetrics;
pub use server::{Server, StartError};
pub(crate) use start::listen;
