//! The way to a service: one exchange per request, never silently two.
//!
//! 1. A request is handed to a connection once. It is tried on another one only
//!    when the first gave it back untouched.
//! 2. An error says whether a byte may have left ([`meter`] counts them).
//! 3. A keyed request takes a fresh or just-used connection: a connection that
//!    its peer is about to close is the most common cause of an unknown outcome
//!    that need not have been.
//! 4. Who had to wait for one looks whether the request's claim still holds.
//! 5. A connection is used again when its exchange is over on both sides. A service that
//!    answers before it has read all leaves one that still sends. One whose service speaks
//!    HTTP/1.0 is used once.

mod body;
mod connection;
mod meter;
mod patience;
mod pool;

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{
    Method, Request, Response, StatusCode,
    header::{CONTENT_LENGTH, HOST},
};
use http_body::Body;
use metrics::Histogram;
use tokio::time::{Instant, timeout_at};
use tower::Service;

use body::Homing;
pub(crate) use body::UpstreamBody;
use connection::Connection;
use patience::Patience;
use pool::Pool;

use super::{headers, http2::Slot, pause::Pause};
use crate::{
    BoxError, Key, UpstreamError,
    config::Upstream as Settings,
    engine::problem::Fault,
    layer::{LATE, Standing},
    mutants::{Mutant, is_active},
};

/// A keyed request reuses a connection that was used within this time; keep-alive
/// limits of servers begin at a second.
const FRESH: Duration = Duration::from_millis(500);

/// The service behind a route, as a tower service. Cheap to clone.
#[derive(Debug)]
pub(crate) struct Upstream<B>(Arc<Shared<B>>);

struct Shared<B> {
    pools: Vec<Arc<Pool<B>>>,
    next: AtomicUsize,
    settings: Settings,
    durations: Histogram,
}

impl<B> std::fmt::Debug for Shared<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl<B> Clone for Upstream<B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<B> Upstream<B> {
    pub(crate) fn new(settings: &Settings) -> Self {
        let pool = |url: &_| Arc::new(Pool::new(Clone::clone(url), settings));
        Self(Arc::new(Shared {
            pools: settings.urls.iter().map(pool).collect(),
            next: AtomicUsize::new(0),
            settings: settings.clone(),
            durations: metrics::histogram!("http_client_request_duration_seconds"),
        }))
    }
}

type Answer<B> = Result<Response<UpstreamBody<B>>, UpstreamError>;

/// An answer that is waited for.
pub(crate) type Answering<B> = Pin<Box<dyn Future<Output = Answer<B>> + Send>>;

impl<B> Upstream<B>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    /// Sends a request; it is `since` now. An upstream is always ready.
    pub(crate) fn send(&self, request: Request<B>, since: Instant) -> Answering<B> {
        let shared = Arc::clone(&self.0);
        let mut unsent = Some(request);
        Box::pin(async move {
            // Lent, since what an async function takes has its place in the future twice.
            let response = shared.exchange(&mut unsent, since).await;
            shared.durations.record(since.elapsed());
            response
        })
    }
}

impl<B> Service<Request<B>> for Upstream<B>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<UpstreamBody<B>>;
    type Error = UpstreamError;
    type Future = Answering<B>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.send(request, Instant::now())
    }
}

