//! The standalone reverse proxy.
//!
//! [`Server`] listens, and `drain` is its end; `connection` is a client's connection from its start to
//! its end, most of which it spends at rest; `pipeline` is the way of a request;
//! `upstream` is the way to the service, with the evidence of what was sent;
//! `headers` is what a proxy changes. `preface` tells HTTP/1 from HTTP/2 by the first
//! bytes of a connection; `inbound` and `pace` belong to the one, `http2` to the other,
//! `sending` to both, and `link` is what the pipeline asks of either. The HTTP
//! implementation is hyper's on both sides; nothing here parses HTTP, but for the lengths
//! of frames.

mod buckets;
mod closing;
mod connection;
mod drain;
mod headers;
mod http2;
mod inbound;
mod inbound_body;
mod link;
mod observe;
mod outbound;
mod pace;
mod pause;
mod pipeline;
mod preface;
mod release;
mod route;
mod sending;
mod server;
mod start;
mod through;
mod tunnel;
mod turn;
mod upstream;
mod watch;
mod workers;

pub(crate) use observe::{GateMetrics, MetricsPage};
pub(crate) use sending::Sending;
pub(crate) use server::rest_after;
pub use server::{Server, StartError};
pub(crate) use start::listen;
