//! The body of an answer, as its client makes room for it.
//!
//! The library asks for a piece, holds it until there is room for its first byte, and keeps
//! the rest of it. So a body that is asked for another piece has got on by about one, and
//! what is kept here stays a small part of what the protocol lets a client owe.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::streams::Answering;

/// The length of a piece: a DATA frame has no more by default (RFC 9113, 4.2).
const PIECE: usize = 16 << 10;

pin_project! {
    /// A body in pieces, during which its exchange waits for its client or does not.
    #[derive(Debug)]
    pub(super) struct Pieces<B> {
        #[pin]
        body: B,
        rest: Bytes,
        answering: Answering,
    }
}

impl<B> Pieces<B> {
    pub(super) const fn new(body: B, answering: Answering) -> Self {
        Self { body, rest: Bytes::new(), answering }
    }
}

impl<B: Body<Data = Bytes>> Body for Pieces<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        this.answering.waits_for_client(false);
        let frame = if this.rest.is_empty() {
            ready!(this.body.poll_frame(cx))
        } else {
            Some(Ok(Frame::data(std::mem::take(this.rest))))
        };
        let Some(Ok(frame)) = frame else { return Poll::Ready(frame) };
        this.answering.waits_for_client(true);
        Poll::Ready(Some(Ok(frame.map_data(|mut piece| {
            *this.rest = piece.split_off(piece.len().min(PIECE));
            piece
        }))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, body) = (self.rest.len() as u64, self.body.size_hint());
        let mut hint = SizeHint::new();
        // The upper bound first, since the lower one must not be beyond it.
        if let Some(upper) = body.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint.set_lower(body.lower().saturating_add(rest));
        hint
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Full};

    use super::{super::streams::Streams, *};

    #[tokio::test]
    async fn a_body_comes_in_pieces_and_whole() {
        for length in [0, 1, PIECE, PIECE + 1, 3 * PIECE] {
            let whole: Bytes = (0..length).map(|at| at as u8).collect();
            let stream = Streams::new().begin();
            let mut body = Pieces::new(Full::new(whole.clone()), stream.answering());
            let mut come = Vec::new();
            while let Some(frame) = body.frame().await {
                let piece = frame.unwrap().into_data().unwrap();
                assert!(piece.len() <= PIECE);
                come.extend(piece);
                let left = (length - come.len()) as u64;
                assert_eq!(
                    (body.is_end_stream(), body.size_hint().exact()),
                    (left == 0, Some(left))
                );
            }
            assert!(come == whole, "{length}");
        }
    }
}
