//! The story of a keyed request, from its body to its answer.
//!
//! [`Exchange::answer`] runs in the client's future and ends with it. Whoever
//! leads for a key goes on in a task of its own ([`Exchange::lead`]), so a client
//! that leaves changes nothing: the exchange is finished and recorded.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, request::Parts};
use http_body::Body;
use tokio::time::Instant;
use tower::Service;

use super::{
    answer::Voice,
    body::{RequestBody, ResponseBody},
    buffered::Buffered,
    claim::{self, Claim},
    elsewhere,
    follow::{self, Patience, Seen},
    gate::Gate,
    reconcile::Learnt,
    reply::{Led, Reply},
    store_down::Unclaimed,
    waiters::{Down, Lead, Place, View},
};
use crate::{
    BoxError, Key,
    engine::{
        decision::{Because, Decision, decide},
        fingerprint::Fingerprint,
        problem::Problem,
        record::{Record, StoreKey},
    },
    mutants::{Mutant, is_active},
    store::{Claimed, Write},
};

/// A keyed request whose body is here.
///
/// It goes from future to future, so it lives in a box: what moves is a pointer.
pub(crate) struct Exchange<S> {
    pub(crate) gate: Gate,
    pub(crate) voice: Voice,
    pub(crate) inner: S,
    pub(crate) head: Parts,
    pub(crate) body: Buffered,
    /// The key as the client wrote it.
    pub(crate) named: Key,
    pub(crate) key: StoreKey,
    pub(crate) print: Fingerprint,
}

impl<S> Exchange<S> {
    /// Answers what the cache could not, by whatever way is the shorter: a leader's view,
    /// or leading.
    pub(crate) async fn answer<B, R>(mut self: Box<Self>) -> Response<ResponseBody<R>>
    where
        S: Service<Request<RequestBody<B>>, Response = Response<R>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        B: Send + 'static,
        R: Body<Data = Bytes> + Send + 'static,
        R::Error: Into<BoxError>,
    {
        let mut patience = Patience::new(self.voice.policy.on_conflict);
        let since = Instant::now();
        loop {
            let mut view = match self.gate.waiters().join(&self.key) {
                Place::Follow(view) => view,
                Place::Lead(_) if self.gate.is_closing() => {
                    return self.voice.refuse(Problem::ShuttingDown);
                }
                Place::Lead(lead) => match self.lead(lead).await {
                    Led::Answer(answer) => return answer,
                    Led::Follow(exchange, view) => {
                        self = exchange;
                        view
                    }
                },
            };
            let Self { gate, voice, key, print, .. } = &*self;
            let seen = follow::follow(gate, voice, *print, since, &mut view, &mut patience);
            match seen.await {
                Seen::Again => {
                    if let Some(answer) = cached_answer(gate, voice, key, *print) {
                        return answer;
                    }
                }
                Seen::StoreDown(down) => return Box::pin(self.store_down(down)).await,
                Seen::Replay(replay) => {
                    return self.voice.replay(&replay, patience.waited, self.gate.now());
                }
                Seen::Refuse(refusal) => {
                    return self.voice.refuse(Problem::Refused(refusal));
                }
            }
        }
    }

    /// Leads in a task that the client cannot cancel. A panic in it goes on here.
    async fn lead<B, R>(self: Box<Self>, lead: Lead) -> Led<S, R>
    where
        S: Service<Request<RequestBody<B>>, Response = Response<R>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        B: Send + 'static,
        R: Body<Data = Bytes> + Send + 'static,
        R::Error: Into<BoxError>,
    {
        let voice = self.voice.clone();
        let gate = self.gate.clone();
        let (reply, answer) = Reply::new();
        // A task moves its future several times over its life; a box is moved once.
        let task = gate.spawn(Box::pin(async move {
            if let Some((exchange, claim, reply)) = self.claim(lead, reply).await {
                exchange.execute(claim, reply).await;
            }
        }));
        let _guard = is_active(Mutant::CancelWithClient).then(|| AbortOnDrop(task.abort_handle()));
        match answer.await {
            Ok(led) => led,
            Err(_) => match task.await {
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                // The runtime is going away.
                Ok(()) | Err(_) => Led::Answer(voice.refuse(Problem::ShuttingDown)),
            },
        }
    }

