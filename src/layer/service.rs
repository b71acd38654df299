//! The service: pass, refuse at the first line, or manage.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower::{Service, ServiceExt as _, util::Oneshot};

use super::{
    answer::Voice,
    body::{self, RequestBody, ResponseBody},
    exchange::{self, Exchange},
    gate::Gate,
};
use crate::{
    BoxError,
    engine::{
        key::{self, Found, Glance},
        policy::Policy,
        problem::Problem,
    },
};

/// The service that [`IdempotencyLayer`](crate::IdempotencyLayer) makes.
///
/// It is always ready: a duplicate must never wait for the inner service's
/// capacity behind the request that it duplicates. Each request that is
/// dispatched waits for the inner service's readiness by itself.
#[derive(Clone, Debug)]
pub struct IdempotencyService<S> {
    gate: Gate,
    policy: Arc<Policy>,
    inner: S,
}

impl<S> IdempotencyService<S> {
    pub(super) fn new(gate: Gate, policy: Arc<Policy>, inner: S) -> Self {
        Self { gate, policy, inner }
    }
}

impl<S, B, R> Service<Request<B>> for IdempotencyService<S>
where
    S: Service<Request<RequestBody<B>>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError> + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, B, R>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        ResponseFuture { answer: self.answer(request) }
    }
}

impl<S: Clone> IdempotencyService<S> {
    /// Answers without a word in the response's extensions: its body knows the outcome.
    pub(crate) fn answer<B, R>(&self, request: Request<B>) -> Answering<S, B, R>
    where
        S: Service<Request<RequestBody<B>>, Response = Response<R>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError> + Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
        R: Body<Data = Bytes> + Send + 'static,
        R::Error: Into<BoxError>,
    {
        if !self.policy.manages(request.method()) {
            return self.pass(request);
        }
        match key::glance(&self.policy, &request) {
            Ok(Glance::Absent) if self.policy.require_key => self.refuse(Problem::KeyMissing),
            Ok(Glance::Absent) => self.pass(request),
            Ok(Glance::Found(found)) => self.manage(request, Some(found)),
            Ok(Glance::InBody) => self.manage(request, None),
            Err(error) => self.refuse(Problem::KeyInvalid(error)),
        }
    }

    fn pass<B, R>(&self, request: Request<B>) -> Answering<S, B, R>
    where
        S: Service<Request<RequestBody<B>>, Response = Response<R>>,
    {
        let response = self.inner.clone().oneshot(request.map(RequestBody::passing));
        Answering { path: Path::Passing { response } }
    }

    fn refuse<B, R>(&self, problem: Problem) -> Answering<S, B, R>
    where
        S: Service<Request<RequestBody<B>>, Response = Response<R>>,
    {
        let voice = Voice { policy: Arc::clone(&self.policy), echo: None };
        Answering { path: Path::Refused { answer: Some(voice.refuse(problem)) } }
    }

    /// Reads the body, finds the key, and answers from the cache or hands over to the
    /// exchange.
    ///
    /// A block and not a function: what a function takes has its place in the future twice,
    /// and this one has to stay below what an allocator calls small.
    fn manage<B, R>(&self, request: Request<B>, found: Option<Found>) -> Answering<S, B, R>
    where
        S: Service<Request<RequestBody<B>>, Response = Response<R>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError> + Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
        R: Body<Data = Bytes> + Send + 'static,
        R::Error: Into<BoxError>,
    {
        let Self { gate, policy, inner } = self.clone();
        let (named, echo) = found.map_or((None, None), |found| (Some(found.key), found.echo));
        let mut voice = Voice { policy, echo };
        let (head, body) = request.into_parts();
        let answer = Box::pin(async move {
            if gate.is_closing() {
                return Ok(voice.refuse(Problem::ShuttingDown));
            }
            let limit = voice.policy.max_request_body;
            let body = match body::read(body, limit, gate.budget()).await {
                Ok(body) => body,
                Err(problem) => return Ok(voice.refuse(problem)),
            };
            let policy = &*voice.policy;
            let found = match named {
                Some(key) => Ok(Some(key)),
                None => key::find(policy, gate.hasher(), &head, &body.bytes).map(|found| {
                    let Found { key, echo } = found?;
                    voice.echo = echo;
                    Some(key)
                }),
            };
            let named = match found {
                Ok(Some(named)) => named,
                Ok(None) if policy.require_key => return Ok(voice.refuse(Problem::KeyMissing)),
                Ok(None) => {
                    let request = Request::from_parts(head, RequestBody::whole(body));
                    let response = Box::pin(inner.oneshot(request)).await?;
                    return Ok(response.map(ResponseBody::passing));
                }
                Err(error) => return Ok(voice.refuse(Problem::KeyInvalid(error))),
            };
            let key = gate.hasher().store_key(&policy.scope, &head, named.as_str());
            let print = gate.hasher().fingerprint(policy, &head, &body.bytes);
            if let Some(answer) = exchange::cached_answer(&gate, &voice, &key, print) {
                return Ok(answer);
            }
            let exchange = Box::new(Exchange { gate, voice, inner, head, body, named, key, print });
            Ok(Box::pin(exchange.answer()).await)
        });
        Answering { path: Path::Managed { answer } }
    }
}

pin_project! {
    /// The response of an [`IdempotencyService`].
    pub struct ResponseFuture<S, B, R>
    where
        S: Service<Request<RequestBody<B>>>,
    {
        #[pin]
        answer: Answering<S, B, R>,
    }
}

pin_project! {
    /// The same within this crate.
    pub(crate) struct Answering<S, B, R>
    where
        S: Service<Request<RequestBody<B>>>,
    {
        #[pin]
        path: Path<S, B, R>,
    }
}

type Answer<R> = Response<ResponseBody<R>>;

pin_project! {
    #[project = PathProj]
    enum Path<S, B, R>
    where
        S: Service<Request<RequestBody<B>>>,
    {
        Passing { #[pin] response: Oneshot<S, Request<RequestBody<B>>> },
        Refused { answer: Option<Answer<R>> },
        Managed { answer: Pin<Box<dyn Future<Output = Result<Answer<R>, S::Error>> + Send>> },
    }
}

impl<S, B, R> Future for ResponseFuture<S, B, R>
where
    S: Service<Request<RequestBody<B>>, Response = Response<R>>,
{
    type Output = Result<Answer<R>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut answer = ready!(self.project().answer.poll(cx))?;
        if let Some(outcome) = answer.body().outcome() {
            answer.extensions_mut().insert(outcome);
        }
        Poll::Ready(Ok(answer))
    }
}

impl<S, B, R> Future for Answering<S, B, R>
where
    S: Service<Request<RequestBody<B>>, Response = Response<R>>,
{
    type Output = Result<Answer<R>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().path.project() {
            PathProj::Passing { response } => {
                let response = ready!(response.poll(cx))?;
                Poll::Ready(Ok(response.map(ResponseBody::passing)))
            }
            PathProj::Refused { answer } => {
                Poll::Ready(Ok(answer.take().expect("a future is not polled after it is ready")))
            }
            PathProj::Managed { answer } => answer.as_mut().poll(cx),
        }
    }
}

impl<S, B, R> std::fmt::Debug for ResponseFuture<S, B, R>
where
    S: Service<Request<RequestBody<B>>>,
{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
