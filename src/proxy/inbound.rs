//! The client's side of an HTTP/1 connection: how long it may take, and for what.
//! The body is the same for HTTP/2.
//!
//! | from | to | limit |
//! |---|---|---|
//! | the end of an exchange | the first byte of the next head | `idle_timeout`, [`Paced`] |
//! | the first byte of a head | its end | `head_timeout`, [`Paced`] |
//! | one piece of a body | the next | `body_timeout`, [`InboundBody`] |
//! | the first wait for a body that is held | its end | `body_timeout` and a second for each KiB, [`Pause`] |
//!
//! How long it may take for what it is sent is `sending`'s.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::{
    io::{AsyncRead, ReadBuf},
    time::Instant,
};

use super::{
    closing::Watch,
    link::Limits,
    pace::{Pace, Unread},
    pause::Pause,
    through::write_through,
};
use crate::{
    BoxError,
    closing::Closing,
    mutants::{Mutant, is_active},
    timer::Timer,
};

/// How long nothing must have happened between two requests until a connection rests.
/// Long enough for a client that goes on at once, short beside how long the others wait.
pub(crate) const REST: Duration = Duration::from_secs(1);

/// A connection on which a head must begin, and one that has begun must end, in time.
#[derive(Debug)]
pub(crate) struct Paced<I> {
    io: I,
    pace: Pace,
    limits: Limits,
    timer: Timer,
    /// How many exchanges there were when it was looked last.
    exchanges: usize,
    /// A head has begun.
    begun: bool,
    /// More is kept of it than usual.
    is_long: bool,
    /// Since when there is something to wait for.
    since: Option<Instant>,
    /// Everything that was to be written has been.
    flushed: bool,
    /// After it an unused connection ends, as if the client had ended it.
    closing: Watch,
}

impl<I> Paced<I> {
    /// A connection that has been unused `since`.
    pub(crate) fn new(io: I, limits: Limits, since: Instant, closing: &Closing) -> (Self, Pace) {
        let pace = Pace::default();
        let paced = Self {
            io,
            pace: pace.clone(),
            limits,
            timer: Timer::default(),
            exchanges: 0,
            begun: false,
            is_long: false,
            since: Some(since),
            flushed: true,
            closing: Watch::new(closing),
        };
        (paced, pace)
    }

    /// The connection itself, and since when it is unused.
    pub(crate) fn into_parts(self) -> (I, Instant) {
        (self.io, self.since.unwrap_or_else(Instant::now))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Paced<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if self.is_busy() {
            return read;
        }
        if read.is_ready() {
            let bytes = &buf.filled()[before..];
            self.is_long = self.pace.keep(bytes, !self.begun);
            self.pace.rest(false);
            if !self.begun {
                self.begun = !bytes.is_empty();
                self.since = None;
            }
            return read;
        }
        self.wait(cx)
    }
}

impl<I> Paced<I> {
    /// Whether an exchange is under way.
    fn is_busy(&mut self) -> bool {
        // One that was answered at once has come and gone between two reads.
        let exchanges = self.pace.exchanges();
        if self.exchanges != exchanges {
            self.exchanges = exchanges;
            self.begun = false;
            self.since = None;
            if std::mem::take(&mut self.is_long) {
                self.pace.forget_head();
            }
        }
        self.pace.is_busy()
    }

    /// Ready when there is no use in waiting for the client any more.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.begun && self.closing.has_begun(cx) {
            return Poll::Ready(Ok(()));
        }
        // A client that has not taken the whole of its answer is not idle; `sending` waits for it.
        if !self.begun && !self.flushed {
            self.since = None;
            return Poll::Pending;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        let Limits { head_timeout, idle_timeout } = self.limits;
        if self.begun {
            if is_active(Mutant::WaitForHeads) {
                return Poll::Pending;
            }
            ready!(self.timer.poll_until(since + head_timeout, cx));
            return late("the head of a request took too long (server.head_timeout)");
        }
        let limit = if self.may_rest() { REST.min(idle_timeout) } else { idle_timeout };
        ready!(self.timer.poll_until(since + limit, cx));
        if since.elapsed() >= idle_timeout {
            return late("no request came for too long (server.idle_timeout)");
        }
        self.pace.rest(true);
        Poll::Pending
    }

    /// Notes whether everything has been handed to the system.
    fn flushed(&mut self, flushed: bool, cx: &mut Context<'_>) {
        let has_left = flushed && !self.flushed;
        self.flushed = flushed;
        // The library reads before an answer has left, and not again after it. The time to
        // rest runs from here on.
        if has_left && !self.is_busy() && self.wait(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }

    /// Whether the last exchange is over for the client as well.
    fn may_rest(&self) -> bool {
        self.flushed && (self.pace.has_read_all() || is_active(Mutant::RestInBody))
    }
}

fn late(why: &str) -> Poll<io::Result<()>> {
    Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)))
}

write_through!(Paced, flushed);

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

#[cfg(test)]
#[path = "inbound_tests.rs"]
mod tests;
