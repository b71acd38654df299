//! The way of every request through the proxy, outermost step first.
//!
//! 1. *Route*: host and path choose upstream and policy.
//! 2. *Screen*: what a proxy may not forward is refused, in the route's words; first
//!    what the connection's version of HTTP makes doubtful ([`Link::admit`]).
//! 3. *Forwarded*: the request says on whose behalf it comes.
//! 4. *Gate and upstream*: the route's service, which answers in any case.
//! 5. *Observe*: outcome and duration are counted; the duration ends with the
//!    last byte of the body.
//!
//! One function rather than a stack of layers: the steps are few, each is a
//! call, and an unkeyed request pays for no box and no clone that it does not need.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::{
    headers::{self, Peer},
    inbound_body::InboundBody,
    link::Link,
    outbound::{Observed, OutboundBody},
    route::{Outgoing, Route, Routes},
    tunnel::Tunnel,
    upstream::UpstreamBody,
};
use crate::{
    ResponseBody,
    config::Network,
    engine::problem::{Problem, Style},
};

/// What routes answer with.
pub(crate) type ServedBody = ResponseBody<UpstreamBody<Outgoing>>;

/// Everything that is the same for all connections.
#[derive(Debug)]
pub(crate) struct Pipeline {
    pub(crate) routes: Routes,
    pub(crate) trusted: Vec<Network>,
    pub(crate) body_timeout: Duration,
}

impl Pipeline {
    /// What needs no waiting is done before the future begins, which then has no place for the
    /// request: each would be one more that it is copied to.
    pub(crate) fn handle<'a, L: Link>(
        &'a self,
        mut request: Request<Incoming>,
        peer: &Peer,
        link: &'a L,
    ) -> impl Future<Output = Response<OutboundBody<L::Busy>>> + use<'a, L> {
        let busy = link.begin();
        let unread = if request.body().is_end_stream() { None } else { link.unread() };
        let admitted = link.admit(&mut request);
        let route = self.routes.find(&request);
        let screened = admitted.and_then(|()| headers::screen(&request));
        let begun = match screened.and(route.ok_or(Problem::NoRoute)) {
            Ok(route) => {
                let since = Instant::now();
                let observed = Observed::new(route.durations(), since);
                headers::host_of_target(&mut request);
                headers::forwarded(request.headers_mut(), peer);
                let is_upgrade = headers::is_upgrade(request.headers());
                let wish = if is_upgrade { Tunnel::wish(&mut request) } else { None };
                let inbound = |body| InboundBody::new(body, self.body_timeout, unread);
                Ok((route.serve(request, inbound, since), observed, wish))
            }
            Err(problem) => {
                let style = route.map_or_else(Style::default, Route::style);
                Err(Box::new(refuse(problem, style)))
            }
        };
        async move {
            let (served, observed, wish) = match begun {
                Ok(begun) => begun,
                Err(refusal) => return refusal.map(|body| OutboundBody::new(body, busy, None)),
            };
            let mut response = served.await;
            if let Some(tunnel) = wish.and_then(|client| Tunnel::agreed(client, &mut response)) {
                link.switch(tunnel);
            }
            response.map(|body| OutboundBody::new(body, busy, Some(observed)))
        }
    }
}

/// A refusal of the proxy's own.
pub(crate) fn refuse(problem: Problem, style: Style<'_>) -> Response<ServedBody> {
    problem.respond(style).map(|body: Bytes| ResponseBody::whole(body, None))
}
