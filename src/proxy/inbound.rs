//! The client's side of a connection: how long it may take, and for what.
//!
//! | from | to | limit |
//! |---|---|---|
//! | the end of an exchange | the end of the next head | `idle_timeout`, by the HTTP library |
//! | the first byte of a head | its end | `head_timeout`, [`Paced`] |
//! | one piece of a body | the next | `body_timeout`, [`InboundBody`] |

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};
use tower_http::timeout::TimeoutBody;

use crate::BoxError;

/// Whether an exchange is under way on a connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pace(Arc<AtomicBool>);

impl Pace {
    /// An exchange begins; it ends when the guard is dropped.
    pub(crate) fn begin(&self) -> Busy {
        self.0.store(true, Ordering::Relaxed);
        Busy(self.clone())
    }

    fn is_busy(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// An exchange that is under way.
#[derive(Debug)]
pub(crate) struct Busy(Pace);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Relaxed);
    }
}

/// A connection on which a head that has begun must end in time.
#[derive(Debug)]
pub(crate) struct Paced<I> {
    io: I,
    pace: Pace,
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    running: bool,
}

impl<I> Paced<I> {
    pub(crate) fn new(io: I, limit: Duration) -> (Self, Pace) {
        let pace = Pace::default();
        (Self { io, pace: pace.clone(), limit, timer: None, running: false }, pace)
    }

    pub(crate) const fn get_ref(&self) -> &I {
        &self.io
    }

    fn start(&mut self) {
        let until = Instant::now() + self.limit;
        match &mut self.timer {
            Some(timer) => timer.as_mut().reset(until),
            None => self.timer = Some(Box::pin(tokio::time::sleep_until(until))),
        }
        self.running = true;
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Paced<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if self.pace.is_busy() {
            self.running = false;
            return read;
        }
        match &read {
            Poll::Ready(Ok(())) if !buf.filled().is_empty() && !self.running => self.start(),
            Poll::Ready(_) => {}
            Poll::Pending if self.running => {
                let late =
                    self.timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready());
                if late {
                    let error = io::Error::new(
                        io::ErrorKind::TimedOut,
                        "the head of a request took too long",
                    );
                    return Poll::Ready(Err(error));
                }
            }
            Poll::Pending => {}
        }
        read
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Paced<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

pin_project! {
    /// A request body with a limit between two pieces. Being late is an
    /// [`io::ErrorKind::TimedOut`].
    pub(crate) struct InboundBody<B> {
        #[pin]
        body: TimeoutBody<B>,
    }
}

impl<B> std::fmt::Debug for InboundBody<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InboundBody")
    }
}

impl<B> InboundBody<B> {
    pub(crate) fn new(body: B, limit: Duration) -> Self {
        Self { body: TimeoutBody::new(limit, body) }
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
        self.project().body.poll_frame(cx).map_err(|error| {
            if error.is::<tower_http::timeout::TimeoutError>() {
                io::Error::new(io::ErrorKind::TimedOut, "a request body took too long").into()
            } else {
                error
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