    /// Claims the key, or does what else the store's answer asks for; then nothing is left to
    /// be done.
    ///
    /// What seldom happens is boxed: only the way of a first request has its place in
    /// this future.
    async fn claim<B, R>(
        mut self: Box<Self>,
        lead: Lead,
        mut reply: Reply<S, R>,
    ) -> Option<(Box<Self>, Claim, Reply<S, R>)>
    where
        S: Service<Request<RequestBody<B>>, Response = Response<R>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        B: Send + 'static,
        R: Body<Data = Bytes> + Send + 'static,
        R::Error: Into<BoxError>,
    {
        // Whoever gets the request may want to know; a replay asks nobody.
        self.head.extensions.insert(self.named.clone());
        let policy = Arc::clone(&self.voice.policy);
        let token = self.gate.token();
        // Whether the store has shown a record; from then on nothing passes a store that is down.
        let mut is_known = false;
        loop {
            // A slow reply says nothing about the time after its question.
            let asked = self.gate.moment();
            let pending = claim::intent(&self.gate, &policy, self.print, token, asked.wall);
            let record = Record::Pending(pending.clone());
            let store = self.gate.store();
            let held = match store.claim(&self.key, &record, policy.keep_open()).await {
                Ok(Claimed::Mine) => {
                    let claim = Claim::new(&self.gate, policy, lead, pending, asked);
                    return Some((self, claim, reply));
                }
                Ok(Claimed::Held(held)) => held,
                Err(_) if is_active(Mutant::DispatchUnclaimed) => {
                    let claim = Claim::new(&self.gate, policy, lead, pending, asked);
                    return Some((self, claim, reply));
                }
                Err(error) => {
                    let down = match is_known && !is_active(Mutant::ForgetWhatWasSeen) {
                        true => Down::Taken,
                        false => Down::of(&error),
                    };
                    let claim = Unclaimed { pending, because: None, error };
                    Box::pin(self.not_claimed(lead, claim, down, reply)).await;
                    return None;
                }
            };
            is_known = true;
            let (expect, because) = match decide(&held, self.print, &policy, asked.wall) {
                Decision::Replay(replay) => {
                    reply.answer(self.voice.replay(&replay, false, self.gate.now()));
                    if let Record::Done(done) = &held {
                        self.gate.cache().insert(self.key, Arc::clone(done));
                    }
                    lead.finish(View::Seen(held, asked));
                    return None;
                }
                Decision::Refuse(refusal) => {
                    reply.answer(self.voice.refuse(Problem::Refused(refusal)));
                    lead.finish(View::Seen(held, asked));
                    return None;
                }
                Decision::Wait => {
                    let gate = self.gate.clone();
                    let view = lead.subscribe();
                    lead.show(View::Seen(held, asked));
                    reply.follow(self, view);
                    Box::pin(elsewhere::poll(gate, lead)).await;
                    return None;
                }
                Decision::TakeOver(expect, because) => (expect, because),
                Decision::Reconcile(expect, refusal) => {
                    // A revision of its own: a take-over of an earlier round may still be on its
                    // way, and must not undo what is learnt now.
                    let mine = match is_active(Mutant::OneRevision) {
                        true => pending.fence,
                        false => pending.fence.next(),
                    };
                    match Box::pin(self.inquiry().learn(&held, mine)).await {
                        Ok(Learnt::NotExecuted) => (expect, Because::NotExecuted),
                        Ok(Learnt::Executed(done)) => {
                            let answer = self.voice.reconciled(&done);
                            reply.answer(answer);
                            self.gate.cache().insert(self.key, Arc::clone(&done));
                            lead.finish(View::Owned(Record::Done(done)));
                            return None;
                        }
                        Ok(Learnt::Nothing) => {
                            let problem = Problem::Refused(refusal);
                            reply.answer(self.voice.refuse(problem));
                            lead.finish(View::Asked(held, asked));
                            return None;
                        }
                        Ok(Learnt::Overtaken) => continue,
                        // There is a record, and what was learnt may be in it: nothing is
                        // taken back, and nothing passes.
                        Err(error) => {
                            tracing::warn!(key = %self.key, %error, "the store did not answer a reconciliation");
                            lead.finish(View::StoreDown(Down::Taken));
                            reply.answer(Box::pin(self.store_down(Down::Taken)).await);
                            return None;
                        }
                    }
                }
            };
            // The time that a lookup took is not time of the lease.
            let asked = self.gate.moment();
            let pending = claim::intent(&self.gate, &policy, self.print, token, asked.wall);
            let record = Record::Pending(pending.clone());
            match store.swap(&self.key, expect, &record, policy.keep_open()).await {
                Ok(Write::Applied) => {
                    tracing::info!(key = %self.key, ?because, "a key was taken over");
                    let claim = Claim::new(&self.gate, policy, lead, pending, asked);
                    return Some((self, claim.instead_of(because), reply));
                }
                // Somebody was faster; what he wrote decides.
                Ok(Write::Fenced) => {}
                Err(error) => {
                    let claim = Unclaimed { pending, because: Some(because), error };
                    Box::pin(self.not_claimed(lead, claim, Down::Taken, reply)).await;
                    return None;
                }
            }
        }
    }
}

/// The answer to a key whose record this process has at hand.
pub(super) fn cached_answer<R>(
    gate: &Gate,
    voice: &Voice,
    key: &StoreKey,
    print: Fingerprint,
) -> Option<Response<ResponseBody<R>>> {
    let now = gate.now();
    let done = gate.cache().peek(key, now)?;
    match decide(&Record::Done(done), print, &voice.policy, now) {
        Decision::Replay(replay) => Some(voice.replay(&replay, false, now)),
        Decision::Refuse(refusal) => Some(voice.refuse(Problem::Refused(refusal))),
        Decision::TakeOver(..) | Decision::Reconcile(..) | Decision::Wait => None,
    }
}

/// For a mutant: ends a task with its client.
struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
