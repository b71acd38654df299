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
    waiters::{Down, Lead, View},
};
use crate::{
    BoxError,
    engine::{
        decision::Because,
        policy::OnStoreDown,
        problem::{Fault, Problem},
        record::Pending,
    },
    mutants::{Mutant, is_active},
    store::{StoreError, StoreErrorKind},
};

impl Down {
    fn of(error: &StoreError) -> Self {
        match error.kind() {
            StoreErrorKind::Unavailable
            | StoreErrorKind::Timeout
            | StoreErrorKind::Misconfigured => Self::Silent,
            // A record that cannot be read is one. After a loss of data, who asked for refusals
            // until somebody has looked means just this.
            StoreErrorKind::Corrupt | StoreErrorKind::DataLost => Self::Taken,
        }
    }
}

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
        // What was to be taken over is there.
        let down = if because.is_some() { Down::Taken } else { Down::of(&error) };
        lead.finish(View::StoreDown(down));
        let answer = self.store_down(down).await;
        reply.answer(answer);
        // Where the claim cannot be there, there are thousands of them in a second.
        if error.is_undone() {
            return;
        }
        claim::take_back(&gate, policy, key, pending, because).await;
    }

    /// What a request gets when the store does not answer.
    pub(super) async fn store_down<B, R>(self: Box<Self>, down: Down) -> Response<ResponseBody<R>>
    where
        S: Service<Request<RequestBody<B>>, Response = Response<R>>,
        S::Error: Into<BoxError>,
    {
        let Self { voice, inner, mut head, body, named, .. } = *self;
        match voice.policy.on_store_down {
            OnStoreDown::Pass if down == Down::Silent || is_active(Mutant::PassWhatIsTaken) => {
                // It has a key all the same, whether it was leading or not.
                head.extensions.insert(named);
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
