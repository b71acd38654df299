//! The client's side of an HTTP/1 connection: how long it may take, and for what.
//!
//! | from | to | limit |
//! |---|---|---|
//! | the end of an exchange | the first byte of the next head | `idle_timeout`, [`Paced`] |
//! | the first byte of a head | its end | `head_timeout`, [`Paced`] |
//!
//! How long its body may take is `inbound_body`'s, and how long it may take for what it is sent
//! `sending`'s.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, ReadBuf},
    time::Instant,
};

use super::{closing::Watch, link::Limits, pace::Pace, through::write_through};
use crate::{
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
        // A body may go on after its answer, and has limits of its own.
        if self.is_busy() || read.is_ready() && self.pace.wants_more() {
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
        if self.pace.wants_more() && !is_active(Mutant::RestInBody) {
            // Nobody says when it is over, so it is looked at again.
            let _ = self.timer.poll_until(Instant::now() + REST, cx);
            return Poll::Pending;
        }
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

#[cfg(test)]
#[path = "inbound_tests.rs"]
mod tests;
