//! Reading a response whole, recording it, and answering; or letting it stream.
//!
//! | response | recorded | first byte to the client |
//! |---|---|---|
//! | fits | whole | after it was recorded |
//! | longer than the policy records, or thousands of headers | its status | after that was recorded |
//! | event stream, NDJSON, gRPC | whole, with its trailers | as it arrives; its end after it was recorded |
//!
//! A body that is not there after as long as a response may take, and [`LATE`] times as long, is
//! an unknown outcome. A stream may go on for ever, and be silent for as long.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response, header::CONTENT_TYPE, response};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use tokio::time::timeout;

use super::{
    FOREVER,
    answer::{Stored, Voice},
    body::{Frames, ResponseBody},
    buffered::Gathered,
    claim::{Claim, End, Ending, Settled},
    dispatch::{LATE, fail, patience},
    evidence::UpstreamError,
    reply::Reply,
};
use crate::{
    BoxError,
    engine::{hop::strip_hop_by_hop, outcome::Evidence, problem::Fault, record::Recorded},
    mutants::{Mutant, is_active},
};

/// How long a client of a live response may take nothing before it is left behind:
/// a reader that stalls must not keep the key from being settled.
const PATIENCE: Duration = Duration::from_secs(10);

/// Records `response` and answers with it.
pub(super) async fn record<S, R>(
    claim: Claim,
    voice: &Voice,
    response: Response<R>,
    mut reply: Reply<S, R>,
) where
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    let (mut head, body) = response.into_parts();
    let mut reader = Reader {
        body: Box::pin(body),
        gathered: Gathered::default(),
        trailers: None,
        limit: voice.policy.recorded(),
    };
    if is_live(&head.headers) {
        return Box::pin(reader.stream_and_record(claim, voice, head, reply)).await;
    }
    let limit = match is_active(Mutant::WaitForResponses) {
        true => Duration::MAX,
        false => patience(voice).saturating_mul(1 + LATE),
    };
    match claim.hold(reader.read(), limit).await {
        End::Done(Read::Whole) => {
            let (body, mut trailers) = (reader.gathered.into_bytes(), reader.trailers);
            let recorded = Recorded::copy_of(&mut head, &body, trailers.as_mut());
            let is_whole = matches!(recorded, Recorded::Whole(_));
            let ending = Ending::Done(recorded);
            if is_active(Mutant::AnswerBeforeRecording) {
                reply.answer(voice.first(head, body, trailers, Stored::Yes));
                Box::pin(claim.settle(ending)).await;
                return;
            }
            let settled = claim.settle(ending).await;
            let stored = if is_whole { was_stored(&settled) } else { Stored::TooLarge };
            reply.answer(voice.first(head, body, trailers, stored));
        }
        End::Done(Read::TooLong(last)) => {
            Box::pin(claim.settle(Ending::Done(Recorded::StatusOnly(head.status)))).await;
            let (frames, body) = ResponseBody::live();
            reply.answer(voice.live(without_connection(head, body), Stored::TooLarge));
            Box::pin(reader.stream(frames, last)).await;
        }
        End::Done(Read::Broken(evidence, fault)) => {
            let problem = Box::pin(fail(claim, voice, evidence, fault)).await;
            reply.answer(voice.refuse(problem));
        }
        End::Late => {
            let late = fail(claim, voice, Evidence::TimedOut, Fault::ResponseTimeout);
            let problem = Box::pin(late).await;
            reply.answer(voice.refuse(problem));
        }
        End::Abandoned => {
            let given_up = fail(claim, voice, Evidence::Abandoned, Fault::Incomplete);
            let problem = Box::pin(given_up).await;
            reply.answer(voice.refuse(problem));
        }
    }
}

/// A response body on its way into memory.
struct Reader<R> {
    body: std::pin::Pin<Box<R>>,
    gathered: Gathered,
    trailers: Option<HeaderMap>,
    limit: usize,
}

/// How reading ended.
enum Read {
    /// All of it is here.
    Whole,
    /// It is longer than the limit; this frame did not fit any more.
    TooLong(Bytes),
    /// It broke off.
    Broken(Evidence, Fault),
}

