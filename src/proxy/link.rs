//! What the way of a request asks of the connection that it came on. Each version
//! of HTTP has its own answers, and each is compiled for itself.

use std::time::Duration;

use http::{Request, header::TRANSFER_ENCODING};
use http_body::Body;

use super::{
    pace::{Busy, Pace, Unread},
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

/// The connection, as one exchange sees it.
pub(crate) trait Link {
    /// Held for as long as the exchange lasts, its last body byte included.
    type Busy;

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

impl Link for Pace {
    type Busy = Busy;

    fn begin(&self) -> Busy {
        Self::begin(self)
    }

    fn unread(&self) -> Option<Unread> {
        Some(Self::unread(self))
    }

    fn switch(&self, tunnel: Tunnel) {
        Self::switch(self, tunnel);
    }

    fn admit<B: Body>(&self, request: &mut Request<B>) -> Result<(), Problem> {
        let mut codings = request.headers().get_all(TRANSFER_ENCODING).iter();
        let Some(coding) = codings.next() else { return Ok(()) };
        // The library takes the chunks away and nothing else.
        if codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Err(Problem::BadRequest("The request has a transfer coding beside chunked."));
        }
        if self.head_has_length() && !is_active(Mutant::AcceptTwoFramings) {
            return Err(Problem::BadRequest(
                "The request has both Content-Length and Transfer-Encoding.",
            ));
        }
        Ok(())
    }
}
