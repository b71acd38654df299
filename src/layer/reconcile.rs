//! Asking the backend what became of a request.
//!
//! The order matters. First the age of the record, by the store's own clock, then
//! the lookup, then the compare-and-swap on the record that was aged: an owner that
//! says one more word in between, or another reconciler, makes the swap fail.

use std::sync::Arc;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response,
    header::{
        ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, IF_MATCH,
        IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE, TRANSFER_ENCODING,
    },
};
use http_body::Body;
use http_body_util::{BodyExt as _, Limited};
use tower::{Service, ServiceExt as _};

use super::{body::RequestBody, buffered::Buffered, exchange::Exchange, gate::Gate};
use crate::{
    BoxError,
    engine::{
        fingerprint::Fingerprint,
        policy::{OnUnknown, Policy},
        reconcile::Finding,
        record::{Done, Fence, Record, Recorded, StoreKey, StoredResponse},
    },
    mutants::{Mutant, is_active},
    store::{StoreError, Write},
};

/// How often what was learnt is written anew because the owner says meanwhile that he waits.
const WORDS: usize = 5;

const RECONCILED: HeaderName = HeaderName::from_static("idempotent-reconciled");

/// What was learnt.
pub(super) enum Learnt {
    /// It was executed, and what the backend says of it is recorded.
    Executed(Arc<Done>),
    /// It was not executed, and cannot be any more.
    NotExecuted,
    /// Nothing yet.
    Nothing,
    /// Somebody else has learnt more meanwhile.
    Overtaken,
}

/// Everything that asking needs, apart from the exchange that waits for it.
pub(super) struct Inquiry<S, B> {
    gate: Gate,
    policy: Arc<Policy>,
    inner: S,
    key: StoreKey,
    print: Fingerprint,
    question: Option<Request<RequestBody<B>>>,
}

impl<S: Clone> Exchange<S> {
    /// What to ask, on behalf of the same caller.
    pub(super) fn inquiry<B>(&self) -> Inquiry<S, B> {
        Inquiry {
            gate: self.gate.clone(),
            policy: Arc::clone(&self.voice.policy),
            inner: self.inner.clone(),
            key: self.key,
            print: self.print,
            question: self.question(),
        }
    }

    fn question<B>(&self) -> Option<Request<RequestBody<B>>> {
        const OF_THE_BODY: [HeaderName; 11] = [
            CONTENT_TYPE,
            CONTENT_LENGTH,
            CONTENT_ENCODING,
            TRANSFER_ENCODING,
            EXPECT,
            RANGE,
            IF_MATCH,
            IF_NONE_MATCH,
            IF_MODIFIED_SINCE,
            IF_UNMODIFIED_SINCE,
            IF_RANGE,
        ];
        let OnUnknown::Reconcile(reconcile) = &self.voice.policy.on_unknown else { return None };
        let key = &self.named;
        let (method, target) =
            reconcile.request.fill(key.as_str(), &self.head, &self.body.bytes)?;
        let mut request = Request::new(RequestBody::whole(Buffered::empty(self.gate.budget())));
        *request.method_mut() = method;
        *request.uri_mut() = target.into();
        let mut headers: HeaderMap = self.head.headers.clone();
        for name in OF_THE_BODY {
            headers.remove(name);
        }
        if let Some((name, _)) = &self.voice.echo {
            headers.remove(name);
        }
        // What is compressed for the client could not be read here.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        *request.headers_mut() = headers;
        // A lookup is as important as the request: it takes a fresh connection too.
        request.extensions_mut().insert(key.clone());
        Some(request)
    }
}

impl<S, B> Inquiry<S, B> {
    /// Asks about the record that the store `held`. If it was executed, records
    /// what the backend says under the fence `mine`.
    pub(super) async fn learn<R>(self, held: &Record, mine: Fence) -> Result<Learnt, StoreError>
    where
        S: Service<Request<RequestBody<B>>, Response = Response<R>>,
        S::Error: Into<BoxError>,
        R: Body<Data = Bytes>,
        R::Error: Into<BoxError>,
    {
        let Self { gate, policy, inner, key, print, question } = self;
        let OnUnknown::Reconcile(reconcile) = &policy.on_unknown else {
            return Ok(Learnt::Nothing);
        };
        let Some(question) = question else {
            tracing::warn!(%key, "the request has no value for a placeholder of reconcile.request");
            return Ok(Learnt::Nothing);
        };
        let mut expect = held.fence();
        let aged = gate.store().age(&key).await?;
        let age = aged.filter(|(aged, _)| *aged == expect).map(|(_, age)| age);
        // An owner who has said a word within a lease is at work, whatever this gate's clock says,
        // and will record what the backend answers him.
        if matches!(held, Record::Pending(_)) && !is_active(Mutant::TrustOwnClock) {
            match age {
                Some(age) if age < policy.lease => return Ok(Learnt::Nothing),
                None if aged.is_some() => return Ok(Learnt::Overtaken),
                Some(_) | None => {}
            }
        }
        let is_quiet = age.is_some_and(|age| age >= reconcile.quiescence)
            || is_active(Mutant::ReconcileWithoutQuiescence);
        let lookup = lookup(inner, question, policy.recorded());
        let answer = match tokio::time::timeout(reconcile.timeout, lookup).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                tracing::warn!(%key, %error, "a lookup failed; the outcome stays unknown");
                return Ok(Learnt::Nothing);
            }
            Err(_) => {
                let limit = reconcile.timeout;
                tracing::warn!(%key, ?limit, "a lookup gave no answer in time; the outcome stays unknown");
                return Ok(Learnt::Nothing);
            }
        };
        match reconcile.judge(answer.status(), &answer.unpack(0).body) {
            Finding::NotExecuted if is_quiet => Ok(Learnt::NotExecuted),
            Finding::NotExecuted | Finding::Inconclusive => Ok(Learnt::Nothing),
            Finding::Executed => {
                let completed = gate.now();
                let done = Arc::new(Done {
                    fence: mine,
                    fingerprint: print,
                    completed,
                    retained_until: completed.after(policy.retention),
                    response: Recorded::Whole(answer),
                });
                let record = Record::Done(Arc::clone(&done));
                let (store, keep) = (gate.store(), policy.keep_done());
                for _ in 0..WORDS {
                    if store.swap(&key, expect, &record, keep).await? == Write::Applied {
                        return Ok(Learnt::Executed(done));
                    }
                    match store.get(&key).await? {
                        // Its owner still waits, and has only said so once more.
                        Some(Record::Unknown(unknown)) if unknown.fence.admits(expect) => {
                            expect = unknown.fence;
                        }
                        _ => return Ok(Learnt::Overtaken),
                    }
                }
                Ok(Learnt::Nothing)
            }
        }
    }
}

async fn lookup<S, B, R>(
    inner: S,
    request: Request<RequestBody<B>>,
    limit: usize,
) -> Result<StoredResponse, BoxError>
where
    S: Service<Request<RequestBody<B>>, Response = Response<R>>,
    S::Error: Into<BoxError>,
    R: Body<Data = Bytes>,
    R::Error: Into<BoxError>,
{
    let (mut head, body) = inner.oneshot(request).await.map_err(Into::into)?.into_parts();
    let body = Limited::new(body, limit).collect().await?;
    let mut trailers = body.trailers().cloned();
    head.headers.insert(RECONCILED, HeaderValue::from_static("true"));
    match Recorded::copy_of(&mut head, &body.to_bytes(), trailers.as_mut()) {
        Recorded::Whole(answer) => Ok(answer),
        Recorded::StatusOnly(_) => Err("the answer has too many headers".into()),
    }
}
