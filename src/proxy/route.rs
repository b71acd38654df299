//! Which requests go where, under which policy.

use std::{future, sync::Arc};

use http::{Request, Response, header::HOST};
use hyper::body::Incoming;
use metrics::Histogram;
use tokio::time::Instant;
use tower::Layer as _;

use super::{
    inbound_body::{InboundBody, Unfinished},
    observe::RouteMetrics,
    pipeline::{ServedBody, refuse},
    upstream::{Answering, Upstream, UpstreamBody},
};
use crate::{
    Gate, IdempotencyLayer, IdempotencyService, RequestBody, ResponseBody, UpstreamError, config,
    engine::{
        policy::Policy,
        problem::{Problem, Style},
    },
    layer::{Look, Managed, is_timeout},
};

/// What the connections to upstreams carry.
pub(crate) type Outgoing = RequestBody<InboundBody<Incoming>>;

/// All routes, the most specific first.
#[derive(Debug)]
pub(crate) struct Routes(Vec<Route>);

/// One route, ready to serve.
#[derive(Debug)]
pub(crate) struct Route {
    path: String,
    host: Option<String>,
    way: Way,
    policy: Option<Arc<Policy>>,
    metrics: RouteMetrics,
}

#[derive(Debug)]
enum Way {
    /// Through the gate.
    Gated(IdempotencyService<Upstream<Outgoing>>),
    /// Straight to the upstream.
    Open(Upstream<Outgoing>),
}

/// What a request waits for. Small, for whatever holds it is copied.
enum Serving {
    Passing(Answering<Outgoing>),
    Managed(Managed<UpstreamBody<Outgoing>, UpstreamError>),
}

impl Routes {
    /// Builds the routes of a configuration on one gate.
    pub(crate) fn new(routes: &[config::Route], gate: &Gate) -> Self {
        let mut routes: Vec<Route> = routes.iter().map(|route| Route::new(route, gate)).collect();
        // A named host beats any host; then the longest path wins.
        routes.sort_by_key(|route| (route.host.is_none(), std::cmp::Reverse(route.path.len())));
        Self(routes)
    }

    /// The route of a request.
    pub(crate) fn find<B>(&self, request: &Request<B>) -> Option<&Route> {
        // `OPTIONS *` asks about the server as a whole.
        let path = if request.uri().path() == "*" { "/" } else { request.uri().path() };
        let host = match &self.0[..] {
            [only] if only.host.is_none() => None,
            _ => host(request),
        };
        self.0.iter().find(|route| {
            route
                .host
                .as_deref()
                .is_none_or(|wanted| host.is_some_and(|host| host.eq_ignore_ascii_case(wanted)))
                && is_below(path, &route.path)
        })
    }
}

impl Route {
    fn new(route: &config::Route, gate: &Gate) -> Self {
        let upstream = Upstream::new(&route.upstream);
        let way = match &route.policy {
            None => Way::Open(upstream),
            Some(policy) => {
                Way::Gated(IdempotencyLayer::new(gate.clone(), policy.clone()).layer(upstream))
            }
        };
        let name = match &route.host {
            Some(host) => format!("{host}{}", route.path),
            None => route.path.clone(),
        };
        Self {
            path: route.path.clone(),
            host: route.host.clone(),
            way,
            policy: route.policy.clone(),
            metrics: RouteMetrics::new(&name),
        }
    }

