//! A server that is asked, wherever it comes from.

use std::{net::SocketAddr, rc::Rc};

use crate::process::Process;

/// A server that runs before the backend.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// Where requests go.
    pub(crate) path: &'static str,
    // Stopped before the Redis that it uses: fields are dropped in order.
    pub(crate) process: Process,
    /// Outlives the server where its records are to.
    pub(crate) redis: Option<Rc<Process>>,
}
