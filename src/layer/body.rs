//! Bodies on their way in and out: passed through, held whole, or live.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::sync::mpsc;

use super::{budget::Permit, buffered::Buffered, ended::Outcome, evidence::UpstreamError};
use crate::{BoxError, engine::problem::Fault};

/// How many frames of a live body wait for a slow client.
const LIVE_FRAMES: usize = 16;

/// The body of a request on its way to the inner service.
///
/// Boxed, since a request is copied a dozen times on its way through HTTP libraries.
#[derive(Debug)]
pub struct RequestBody<B> {
    inner: Pin<Box<Inbound<B>>>,
}

pin_project! {
    #[project = InboundProj]
    #[derive(Debug)]
    enum Inbound<B> {
        Passing { #[pin] body: B },
        Whole { whole: Whole, permit: Permit },
    }
}

impl<B> RequestBody<B> {
    /// A body that is streamed and never looked at.
    pub(crate) fn passing(body: B) -> Self {
        Self { inner: Box::pin(Inbound::Passing { body }) }
    }

    pub(crate) fn whole(buffered: Buffered) -> Self {
        let Buffered { bytes, trailers, permit } = buffered;
        let whole = Whole::new(bytes, trailers);
        Self { inner: Box::pin(Inbound::Whole { whole, permit }) }
    }
}

impl<B> Body for RequestBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.inner.as_mut().project() {
            InboundProj::Passing { body } => body.poll_frame(cx).map_err(Into::into),
            InboundProj::Whole { whole, .. } => Poll::Ready(whole.next().map(Ok)),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &*self.inner {
            Inbound::Passing { body } => body.is_end_stream(),
            Inbound::Whole { whole, .. } => whole.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &*self.inner {
            Inbound::Passing { body } => body.size_hint(),
            Inbound::Whole { whole, .. } => whole.size_hint(),
        }
    }
}

pin_project! {
    /// The body of a response on its way to the caller.
    #[derive(Debug)]
    pub struct ResponseBody<R> {
        #[pin]
        inner: Outbound<R>,
        outcome: Option<Outcome>,
    }
}

pin_project! {
    #[project = OutboundProj]
    #[derive(Debug)]
    enum Outbound<R> {
        Passing { #[pin] body: R },
        Whole { whole: Whole },
        Live { frames: mpsc::Receiver<Piece> },
    }
}

/// A piece of a live body.
#[derive(Debug)]
enum Piece {
    Frame(Frame<Bytes>),
    End,
}

/// The sending end of a live body. Dropping it before [`end`](Self::end) breaks the
/// body off, so that nobody takes a part for the whole.
#[derive(Debug)]
pub(crate) struct Frames(Option<mpsc::Sender<Piece>>);

impl Frames {
    /// Hands on a frame. A client that takes nothing for longer than `patience` is
    /// given up; false says that nobody reads any more.
    pub(crate) async fn send(&mut self, frame: Frame<Bytes>, patience: Duration) -> bool {
        if let Some(sender) = &self.0
            && sender.send_timeout(Piece::Frame(frame), patience).await.is_err()
        {
            self.0 = None;
        }
        self.0.is_some()
    }

    /// Ends the body as complete.
    pub(crate) async fn end(self, patience: Duration) {
        if let Some(sender) = self.0 {
            let _ = sender.send_timeout(Piece::End, patience).await;
        }
    }
}

impl<R> ResponseBody<R> {
    /// A body that is streamed as it comes.
    pub(crate) fn passing(body: R) -> Self {
        Self { inner: Outbound::Passing { body }, outcome: None }
    }

    pub(crate) fn whole(bytes: Bytes, trailers: Option<HeaderMap>) -> Self {
        Self {
            inner: Outbound::Whole { whole: Whole::new(bytes, trailers.map(Box::new)) },
            outcome: None,
        }
    }

    /// A body whose frames come from a task that goes on without its reader.
    pub(crate) fn live() -> (Frames, Self) {
        let (sender, frames) = mpsc::channel(LIVE_FRAMES);
        (Frames(Some(sender)), Self { inner: Outbound::Live { frames }, outcome: None })
    }

    /// How the request ended, if it was managed.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    pub(crate) fn ended(&mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }
}

impl<R> Body for ResponseBody<R>
where
    R: Body<Data = Bytes>,
    R::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.project().inner.project() {
            OutboundProj::Passing { body } => body.poll_frame(cx).map_err(Into::into),
            OutboundProj::Whole { whole } => Poll::Ready(whole.next().map(Ok)),
            OutboundProj::Live { frames } => Poll::Ready(match ready!(frames.poll_recv(cx)) {
                Some(Piece::Frame(frame)) => Some(Ok(frame)),
                Some(Piece::End) => None,
                None => Some(Err(UpstreamError::sent(Fault::Incomplete).into())),
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Outbound::Passing { body } => body.is_end_stream(),
            Outbound::Whole { whole } => whole.is_empty(),
            Outbound::Live { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Outbound::Passing { body } => body.size_hint(),
            Outbound::Whole { whole } => whole.size_hint(),
            Outbound::Live { .. } => SizeHint::default(),
        }
    }
}

/// Trailers, which few bodies have; a body should not move with room for them.
pub(super) type Trailers = Option<Box<HeaderMap>>;

/// A body that is there, trailers included.
#[derive(Debug)]
struct Whole {
    data: Option<Bytes>,
    trailers: Trailers,
}

impl Whole {
    fn new(bytes: Bytes, trailers: Trailers) -> Self {
        Self { data: Some(bytes).filter(|bytes| !bytes.is_empty()), trailers }
    }

    fn next(&mut self) -> Option<Frame<Bytes>> {
        let data = self.data.take().map(Frame::data);
        data.or_else(|| self.trailers.take().map(|trailers| Frame::trailers(*trailers)))
    }

    fn is_empty(&self) -> bool {
        self.data.is_none() && self.trailers.is_none()
    }

    /// Exact without trailers only: a length would leave no room for them in HTTP/1.
    fn size_hint(&self) -> SizeHint {
        let length = self.data.as_ref().map_or(0, Bytes::len) as u64;
        if self.trailers.is_none() {
            return SizeHint::with_exact(length);
        }
        let mut hint = SizeHint::default();
        hint.set_lower(length);
        hint
    }
}