impl<B> Shared<B>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    async fn exchange(&self, unsent: &mut Option<Request<B>>, since: Instant) -> Answer<B> {
        const HERE: &str = "what is taken to be sent comes back before the next attempt";
        let request = unsent.as_mut().expect(HERE);
        let keyed = request.extensions().get::<Key>().is_some();
        // Held until the response is complete, whether or not its client still waits.
        let slot = request.extensions_mut().remove::<Slot>();
        let fresh = keyed && !is_active(Mutant::ReuseOldConnections);
        let max_idle = if fresh { FRESH } else { Duration::MAX };
        let deadline = self.settings.total_timeout.map(|limit| since + limit);
        let switches = headers::to_upstream(request);
        let may_move = !keyed && !request.body().is_end_stream();
        let is_head = request.method() == Method::HEAD;
        let has_host = request.headers().contains_key(HOST);
        let mut now = since;
        loop {
            let (pool, mut connection) = match deadline {
                Some(deadline) => self.connection_until(deadline, max_idle, &mut now).await?,
                None => self.connection(max_idle, &mut now).await?,
            };
            let request = unsent.as_mut().expect(HERE);
            if now > since && !holds(request) {
                let what =
                    "its claim was lost while a connection was made (upstream.connect_timeout)";
                return Err(UpstreamError::unsent(Fault::ConnectTimeout).because(what));
            }
            if !has_host {
                request.headers_mut().remove(HOST);
            }
            headers::address(request, pool.url());
            let (mark, reused) = (connection.meter.written(), connection.reused);
            // For a keyed request the gate keeps the time, and records what comes late.
            let limit = self.settings.response_timeout;
            let limit = if keyed { limit.saturating_mul(1 + LATE) } else { limit };
            let patience = Patience::new(limit, deadline, now);
            let patience = if may_move { patience.while_it_moves(now) } else { patience };
            match connection.exchange(unsent.take().expect(HERE), patience).await {
                // Nobody asked for another protocol, so nobody could go on with it.
                Ok(Ok(response))
                    if response.status() == StatusCode::SWITCHING_PROTOCOLS && !switches =>
                {
                    return Err(UpstreamError::sent(Fault::Protocol));
                }
                Ok(Ok(mut response)) => {
                    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                        // What follows is no exchange, and nobody's to drive.
                        connection.hand_over();
                    }
                    connection.note(response.version());
                    if let Err(why) = headers::one_framing(response.headers_mut()) {
                        if has_body(response.status(), is_head) {
                            return Err(UpstreamError::sent(Fault::Protocol).because(why));
                        }
                        // Nothing is framed by it.
                        response.headers_mut().remove(CONTENT_LENGTH);
                    }
                    headers::from_upstream(&mut response);
                    let home = (pool, connection);
                    let pause = Pause::new(self.settings.response_timeout, deadline);
                    return Ok(response.map(|body| UpstreamBody::new(body, home, pause, slot)));
                }
                Ok(Err(mut error)) => match error.take_message() {
                    // The peer closed while the connection was unused: it is gone from the
                    // pool now, so this ends with a connection of our own.
                    Some(request) if reused => (*unsent, now) = (Some(request), Instant::now()),
                    Some(_) => {
                        return Err(
                            UpstreamError::unsent(Fault::Terminated).because(error.into_error())
                        );
                    }
                    None => return Err(broken(&connection, mark, error.into_error())),
                },
                Err(_) => {
                    let error = if connection.meter.seal(mark) {
                        UpstreamError::unsent(Fault::ConnectTimeout)
                    } else {
                        UpstreamError::sent(Fault::ResponseTimeout)
                    };
                    let is_over = deadline.is_some_and(|deadline| Instant::now() >= deadline);
                    let which = if is_over { "total_timeout" } else { "response_timeout" };
                    let (url, after) = (pool.url(), now.elapsed());
                    return Err(error.because(format!(
                        "{url} gave no response in {after:?} (upstream.{which})"
                    )));
                }
            }
        }
    }

    /// The same as [`connection`](Self::connection), if there is still time for a request on it.
    async fn connection_until(
        &self,
        deadline: Instant,
        max_idle: Duration,
        now: &mut Instant,
    ) -> Result<Homing<B>, UpstreamError> {
        if is_active(Mutant::SendTooLate) {
            return self.connection(max_idle, now).await;
        }
        let found = timeout_at(deadline, self.connection(max_idle, now)).await;
        match found {
            Ok(found) if found.is_err() || Instant::now() < deadline => found,
            Ok(_) | Err(_) => {
                let why = "no connection within upstream.total_timeout";
                Err(UpstreamError::unsent(Fault::ConnectTimeout).because(why))
            }
        }
    }

    /// A connection that is unused `now`, or a new one to the first address that accepts it. One
    /// that was there takes no time; what it took to connect, in vain as well, has passed by then.
    async fn connection(
        &self,
        max_idle: Duration,
        now: &mut Instant,
    ) -> Result<Homing<B>, UpstreamError> {
        let first = match self.pools.len() {
            1 => 0,
            len => self.next.fetch_add(1, Ordering::Relaxed) % len,
        };
        let (before, after) = self.pools.split_at(first);
        let mut failure = None;
        for pool in after.iter().chain(before) {
            if let Some(connection) = pool.take(max_idle, *now) {
                return Ok((Arc::clone(pool), connection));
            }
            // Boxed, since most requests find a connection.
            let connected = Box::pin(pool.connect()).await;
            if connected.is_ok() || !is_active(Mutant::StopTheClock) {
                *now = Instant::now();
            }
            match connected {
                Ok(connection) => return Ok((Arc::clone(pool), connection)),
                Err(error) => {
                    tracing::warn!(%error, "an upstream cannot be reached");
                    failure = Some(error);
                }
            }
        }
        Err(failure.unwrap_or_else(|| UpstreamError::unsent(Fault::Refused)))
    }
}

/// Whether what a response says of its framing is about bytes that follow (RFC 9112, 6.3).
fn has_body(status: StatusCode, is_head: bool) -> bool {
    let has_none = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    !(is_head || has_none || status.is_informational())
}

/// Whether a request that was claimed is still its owner's to send.
fn holds<B>(request: &Request<B>) -> bool {
    let standing = request.extensions().get::<Standing>();
    standing.is_none_or(Standing::holds) || is_active(Mutant::SendAfterConnecting)
}

/// What a broken connection proves.
fn broken<B>(connection: &Connection<B>, mark: u64, error: hyper::Error) -> UpstreamError {
    let fault = if error.is_parse() { Fault::Protocol } else { Fault::Terminated };
    if connection.meter.seal(mark) || is_active(Mutant::CallBrokenUnsent) {
        UpstreamError::unsent(fault).because(error)
    } else {
        UpstreamError::sent(fault).because(error)
    }
}
