//! The body of a client's request, and how long it may take. The same for HTTP/1 and HTTP/2.
//!
//! | from | to | limit |
//! |---|---|---|
//! | one piece of a body | the next | `body_timeout`, [`InboundBody`] |
//! | the first wait for a body that is held | its end | `body_timeout` and a second for each KiB, [`Pause`] |

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::{pace::Unread, pause::Pause};
use crate::{
    BoxError,
    mutants::{Mutant, is_active},
};

pin_project! {
    /// A request body with a limit between two pieces. Its errors are [`Unfinished`]; being
    /// late is an [`io::ErrorKind::TimedOut`] within.
    #[derive(Debug)]
    pub(crate) struct InboundBody<B> {
        #[pin]
        body: B,
        pause: Pause,
        unread: Option<Unread>,
        is_stream: bool,
    }
}

impl<B: Body> InboundBody<B> {
    /// Ends `unread` at its own end. A body that has none, and is not at its end, comes by a
    /// stream of HTTP/2.
    pub(crate) fn new(body: B, limit: Duration, unread: Option<Unread>) -> Self {
        let is_stream = unread.is_none() && !body.is_end_stream();
        Self { body, pause: Pause::new(limit, None), unread, is_stream }
    }

    /// The same for one that takes room until it is whole.
    pub(crate) fn held(self) -> Self {
        Self { pause: self.pause.held(), ..self }
    }
}

impl<B> Body for InboundBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        let mut next = || {
            let frame = this.body.as_mut().poll_frame(cx);
            let is_last = match &frame {
                Poll::Ready(frame) => frame.is_none() || this.body.is_end_stream(),
                Poll::Pending => false,
            };
            (frame, is_last)
        };
        // The library wakes the connection for more, of which there is none after the last.
        let (frame, is_last) = match this.unread {
            Some(unread) => unread.turn().work(next),
            None => next(),
        };
        if let Poll::Ready(frame) = frame {
            match &frame {
                Some(Ok(frame)) => this.pause.came(frame.data_ref().map_or(0, Bytes::len)),
                Some(Err(_)) | None => this.pause.end(),
            }
            if is_last && let Some(unread) = this.unread.take() {
                unread.end();
            }
            // The library calls it an end, too, when a stream is reset with NO_ERROR or its
            // connection is given up: there is no sign of its end then.
            if frame.is_none()
                && *this.is_stream
                && !this.body.is_end_stream()
                && !is_active(Mutant::TakeResetForEnd)
            {
                return Poll::Ready(Some(Err(Unfinished("its stream was reset".into()).into())));
            }
            let unfinished = |error: B::Error| Unfinished(error.into()).into();
            return Poll::Ready(frame.map(|frame| frame.map_err(unfinished)));
        }
        if is_active(Mutant::WaitForBodies) {
            return Poll::Pending;
        }
        this.pause.poll_too_long(cx).map(|()| {
            let late = "a request body took too long (server.body_timeout)";
            let late = io::Error::new(io::ErrorKind::TimedOut, late);
            Some(Err(Unfinished(late.into()).into()))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A request body that its client did not finish.
#[derive(Debug)]
pub(crate) struct Unfinished(BoxError);

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the request body was not finished: {}", self.0)
    }
}

impl std::error::Error for Unfinished {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.0)
    }
}
