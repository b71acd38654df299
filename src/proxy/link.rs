//! What the way of a request asks of the connection that it came on. Each version
//! of HTTP has its own answers, and each is compiled for itself.

use std::time::Duration;

use http::{Request, header::TRANSFER_ENCODING};
use http_body::Body;

use super::inbound::{Busy, Pace};
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
