//! The body that goes to a client, and what ends with it.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use metrics::Histogram;
use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::pipeline::ServedBody;
use crate::BoxError;

pin_project! {
    /// A response body that ends its exchange when it is dropped.
    #[derive(Debug)]
    pub(crate) struct OutboundBody<T> {
        #[pin]
        body: ServedBody,
        busy: T,
        observed: Option<Observed>,
    }
}

impl<T> OutboundBody<T> {
    pub(crate) fn new(body: ServedBody, busy: T, observed: Option<Observed>) -> Self {
        Self { body, busy, observed }
    }
}

impl<T> Body for OutboundBody<T> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A duration that is recorded when it ends.
pub(crate) struct Observed {
    durations: Histogram,
    since: Instant,
}

impl Observed {
    pub(crate) fn new(durations: &Histogram, since: Instant) -> Self {
        Self { durations: durations.clone(), since }
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        self.durations.record(self.since.elapsed());
    }
}

impl std::fmt::Debug for Observed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Observed")
    }
}
