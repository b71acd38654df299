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
    pool::{Connection, Pool},
};
use crate::{UpstreamError, engine::problem::Fault};

/// The body of an upstream's response.
///
/// Its errors are [`UpstreamError`]s: broken off, or not complete in time.
#[derive(Debug)]
pub(crate) struct UpstreamBody<B> {
    incoming: Incoming,
    /// `None` once given back.
    home: Option<(Arc<Pool<B>>, Connection<B>)>,
    pause: Pause,
    _slot: Option<Slot>,
}

impl<B> UpstreamBody<B> {
    pub(super) fn new(
        incoming: Incoming,
        home: (Arc<Pool<B>>, Connection<B>),
        pause: Pause,
        slot: Option<Slot>,
    ) -> Self {
        let mut body = Self { incoming, home: Some(home), pause, _slot: slot };
        body.go_home_if_complete();
        body
    }

    fn go_home_if_complete(&mut self) {
        if self.incoming.is_end_stream()
            && let Some((pool, connection)) = self.home.take()
        {
            pool.put(connection);
        }
    }
}

impl<B> Body for UpstreamBody<B> {
    type Data = Bytes;
    type Error = UpstreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UpstreamError>>> {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.pause.end();
                self.go_home_if_complete();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.home = None;
                let broken = UpstreamError::sent(Fault::Incomplete).because(error);
                Poll::Ready(Some(Err(broken)))
            }
            Poll::Ready(None) => {
                if let Some((pool, connection)) = self.home.take() {
                    pool.put(connection);
                }
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
