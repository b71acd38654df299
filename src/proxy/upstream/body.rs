//! A response body that gives its connection back when it is complete.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::{
    super::{http2::Slot, pause::Pause},
    connection::{Connection, quiet},
    pool::Pool,
};
use crate::{UpstreamError, engine::problem::Fault};

/// A connection, and where it goes when its exchange is over.
pub(super) type Homing<B> = (Arc<Pool<B>>, Box<Connection<B>>);

/// The body of an upstream's response.
///
/// Its errors are [`UpstreamError`]s: broken off, or not complete in time.
#[derive(Debug)]
pub(crate) struct UpstreamBody<B> {
    incoming: Incoming,
    /// `None` once given back.
    home: Option<Homing<B>>,
    pause: Pause,
    _slot: Option<Slot>,
}

impl<B: Send + 'static> UpstreamBody<B> {
    pub(super) fn new(
        incoming: Incoming,
        home: Homing<B>,
        pause: Pause,
        slot: Option<Slot>,
    ) -> Self {
        let is_empty = incoming.is_end_stream();
        let mut body = Self { incoming, home: Some(home), pause, _slot: slot };
        if is_empty {
            body.go_home();
        }
        body
    }

    /// The next frame, if it is there or the connection has it.
    fn next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.incoming).poll_frame(cx);
        match &mut self.home {
            Some((_, connection)) if frame.is_pending() => {
                connection.drive(cx);
                Pin::new(&mut self.incoming).poll_frame(cx)
            }
            _ => frame,
        }
    }

    /// Gives the connection back. One that has not finished with the exchange, because
    /// the service answered before it had read all, is not kept by its pool: it ends with its
    /// request.
    fn go_home(&mut self) {
        if let Some((pool, mut connection)) = self.home.take() {
            if !connection.is_free() {
                connection.drive(&mut quiet());
            }
            pool.put(connection);
        }
    }
}

impl<B: Send + 'static> Body for UpstreamBody<B> {
    type Data = Bytes;
    type Error = UpstreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UpstreamError>>> {
        // Where the client is slower than the service there is always something to read.
        if self.pause.is_over() {
            self.home = None;
            return Poll::Ready(Some(Err(UpstreamError::sent(Fault::ResponseTimeout))));
        }
        let mut frame = self.next(&mut quiet());
        if frame.is_pending() {
            frame = self.next(cx);
        }
        match frame {
            Poll::Ready(Some(Ok(frame))) => {
                self.pause.end();
                if self.incoming.is_end_stream() {
                    self.go_home();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.home = None;
                let broken = UpstreamError::sent(Fault::Incomplete).because(error);
                Poll::Ready(Some(Err(broken)))
            }
            Poll::Ready(None) => {
                self.go_home();
                Poll::Ready(None)
            }
            Poll::Pending => self.pause.poll_too_long(cx).map(|()| {
                self.home = None;
                Some(Err(UpstreamError::sent(Fault::ResponseTimeout)))
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