    /// Serves a request that has come at `since`, with the body that `inbound` makes of its own.
    /// What the upstream fails at becomes a problem document.
    pub(crate) fn serve<'a, I: FnOnce(Incoming) -> InboundBody<Incoming>>(
        &'a self,
        request: Request<Incoming>,
        inbound: I,
        since: Instant,
    ) -> impl Future<Output = Response<ServedBody>> + use<'a, I> {
        let serving = match &self.way {
            Way::Gated(service) => match service.look(&request) {
                Look::Pass => pass(&service.inner, request, inbound, since),
                Look::Refuse(problem) => {
                    Serving::Managed(Box::pin(future::ready(Ok(service.refuse(problem)))))
                }
                Look::Manage(found) => {
                    let request = request.map(|body| inbound(body).held());
                    Serving::Managed(service.manage(request, found))
                }
            },
            Way::Open(upstream) => pass(upstream, request, inbound, since),
        };
        async move {
            let served = match serving {
                Serving::Passing(response) => {
                    response.await.map(|response| response.map(ResponseBody::passing))
                }
                Serving::Managed(answer) => answer.await,
            };
            let response = served.unwrap_or_else(|error: UpstreamError| {
                tracing::warn!(%error, "an exchange without a key failed");
                refuse(failure(&error), self.style())
            });
            if let Some(outcome) = response.body().outcome() {
                self.metrics.count(outcome);
            }
            response
        }
    }

    /// How this route words its refusals.
    pub(crate) fn style(&self) -> Style<'_> {
        self.policy.as_deref().map_or_else(Style::default, Style::from)
    }

    /// How long requests of this route take.
    pub(crate) fn durations(&self) -> &Histogram {
        self.metrics.durations()
    }
}

/// Sends a request on as it comes.
fn pass(
    upstream: &Upstream<Outgoing>,
    request: Request<Incoming>,
    inbound: impl FnOnce(Incoming) -> InboundBody<Incoming>,
    since: Instant,
) -> Serving {
    // One step, since each moves the request.
    let request = request.map(|body| RequestBody::passing(inbound(body)));
    Serving::Passing(upstream.send(request, since))
}

/// Whose fault it was. A request body is passed on as it comes, so the upstream's connection
/// ends when the client's does.
fn failure(error: &UpstreamError) -> Problem {
    if !crate::chain(error).any(|error| error.is::<Unfinished>()) {
        Problem::UpstreamFailed(error.fault())
    } else if is_timeout(error) {
        Problem::PassingBodyTimeout
    } else {
        Problem::PassingBodyIncomplete
    }
}

fn host<B>(request: &Request<B>) -> Option<&str> {
    let authority = request.uri().authority().map(|authority| authority.host());
    let header = || {
        let host = request.headers().get(HOST)?.to_str().ok()?;
        // A port belongs to no route; an IPv6 address keeps its brackets.
        let end = host.rfind(':').filter(|colon| !host[*colon..].contains(']'));
        Some(&host[..end.unwrap_or(host.len())])
    };
    let host = authority.or_else(header)?;
    // The dot at the end says that the name is whole.
    Some(host.strip_suffix('.').unwrap_or(host))
}

/// Whether `path` lies below `prefix`, by whole segments.
fn is_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || prefix.ends_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Config, Sources},
        store::MemoryStore,
    };

    #[test]
    fn the_most_specific_route_takes_a_request() {
        let text = r#"
            [[route]]
            path = "/pay"
            [[route]]
            path = "/pay/refunds"
            [[route]]
            path = "/"
            host = "b.example"
        "#;
        let config = Config::load(&Sources::text(text)).unwrap();
        let routes = Routes::new(&config.routes, &Gate::builder(MemoryStore::default()).build());
        let find = |host: &str, path: &str| {
            let request = Request::post(path).header("host", host).body(()).unwrap();
            let route = routes.find(&request).unwrap();
            (route.host.clone(), route.path.clone())
        };
        for (host, path, expected) in [
            ("a.example", "/pay", (None, "/pay")),
            ("a.example", "/pay/1", (None, "/pay")),
            ("a.example", "/payments", (None, "/")),
            ("a.example", "/pay/refunds/1?x=/", (None, "/pay/refunds")),
            ("B.example:8080", "/pay", (Some("b.example"), "/")),
            ("b.example.", "/pay", (Some("b.example"), "/")),
            ("b.example.:8080", "/pay", (Some("b.example"), "/")),
            ("b.example..", "/pay", (None, "/pay")),
        ] {
            let expected = (expected.0.map(str::to_owned), expected.1.to_owned());
            assert_eq!(find(host, path), expected, "{host}{path}");
        }
    }
}
