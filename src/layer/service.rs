//! The service: pass, refuse at the first line, or manage.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response, request::Parts};
use http_body::Body;
use pin_project_lite::pin_project;
use tower::{Service, ServiceExt as _, util::Oneshot};

use super::{
    answer::Voice,
    body::{self, RequestBody, ResponseBody},
    exchange::Exchange,
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
        if !self.policy.manages(request.method()) {
            return self.pass(request);
        }
        let (head, body) = request.into_parts();
        match key::glance(&self.policy, &head) {
            Ok(Glance::Absent) if self.policy.require_key => self.refuse(Problem::KeyMissing),
            Ok(Glance::Absent) => self.pass(Request::from_parts(head, body)),
            Ok(Glance::Found(found)) => self.manage(head, body, Some(found)),
            Ok(Glance::InBody) => self.manage(head, body, None),
            Err(error) => self.refuse(Problem::KeyInvalid(error)),
        }
    }
}

impl<S: Clone> IdempotencyService<S> {
    fn pass<B, R>(&self, request: Request<B>) -> ResponseFuture<S, B, R>
    where
        S: Service<Request<RequestBody<B>>, Response = Response<R>>,
    {
        let response = self.inner.clone().oneshot(request.map(RequestBody::passing));
        ResponseFuture { path: Path::Passing { response } }
    }

    fn refuse<B, R>(&self, problem: Problem) -> ResponseFuture<S, B, R>
    where
        S: Service<Request<RequestBody<B>>, Response = Response<R>>,
    {
        let voice = Voice { policy: Arc::clone(&self.policy), echo: None };
        ResponseFuture { path: Path::Refused { answer: Some(voice.refuse(problem)) } }
    }

    fn manage<B, R>(&self, head: Parts, body: B, found: Option<Found>) -> ResponseFuture<S, B, R>
    where
        S: Service<Request<RequestBody<B>>, Response = Response<R>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError> + Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
        R: Body<Data = Bytes> + Send + 'static,
        R::Error: Into<BoxError>,
    {
        let answer = Box::pin(manage(self.clone(), head, body, found));
        ResponseFuture { path: Path::Managed { answer } }
    }
}

/// Reads the body, finds the key, and hands over to the exchange.
async fn manage<S, B, R>(
    service: IdempotencyService<S>,
    head: Parts,
    body: B,
    found: Option<Found>,
) -> Result<Response<ResponseBody<R>>, S::Error>
where
    S: Service<Request<RequestBody<B>>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError> + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    let IdempotencyService { gate, policy, inner } = service;
    let echo = found.as_ref().and_then(|found| found.echo.clone());
    let mut voice = Voice { policy: Arc::clone(&policy), echo };
    if gate.is_closing() {
        return Ok(voice.refuse(Problem::ShuttingDown));
    }
    let body = match body::read(body, policy.max_request_body, gate.budget()).await {
        Ok(body) => body,
        Err(problem) => return Ok(voice.refuse(problem)),
    };
    let found = match found {
        Some(found) => Ok(Some(found)),
        None => key::find(&policy, gate.hasher(), &head, &body.bytes),
    };
    let found = match found {
        Ok(Some(found)) => found,
        Ok(None) if policy.require_key => return Ok(voice.refuse(Problem::KeyMissing)),
        Ok(None) => {
            let request = Request::from_parts(head, RequestBody::whole(body));
            return inner
                .oneshot(request)
                .await
                .map(|response| response.map(ResponseBody::passing));
        }
        Err(error) => return Ok(voice.refuse(Problem::KeyInvalid(error))),
    };
    let key = gate.hasher().store_key(&policy.scope, &head, found.key.as_str());
    let print = gate.hasher().fingerprint(&policy, &head, &body.bytes);
    voice.echo = found.echo;
    let exchange = Exchange { gate, voice, inner, head, body, named: found.key, key, print };
    Ok(Box::new(exchange).answer().await)
}

pin_project! {
    /// The response of an [`IdempotencyService`].
    pub struct ResponseFuture<S, B, R>
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
