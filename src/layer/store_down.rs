//! What becomes of a keyed request when the store does not answer.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tokio::time::timeout;
use tower::{Service, ServiceExt as _};

use super::{
    answer::Outcome,
    body::{RequestBody, ResponseBody},
    claim, dispatch,
    evidence::UpstreamError,
    exchange::Exchange,
    reply::Reply,
    waiters::{Lead, View},
};
use crate::{
    BoxError,
    engine::{
        decision::Because,
        policy::OnStoreDown,
        problem::{Fault, Problem},
        record::Pending,
    },
    store::{StoreError, StoreErrorKind},
};

impl<S> Exchange<S> {
    /// The store did not answer. Its reply may be lost and the claim there, so what was
    /// there before (nothing, or what was to be taken over `because` of something) is put
    /// back as soon as the store can be reached.
    pub(super) async fn not_claimed<B, R>(
        self: Box<Self>,
        lead: Lead,
        pending: Pending,
        because: Option<Because>,
        error: StoreError,
        mut reply: Reply<S, R>,
    ) where
        S: Service<Request<RequestBody<B>>, Response = Response<R>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        B: Send + 'static,
        R: Body<Data = Bytes> + Send + 'static,
        R::Error: Into<BoxError>,
    {
        tracing::warn!(key = %self.key, %error, "the store did not answer a claim; nothing was sent");
        let gate = self.gate.clone();
        let (key, policy) = (self.key, Arc::clone(&self.voice.policy));
        lead.finish(View::StoreDown(error.kind()));
        let answer = self.store_down(error.kind()).await;
        reply.answer(answer);
        claim::take_back(&gate, policy, key, pending, because).await;
    }

    /// What a request gets when the store does not answer. After a loss of data nothing
    /// passes: who asked for refusals until somebody has looked means just this.
    pub(super) async fn store_down<B, R>(
        self: Box<Self>,
        kind: StoreErrorKind,
    ) -> Response<ResponseBody<R>>
    where
        S: Service<Request<RequestBody<B>>, Response = Response<R>>,
        S::Error: Into<BoxError>,
    {
        let Self { voice, inner, head, body, .. } = *self;
        match voice.policy.on_store_down {
            OnStoreDown::Pass if kind != StoreErrorKind::DataLost => {
                let request = Request::from_parts(head, RequestBody::whole(body));
                match timeout(dispatch::patience(&voice), inner.oneshot(request)).await {
                    Ok(Ok(response)) => voice.hand_on(response, Outcome::Bypassed),
                    Ok(Err(error)) => {
                        let (_, fault) = UpstreamError::read(&*error.into());
                        voice.bypass_failed(fault)
                    }
                    Err(_) => voice.bypass_failed(Fault::ResponseTimeout),
                }
            }
            OnStoreDown::Refuse | OnStoreDown::Pass => voice.refuse(Problem::StoreUnavailable),
        }
    }
}
