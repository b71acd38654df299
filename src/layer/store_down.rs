//! What becomes of a keyed request when the store does not answer.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tokio::time::timeout;
use tower::{Service, ServiceExt as _};

use super::{
    body::{RequestBody, ResponseBody},
    claim::{self, Ending},
    dispatch,
    ended::Outcome,
    evidence::UpstreamError,
    exchange::Exchange,
    reply::Reply,
    waiters::{Down, Lead, View},
};
use crate::{
    BoxError,
    engine::{
        decision::Because,
        outcome::{Evidence, Verdict, classify},
        policy::OnStoreDown,
        problem::{Fault, Problem},
        record::{Pending, Reason},
    },
    mutants::{Mutant, is_active},
    store::{StoreError, StoreErrorKind},
};

/// A claim that the store did not acknowledge.
pub(super) struct Unclaimed {
    pub(super) pending: Pending,
    /// What was to be taken over, if anything was.
    pub(super) because: Option<Because>,
    pub(super) error: StoreError,
}

impl Down {
    pub(super) fn of(error: &StoreError) -> Self {
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
    /// The store did not answer. Its reply may be lost and the claim there, so as soon as the
    /// store can be reached it hears what is true: what was there before (nothing, or what was
    /// to be taken over) if nothing was sent, and else that the outcome is unknown, since the
    /// response of a request that has passed is recorded nowhere.
    pub(super) async fn not_claimed<B, R>(
        self: Box<Self>,
        lead: Lead,
        claim: Unclaimed,
        down: Down,
        mut reply: Reply<S, R>,
    ) where
        S: Service<Request<RequestBody<B>>, Response = Response<R>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        B: Send + 'static,
        R: Body<Data = Bytes> + Send + 'static,
        R::Error: Into<BoxError>,
    {
        let Unclaimed { pending, because, error } = claim;
        tracing::warn!(key = %self.key, %error, "the store did not answer a claim");
        let gate = self.gate.clone();
        let (key, policy) = (self.key, Arc::clone(&self.voice.policy));
        lead.finish(View::StoreDown(down));
        let work = async {
            let (answer, ending) = self.pass_or_refuse(down).await;
            reply.answer(answer);
            ending
        };
        // Where the claim cannot be there, there are thousands of them in a second.
        if error.is_undone() {
            work.await;
        } else {
            claim::take_back(&gate, policy, key, (pending, because), work).await;
        }
    }

    /// What a request gets when the store does not answer.
    pub(super) async fn store_down<B, R>(self: Box<Self>, down: Down) -> Response<ResponseBody<R>>
    where
        S: Service<Request<RequestBody<B>>, Response = Response<R>>,
        S::Error: Into<BoxError>,
    {
        self.pass_or_refuse(down).await.0
    }

    /// The answer, and how a claim ends that the store may have all the same.
    async fn pass_or_refuse<B, R>(
        self: Box<Self>,
        down: Down,
    ) -> (Response<ResponseBody<R>>, Ending)
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
                let (answer, evidence) =
                    match timeout(dispatch::patience(&voice), inner.oneshot(request)).await {
                        Ok(Ok(response)) => {
                            let evidence = dispatch::answered(&response, &voice.policy);
                            (voice.hand_on(response, Outcome::Bypassed), evidence)
                        }
                        Ok(Err(error)) => {
                            let (evidence, fault) = UpstreamError::read(&*error.into());
                            (voice.bypass_failed(fault), evidence)
                        }
                        Err(_) => (voice.bypass_failed(Fault::ResponseTimeout), Evidence::TimedOut),
                    };
                let ending = match classify(evidence, &voice.policy) {
                    _ if is_active(Mutant::FreeWhatHasPassed) => Ending::Released,
                    Verdict::Release => Ending::Released,
                    Verdict::Unknown(reason) => Ending::Unknown(reason),
                    Verdict::Record => Ending::Unknown(Reason::StoreLost),
                };
                (answer, ending)
            }
            OnStoreDown::Refuse | OnStoreDown::Pass => {
                (voice.refuse(Problem::StoreUnavailable), Ending::Released)
            }
        }
    }
}
