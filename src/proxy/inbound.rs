//! The client's side of an HTTP/1 connection: how long it may take, and for what.
//! The body is the same for HTTP/2.
//!
//! | from | to | limit |
//! |---|---|---|
//! | the end of an exchange | the first byte of the next head | `idle_timeout`, [`Paced`] |
//! | the first byte of a head | its end | `head_timeout`, [`Paced`] |
//! | one piece of a body | the next | `body_timeout`, [`InboundBody`] |

use std::{
    future::Future as _,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::{
    io::{AsyncRead, ReadBuf},
    time::Instant,
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::{
    joined::write_through,
    pause::{Pause, Timer},
};
use crate::{
    BoxError,
    mutants::{Mutant, is_active},
};

/// Heads are kept up to this length, which is beyond what the HTTP library reads.
const MAX_HEAD: usize = 512 << 10;

/// What a connection and its exchanges know of each other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pace(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    busy: AtomicBool,
    /// What arrived since the last exchange: the head of the next request, and
    /// perhaps more.
    head: Mutex<Vec<u8>>,
}

impl Pace {
    /// An exchange begins; it ends when the guard is dropped.
    pub(crate) fn begin(&self) -> Busy {
        self.0.busy.store(true, Ordering::Relaxed);
        Busy(self.clone())
    }

    /// Whether the head that began this exchange has a `Content-Length`. Needed for
    /// requests with a `Transfer-Encoding` only: the HTTP library silently drops the
    /// other length, but who sends both may be hiding a request (RFC 9112, 6.1).
    ///
    /// False for a request that was pipelined behind another one; the library then
    /// believes the chunks and closes the connection.
    pub(crate) fn head_has_length(&self) -> bool {
        let head = self.head();
        let mut fields = [httparse::EMPTY_HEADER; 128];
        let mut request = httparse::Request::new(&mut fields);
        // What was too long to keep, or has too many fields to look at, is in doubt.
        if !head.is_empty() && request.parse(&head).is_err() {
            return true;
        }
        request.headers.iter().any(|field| field.name.eq_ignore_ascii_case("content-length"))
    }

    fn is_busy(&self) -> bool {
        self.0.busy.load(Ordering::Relaxed)
    }

    fn head(&self) -> MutexGuard<'_, Vec<u8>> {
        // A panic while the lock is held leaves a list of bytes.
        self.0.head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, bytes: &[u8], first: bool) {
        let mut head = self.head();
        if first {
            head.clear();
        }
        let room = MAX_HEAD - head.len();
        head.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

/// An exchange that is under way.
#[derive(Debug)]
pub(crate) struct Busy(Pace);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.0.busy.store(false, Ordering::Relaxed);
    }
}

/// A connection on which a head must begin, and one that has begun must end, in time.
#[derive(Debug)]
pub(crate) struct Paced<I> {
    io: I,
    pace: Pace,
    idle_limit: Duration,
    head_limit: Duration,
    timer: Timer,
    /// A head has begun.
    begun: bool,
    /// When what is waited for must be here; set when there is something to wait for.
    until: Option<Instant>,
    /// After it an unused connection ends, as if the client had ended it.
    closing: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl<I> Paced<I> {
    pub(crate) fn new(
        io: I,
        idle_limit: Duration,
        head_limit: Duration,
        closing: CancellationToken,
    ) -> (Self, Pace) {
        let pace = Pace::default();
        let paced = Self {
            io,
            pace: pace.clone(),
            idle_limit,
            head_limit,
            timer: Timer::default(),
            begun: false,
            until: None,
            closing: Box::pin(closing.cancelled_owned()),
        };
        (paced, pace)
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
        if self.pace.is_busy() {
            self.begun = false;
            self.until = None;
            return read;
        }
        if read.is_ready() {
            let bytes = &buf.filled()[before..];
            self.pace.keep(bytes, !self.begun);
            if !self.begun {
                self.begun = !bytes.is_empty();
                self.until = None;
            }
            return read;
        }
        let this = &mut *self;
        if !this.begun && this.closing.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let (limit, late) = if this.begun {
            (this.head_limit, "the head of a request took too long (server.head_timeout)")
        } else {
            (this.idle_limit, "no request came for too long (server.idle_timeout)")
        };
        let until = *this.until.get_or_insert_with(|| Instant::now() + limit);
        this.timer
            .poll_until(until, cx)
            .map(|()| Err(io::Error::new(io::ErrorKind::TimedOut, late)))
    }
}

write_through!(Paced);

pin_project! {
    /// A request body with a limit between two pieces. Being late is an
    /// [`io::ErrorKind::TimedOut`].
    #[derive(Debug)]
    pub(crate) struct InboundBody<B> {
        #[pin]
        body: B,
        pause: Pause,
    }
}

impl<B> InboundBody<B> {
    pub(crate) fn new(body: B, limit: Duration) -> Self {
        Self { body, pause: Pause::new(limit, None) }
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
        let this = self.project();
        if let Poll::Ready(frame) = this.body.poll_frame(cx) {
            this.pause.end();
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        if is_active(Mutant::WaitForBodies) {
            return Poll::Pending;
        }
        this.pause.poll_too_long(cx).map(|()| {
            let late = "a request body took too long (server.body_timeout)";
            Some(Err(io::Error::new(io::ErrorKind::TimedOut, late).into()))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
