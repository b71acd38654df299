//! The responses that a caller gets: a first answer, a replay, a refusal.
//!
//! A first answer is what was recorded, and a replay is made from the record, so
//! they differ only in the headers that say which of the two they are.

use std::sync::Arc;

use arrayvec::ArrayString;
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response,
    header::{AGE, TRAILER},
    response,
};

use super::{body::ResponseBody, ended::Outcome};
use crate::engine::{
    decision::{Refusal, Replay},
    policy::{Dialect, Policy},
    problem::{Fault, Problem},
    record::{Done, Recorded, StoredResponse, Timestamp, Unpacked},
};

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const BYPASSED: HeaderValue = HeaderValue::from_static("oncegate; fwd=bypass; detail=store-down");
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const ORIGINAL_REQUEST: HeaderName = HeaderName::from_static("original-request");

/// How many fields an answer adds to the recorded ones: a map that must grow costs more than
/// its fields.
const ADDED: usize = 4;

/// Whether a first answer was recorded when it left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// It was.
    Yes,
    /// Not yet, or never.
    No,
    /// The response is longer than the policy records.
    TooLarge,
}

/// What an answer needs to know of its request.
#[derive(Clone, Debug)]
pub(crate) struct Voice {
    pub(crate) policy: Arc<Policy>,
    pub(crate) echo: Option<(HeaderName, HeaderValue)>,
}

impl Voice {
    /// A refusal.
    pub(crate) fn refuse<R>(&self, problem: Problem) -> Response<ResponseBody<R>> {
        let response = problem.respond((&*self.policy).into());
        self.finish(response.map(|body| ResponseBody::whole(body, None)), Outcome::of(problem))
    }

    /// What a request gets that was forwarded without protection, and not answered.
    pub(crate) fn bypass_failed<R>(&self, fault: Fault) -> Response<ResponseBody<R>> {
        let response = Problem::UpstreamFailed(fault).respond((&*self.policy).into());
        let mut answer = response.map(|body| ResponseBody::whole(body, None));
        answer.headers_mut().append(CACHE_STATUS, BYPASSED);
        self.finish(answer, Outcome::Bypassed)
    }

    /// The first answer to a key.
    pub(crate) fn first<R>(
        &self,
        head: response::Parts,
        body: Bytes,
        trailers: Option<HeaderMap>,
        stored: Stored,
    ) -> Response<ResponseBody<R>> {
        let mut answer = assemble(head.status, head.headers, body, trailers);
        mark_first(answer.headers_mut(), stored);
        self.finish(answer, Outcome::Executed)
    }

    /// What the backend said when it was asked.
    pub(crate) fn reconciled<R>(&self, done: &Done) -> Response<ResponseBody<R>> {
        let Recorded::Whole(response) = &done.response else {
            return self
                .refuse(Problem::Refused(Refusal::ResponseNotStored(done.response.status())));
        };
        let mut answer = once_more(response);
        mark_first(answer.headers_mut(), Stored::Yes);
        self.finish(answer, Outcome::Reconciled)
    }

    /// A first answer whose body goes on after its head.
    pub(crate) fn live<R>(
        &self,
        mut answer: Response<ResponseBody<R>>,
        stored: Stored,
    ) -> Response<ResponseBody<R>> {
        mark_first(answer.headers_mut(), stored);
        self.finish(answer, Outcome::Executed)
    }

    /// An upstream's answer that is handed on and not recorded.
    pub(crate) fn hand_on<R>(
        &self,
        response: Response<R>,
        outcome: Outcome,
    ) -> Response<ResponseBody<R>> {
        let mut answer = response.map(ResponseBody::passing);
        let status = match outcome {
            Outcome::Bypassed => BYPASSED,
            _ => HeaderValue::from_static("oncegate; fwd=miss"),
        };
        answer.headers_mut().append(CACHE_STATUS, status);
        self.finish(answer, outcome)
    }

    /// A recorded response, once more.
    pub(crate) fn replay<R>(
        &self,
        replay: &Replay,
        waited: bool,
        now: Timestamp,
    ) -> Response<ResponseBody<R>> {
        let (done, recorded) = (replay.done(), replay.response());
        let mut answer = once_more(recorded);
        if let Some(status) = self.policy.replay_status {
            *answer.status_mut() = status;
        }
        let headers = answer.headers_mut();
        headers.insert(REPLAYED, const { HeaderValue::from_static("true") });
        headers.insert(AGE, HeaderValue::from(now.since(done.completed).as_secs()));
        let status = if waited {
            HeaderValue::from_static("oncegate; fwd=miss; collapsed")
        } else {
            hit(done.retained_until.since(now).as_secs())
        };
        headers.append(CACHE_STATUS, status);
        if self.policy.dialect == Dialect::Stripe
            && let Some(original) = headers.get(REQUEST_ID).cloned()
        {
            headers.insert(ORIGINAL_REQUEST, original);
        }
        self.finish(answer, if waited { Outcome::Waited } else { Outcome::Replayed })
    }

    fn finish<R>(
        &self,
        mut answer: Response<ResponseBody<R>>,
        outcome: Outcome,
    ) -> Response<ResponseBody<R>> {
        if let Some((name, value)) = &self.echo {
            answer.headers_mut().insert(name.clone(), value.clone());
        }
        answer.body_mut().ended(outcome);
        answer
    }
}

/// `Cache-Status` of a replay that stays available for `ttl` seconds (RFC 9211, 2.4).
fn hit(ttl: u64) -> HeaderValue {
    // 19 bytes, and a number has 20 at the most.
    let mut status = ArrayString::<39>::new();
    status.push_str("oncegate; hit; ttl=");
    status.push_str(itoa::Buffer::new().format(ttl));
    HeaderValue::from_str(&status).unwrap_or_else(|_| HeaderValue::from_static("oncegate; hit"))
}

fn mark_first(headers: &mut HeaderMap, stored: Stored) {
    // Constants, since a value that is made is looked at byte by byte.
    let status = match stored {
        Stored::Yes => const { HeaderValue::from_static("oncegate; fwd=miss; stored") },
        Stored::No => const { HeaderValue::from_static("oncegate; fwd=miss; stored=?0") },
        Stored::TooLarge => {
            HeaderValue::from_static("oncegate; fwd=miss; stored=?0; detail=response-too-large")
        }
    };
    headers.append(CACHE_STATUS, status);
}

fn once_more<R>(recorded: &StoredResponse) -> Response<ResponseBody<R>> {
    let Unpacked { status, headers, body, trailers } = recorded.unpack(ADDED);
    assemble(status, headers, body, trailers)
}

fn assemble<R>(
    status: http::StatusCode,
    mut headers: HeaderMap,
    body: Bytes,
    trailers: Option<HeaderMap>,
) -> Response<ResponseBody<R>> {
    announce(&mut headers, trailers.as_ref());
    let mut answer = Response::new(ResponseBody::whole(body, trailers));
    *answer.status_mut() = status;
    *answer.headers_mut() = headers;
    answer
}

/// HTTP/1 carries only trailers that `Trailer` announces (RFC 9110, 6.6.2).
fn announce(headers: &mut HeaderMap, trailers: Option<&HeaderMap>) {
    let Some(trailers) = trailers.filter(|_| !headers.contains_key(TRAILER)) else { return };
    let names: Vec<&str> = trailers.keys().map(HeaderName::as_str).collect();
    if let Ok(names) = HeaderValue::from_str(&names.join(", ")) {
        headers.insert(TRAILER, names);
    }
}
