//! Dispatching once, and what becomes of the claim then.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tokio::time::Instant;
use tower::Service;

use super::{
    answer::Voice,
    body::RequestBody,
    claim::{Claim, End, Ending},
    ended::Outcome,
    evidence::UpstreamError,
    exchange::Exchange,
    recording,
    reply::Reply,
};
use crate::{
    BoxError,
    engine::{
        outcome::{Evidence, Verdict, classify},
        policy::Policy,
        problem::{Fault, Problem},
        record::Reason,
    },
    mutants::{Mutant, is_active},
};

/// After a response is overdue it may still take this many times as long to be
/// recorded.
pub(crate) const LATE: u32 = 4;

/// What came of a dispatch: a response, or evidence and the fault to name.
type Dispatched<R> = Result<Response<R>, (Evidence, Fault)>;

impl<S> Exchange<S> {
    /// Dispatches once, and settles the claim by what came of it.
    pub(super) async fn execute<B, R>(mut self: Box<Self>, mut claim: Claim, mut reply: Reply<S, R>)
    where
        S: Service<Request<RequestBody<B>>, Response = Response<R>>,
        S::Error: Into<BoxError>,
        R: Body<Data = Bytes> + Send + 'static,
        R::Error: Into<BoxError>,
    {
        let waited = match self.prepare(&claim).await {
            Ok(waited) => waited,
            Err(problem) => {
                let ending = match is_active(Mutant::CountWaitingAsSent) {
                    true => Ending::Unknown(Reason::Timeout),
                    false => Ending::Released,
                };
                Box::pin(claim.settle(ending)).await;
                return reply.answer(self.voice.refuse(problem));
            }
        };
        let (voice, response) = self.dispatch(&mut claim, &mut reply, waited).await;
        let response = match response {
            Ok(response) => response,
            Err((evidence, fault)) => {
                let problem = Box::pin(fail(claim, &voice, evidence, fault)).await;
                return reply.answer(voice.refuse(problem));
            }
        };
        match classify(answered(&response, &voice.policy), &voice.policy) {
            Verdict::Release => {
                Box::pin(claim.settle(Ending::Released)).await;
                reply.answer(voice.hand_on(response, Outcome::Released));
            }
            Verdict::Unknown(reason) => {
                Box::pin(claim.settle(Ending::Unknown(reason))).await;
                reply.answer(voice.hand_on(response, Outcome::Unknown));
            }
            Verdict::Record => recording::record(claim, &voice, response, reply).await,
        }
    }

    /// Waits until the service takes a request, and says for how long. Nothing of it has left before that, so
    /// whatever goes wrong here frees the key. The claim is looked at last: it may have
    /// been lost while the service was busy.
    async fn prepare<B, R>(&mut self, claim: &Claim) -> Result<Duration, Problem>
    where
        S: Service<Request<RequestBody<B>>, Response = Response<R>>,
        S::Error: Into<BoxError>,
    {
        if self.gate.is_closing() {
            return Err(Problem::ShuttingDown);
        }
        let Self { inner, voice, .. } = self;
        let fault = |error: S::Error| UpstreamError::read(&*error.into()).1;
        let mut ready = poll_fn(|cx| inner.poll_ready(cx).map_err(fault));
        let at_once = poll_fn(|cx| Poll::Ready(Pin::new(&mut ready).poll(cx))).await;
        let (end, waited) = match at_once {
            Poll::Ready(ready) => (End::Done(ready), Duration::ZERO),
            Poll::Pending => {
                let since = Instant::now();
                (Box::pin(claim.hold(ready, patience(voice))).await, since.elapsed())
            }
        };
        match end {
            End::Done(Ok(())) if claim.is_current().await => Ok(waited),
            End::Done(Ok(())) => Err(Problem::StoreUnavailable),
            End::Done(Err(fault)) => Err(Problem::Unreachable(fault)),
            End::Late => Err(Problem::Unreachable(Fault::ConnectTimeout)),
            End::Abandoned => Err(Problem::ShuttingDown),
        }
    }

    /// Sends the request and waits for its response, however late. The client is told in time.
    ///
    /// A function of its own, so that what it needs shares its room with what comes after it.
    async fn dispatch<B, R>(
        self: Box<Self>,
        claim: &mut Claim,
        reply: &mut Reply<S, R>,
        waited: Duration,
    ) -> (Voice, Dispatched<R>)
    where
        S: Service<Request<RequestBody<B>>, Response = Response<R>>,
        S::Error: Into<BoxError>,
    {
        let Self { voice, mut inner, mut head, body, .. } = *self;
        head.extensions.insert(claim.standing());
        let read = |error: S::Error| UpstreamError::read(&*error.into());
        let exchange = inner.call(Request::from_parts(head, RequestBody::whole(body)));
        let mut exchange = pin!(async { exchange.await.map_err(read) });
        let patience = patience(&voice);
        let left = patience.saturating_sub(waited);
        let mut response = claim.hold(exchange.as_mut(), left).await;
        if matches!(response, End::Late) && !is_active(Mutant::ReleaseOnTimeout) {
            // The client is told now. Whatever still comes is recorded for his retry.
            Box::pin(claim.give_up(Reason::Timeout)).await;
            let (reason, fault) = (Reason::Timeout, Fault::ResponseTimeout);
            reply.answer(voice.refuse(Problem::OutcomeUnknown { reason, fault }));
            let late = if is_active(Mutant::DropLate) { 0 } else { LATE };
            let late = patience.saturating_mul(late);
            response = Box::pin(claim.hold(exchange.as_mut(), late)).await;
        }
        let response = match response {
            End::Done(response) => response,
            End::Late => Err((Evidence::TimedOut, Fault::ResponseTimeout)),
            End::Abandoned => Err((Evidence::Abandoned, Fault::Terminated)),
        };
        (voice, response)
    }
}

/// What a response that has begun is evidence of.
pub(super) fn answered<R>(response: &Response<R>, policy: &Policy) -> Evidence {
    let opted_out = response.headers().get(&policy.opt_out_header);
    let opted_out = opted_out.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"no"));
    Evidence::Answered { status: response.status(), opted_out }
}

/// How long a client waits for his response, from the dispatch on.
pub(super) fn patience(voice: &Voice) -> Duration {
    voice.policy.response_timeout.unwrap_or(Duration::MAX)
}

/// Settles a claim whose dispatch gave no response, and says so.
pub(super) async fn fail(claim: Claim, voice: &Voice, evidence: Evidence, fault: Fault) -> Problem {
    match classify(evidence, &voice.policy) {
        Verdict::Release => {
            claim.settle(Ending::Released).await;
            Problem::Unreachable(fault)
        }
        Verdict::Unknown(reason) => {
            claim.settle(Ending::Unknown(reason)).await;
            Problem::OutcomeUnknown { reason, fault }
        }
        // Without a response there is nothing to record.
        Verdict::Record => {
            claim.settle(Ending::Unknown(Reason::Reset)).await;
            Problem::OutcomeUnknown { reason: Reason::Reset, fault }
        }
    }
}