impl<R> Reader<R>
where
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    async fn read(&mut self) -> Read {
        while !self.body.is_end_stream() {
            match self.frame().await {
                Ok(None) => break,
                Err(_) if is_active(Mutant::RecordTruncated) => break,
                Ok(Some(frame)) => match self.keep(frame) {
                    None => {}
                    Some(last) => return Read::TooLong(last),
                },
                Err(broken) => return broken,
            }
        }
        Read::Whole
    }

    /// The next frame; an error is evidence.
    async fn frame(&mut self) -> Result<Option<Frame<Bytes>>, Read> {
        self.body.frame().await.transpose().map_err(|error| {
            let (evidence, fault) = match UpstreamError::read(&*error.into()) {
                (Evidence::TimedOut, fault) => (Evidence::TimedOut, fault),
                _ => (Evidence::Truncated, Fault::Incomplete),
            };
            Read::Broken(evidence, fault)
        })
    }

    /// Keeps a frame, or gives back the data that does not fit.
    fn keep(&mut self, frame: Frame<Bytes>) -> Option<Bytes> {
        match frame.into_data() {
            Ok(data) if self.gathered.len() + data.len() > self.limit => return Some(data),
            Ok(data) => self.gathered.push(data),
            Err(frame) => self.trailers = frame.into_trailers().ok().or(self.trailers.take()),
        }
        None
    }

    /// Hands on what was read and all that follows. The outcome is settled, so a
    /// slow client holds up nobody but himself.
    async fn stream(mut self, mut frames: Frames, last: Bytes) {
        let read = std::mem::take(&mut self.gathered).into_bytes();
        for data in [read, last] {
            if !frames.send(Frame::data(data), Duration::MAX).await {
                return;
            }
        }
        loop {
            match self.frame().await {
                Ok(Some(frame)) => {
                    if !frames.send(frame, Duration::MAX).await {
                        return;
                    }
                }
                Ok(None) => return frames.end(Duration::MAX).await,
                // What breaks off here breaks off at the client.
                Err(_) => return,
            }
        }
    }

    /// Hands on every frame as it arrives, and records the whole at its end. A
    /// client that leaves stops nothing.
    async fn stream_and_record<S>(
        mut self,
        claim: Claim,
        voice: &Voice,
        head: response::Parts,
        mut reply: Reply<S, R>,
    ) {
        let (mut frames, body) = ResponseBody::live();
        let recorded_head = without_connection(head.clone(), ());
        reply.answer(voice.live(without_connection(head, body), Stored::No));

        let mut too_long = false;
        let silence = patience(voice).saturating_mul(1 + LATE).min(FOREVER);
        let work = async {
            loop {
                match timeout(silence, self.frame()).await {
                    Ok(Ok(None)) => return None,
                    Ok(Err(broken)) => return Some(broken),
                    Err(_) => {
                        return Some(Read::Broken(Evidence::TimedOut, Fault::ResponseTimeout));
                    }
                    Ok(Ok(Some(frame))) => {
                        let Ok(data) = frame.into_data().map_err(|frame| {
                            self.trailers = frame.into_trailers().ok().or(self.trailers.take());
                        }) else {
                            continue;
                        };
                        frames.send(Frame::data(data.clone()), PATIENCE).await;
                        too_long |= self.keep(Frame::data(data)).is_some();
                    }
                }
            }
        };
        let end = claim.hold(work, Duration::MAX).await;
        match end {
            End::Done(None) => {
                let trailers = self.trailers.take();
                let (mut head, ()) = recorded_head.into_parts();
                let body = self.gathered.into_bytes();
                let recorded = if too_long {
                    Recorded::StatusOnly(head.status)
                } else {
                    Recorded::copy_of(&mut head, &body, trailers.clone().as_mut())
                };
                claim.settle(Ending::Done(recorded)).await;
                if let Some(trailers) = trailers {
                    frames.send(Frame::trailers(trailers), PATIENCE).await;
                }
                frames.end(PATIENCE).await;
            }
            End::Done(Some(Read::Broken(evidence, fault))) => {
                fail(claim, voice, evidence, fault).await;
            }
            End::Done(Some(Read::Whole | Read::TooLong(_))) | End::Late | End::Abandoned => {
                fail(claim, voice, Evidence::Abandoned, Fault::Incomplete).await;
            }
        }
    }
}

fn was_stored(settled: &Settled) -> Stored {
    match settled {
        Settled::Now => Stored::Yes,
        Settled::Later | Settled::Fenced if is_active(Mutant::SayStored) => Stored::Yes,
        Settled::Later | Settled::Fenced => Stored::No,
    }
}

fn without_connection<T>(mut head: response::Parts, body: T) -> Response<T> {
    strip_hop_by_hop(&mut head.headers);
    Response::from_parts(head, body)
}

/// Responses that a client reads while they are made.
fn is_live(headers: &HeaderMap) -> bool {
    const LIVE: [&[u8]; 3] = [b"text/event-stream", b"application/x-ndjson", b"application/grpc"];
    const GRPC_PLUS: &[u8] = b"application/grpc+";
    headers.get(CONTENT_TYPE).is_some_and(|value| {
        let essence = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
        let essence = essence.trim_ascii();
        let (base, _) = essence.split_at(essence.len().min(GRPC_PLUS.len()));
        LIVE.iter().any(|live| live.eq_ignore_ascii_case(essence))
            || GRPC_PLUS.eq_ignore_ascii_case(base)
    })
}
