//! What the way of a request asks of the connection that it came on. Each version
//! of HTTP has its own answers, and each is compiled for itself.

use std::time::Duration;

use http::{Request, header::TRANSFER_ENCODING};
use http_body::Body;

use super::{
    pace::{self, Pace, Unread},
    tunnel::Tunnel,
};
use crate::{
    engine::problem::Problem,
    mutants::{Mutant, is_active},
};

/// How long a client may take, but for its bodies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) head_timeout: Duration,
    pub(crate) idle_timeout: Duration,
}

/// An exchange that is under way.
pub(crate) trait Busy {
    /// Whether it waits for its client, which is to take a piece of the answer.
    fn waits_for_client(&self, _: bool) {}
}

/// The connection, as one exchange sees it.
pub(crate) trait Link {
    /// Held for as long as the exchange lasts, its last body byte included.
    type Busy: Busy;

    /// An exchange begins.
    fn begin(&self) -> Self::Busy;

    /// The request of this exchange has a body. `None` where its framing is nobody else's concern.
    fn unread(&self) -> Option<Unread> {
        None
    }

    /// The connection goes on as a tunnel. Only HTTP/1 knows such requests.
    fn switch(&self, _: Tunnel) {}

    /// Refuses what this version's framing makes doubtful and the HTTP library lets
    /// pass, and makes the head one that could have come by HTTP/1.1.
    ///
    /// # Errors
    /// The refusal.
    fn admit<B: Body>(&self, request: &mut Request<B>) -> Result<(), Problem>;
}

/// What is written to one is what its client has to take, and `sending` sees to that.
impl Busy for pace::Busy {}

impl Link for Pace {
    type Busy = pace::Busy;

    fn begin(&self) -> pace::Busy {
        Self::begin(self)
    }

    fn unread(&self) -> Option<Unread> {
        Some(Self::unread(self))
    }

    fn switch(&self, tunnel: Tunnel) {
        Self::switch(self, tunnel);
    }

    fn admit<B: Body>(&self, request: &mut Request<B>) -> Result<(), Problem> {
        let framed_twice =
            request.headers().contains_key(TRANSFER_ENCODING) && self.head_has_length();
        if framed_twice && !is_active(Mutant::AcceptTwoFramings) {
            return Err(Problem::BadRequest(
                "The request has both Content-Length and Transfer-Encoding.",
            ));
        }
        Ok(())
    }
}
