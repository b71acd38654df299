//! The service: pass, refuse at the first line, or manage.

use std::{
    future::Future,
    pin::{Pin, pin},
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
    body::{RequestBody, ResponseBody},
    buffered,
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
    pub(crate) inner: S,
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
        let path = match self.look(&request) {
            Look::Pass => {
                let request = request.map(RequestBody::passing);
                Path::Passing { response: self.inner.clone().oneshot(request) }
            }
            Look::Refuse(problem) => Path::Refused { answer: Some(self.refuse(problem)) },
            Look::Manage(found) => Path::Managed { answer: self.manage(request, found) },
        };
        ResponseFuture { path }
    }
}

/// What the head of a request says.
pub(crate) enum Look {
    /// It has no key, and needs none.
    Pass,
    /// Something is wrong with its key.
    Refuse(Problem),
    /// It has a key, or its body may have one.
    Manage(Option<Found>),
}

impl<S> IdempotencyService<S> {
    pub(crate) fn look<B>(&self, request: &Request<B>) -> Look {
        if !self.policy.manages(request.method()) {
            return Look::Pass;
        }
        match key::glance(&self.policy, request) {
            Ok(Glance::Absent) if self.policy.require_key => Look::Refuse(Problem::KeyMissing),
            Ok(Glance::Absent) => Look::Pass,
            Ok(Glance::Found(found)) => Look::Manage(Some(found)),
            Ok(Glance::InBody) => Look::Manage(None),
            Err(error) => Look::Refuse(Problem::KeyInvalid(error)),
        }
    }

    /// A refusal that needs no more than the head.
    pub(crate) fn refuse<R>(&self, problem: Problem) -> Answer<R> {
        Voice { policy: Arc::clone(&self.policy), echo: None }.refuse(problem)
    }
}

impl<S: Clone> IdempotencyService<S> {
    /// Reads the body, finds the key, and answers from the cache or hands over to the
    /// exchange.
    ///
    /// A block and not a function: what a function takes has its place in the future twice,
    /// and this one has to stay below what an allocator calls small.
    pub(crate) fn manage<B, R>(
        &self,
        request: Request<B>,
        found: Option<Found>,
    ) -> Managed<R, S::Error>
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
        Box::pin(async move {
            if gate.is_closing() {
                return Ok(voice.refuse(Problem::ShuttingDown));
            }
            let limit = voice.policy.max_request_body;
            let read = {
                let body = pin!(body);
                buffered::read(body, limit, gate.budget()).await
            };
            let body = match read {
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
        })
    }
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

/// The answer to a managed request. Its body knows the outcome; a caller outside of this
/// crate finds that in the extensions.
pub(crate) type Managed<R, E> = Pin<Box<dyn Future<Output = Result<Answer<R>, E>> + Send>>;

pin_project! {
    #[project = PathProj]
    enum Path<S, B, R>
    where
        S: Service<Request<RequestBody<B>>>,
    {
        Passing { #[pin] response: Oneshot<S, Request<RequestBody<B>>> },
        Refused { answer: Option<Answer<R>> },
        Managed { answer: Managed<R, S::Error> },
    }
}

impl<S, B, R> Future for ResponseFuture<S, B, R>
where
    S: Service<Request<RequestBody<B>>, Response = Response<R>>,
{
    type Output = Result<Answer<R>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut answer = match self.project().path.project() {
            PathProj::Passing { response } => ready!(response.poll(cx))?.map(ResponseBody::passing),
            PathProj::Refused { answer } => {
                answer.take().expect("a future is not polled after it is ready")
            }
            PathProj::Managed { answer } => ready!(answer.as_mut().poll(cx))?,
        };
        if let Some(outcome) = answer.body().outcome() {
            answer.extensions_mut().insert(outcome);
        }
        Poll::Ready(Ok(answer))
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
