//! A service that cannot deduplicate, its ledger, and the way to it.
//!
//! A request that was sent arrives or not whatever becomes of the process that
//! sent it, so each one travels in a task of its own.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body::{Body, Frame};
use http_body_util::Full;
use oncegate::{RequestBody, UpstreamError, engine::problem::Fault as Trouble};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep},
};
use tower::Service;

use super::{
    checker::Rule,
    faults::Fault,
    node::Node,
    scenario::Shape,
    world::{World, name},
};

/// The header that tells which request of which client was dispatched.
pub const ATTEMPT: &str = "x-attempt";

/// The inner service of one process's layer.
#[derive(Clone, Debug)]
pub struct Upstream {
    world: Arc<World>,
    node: Arc<Node>,
}

/// What happens to one dispatch.
struct Journey {
    there: Duration,
    back: Duration,
    deed: Deed,
}

enum Deed {
    Refused(Trouble),
    ResetBefore,
    /// The connection breaks, and the request arrives this much later all the same.
    ResetOnTheWay(Duration),
    ResetAfter,
    /// No response in time; executed this long after the sending, if at all.
    TimedOut(Option<Duration>),
    Truncated,
    Answered {
        status: StatusCode,
        executes: bool,
    },
}

impl Upstream {
    pub fn new(world: &Arc<World>, node: &Arc<Node>) -> Self {
        Self { world: Arc::clone(world), node: Arc::clone(node) }
    }

    async fn dispatch(self, attempt: usize) -> Result<Response<Answer>, UpstreamError> {
        let Self { world, node } = self;
        let mut call = Call::new(&world, &node);
        // A pause or the end may come right before the first byte.
        node.proceed().await;
        let Journey { there, back, deed } = draw(&world, attempt);
        let error = match deed {
            Deed::Refused(trouble) => {
                wait(there).await;
                Some(UpstreamError::unsent(trouble))
            }
            Deed::ResetBefore => {
                wait(there).await;
                Some(UpstreamError::sent(Trouble::Terminated))
            }
            Deed::ResetOnTheWay(after) => {
                travel(&world, attempt, Some(after));
                wait(there).await;
                Some(UpstreamError::sent(Trouble::Terminated))
            }
            Deed::ResetAfter => {
                travel(&world, attempt, Some(there));
                wait(there + back).await;
                Some(UpstreamError::sent(Trouble::Terminated))
            }
            Deed::TimedOut(after) => {
                travel(&world, attempt, after);
                wait(there).await;
                Some(UpstreamError::sent(Trouble::ResponseTimeout))
            }
            Deed::Truncated | Deed::Answered { .. } => None,
        };
        if let Some(error) = error {
            node.proceed().await;
            world.note(|| format!("dispatch of request {attempt}: {error}"));
            call.finished = true;
            return Err(error);
        }
        let (status, executes, whole) = match deed {
            Deed::Answered { status, executes } => (status, executes, true),
            _ => (StatusCode::CREATED, true, false),
        };
        let (reply, head) = oneshot::channel();
        let (frames, body) = mpsc::channel(1);
        tokio::spawn(async move {
            wait(there).await;
            let content = if executes {
                world.execute(attempt, status)
            } else {
                Bytes::from_static(b"not executed")
            };
            wait(back).await;
            node.proceed().await;
            world.note(|| format!("response {status} to request {attempt}, whole: {whole}"));
            let _ = reply.send(());
            let middle = content.len() / 2;
            let _ = frames.send(Ok(content.slice(..middle))).await;
            wait(back).await;
            node.proceed().await;
            let end = match whole {
                true => Ok(content.slice(middle..)),
                false => Err(UpstreamError::sent(Trouble::Incomplete)),
            };
            let _ = frames.send(end).await;
        });
        let _ = head.await;
        call.since = Instant::now();
        // A response that is only handed on ends when its client leaves. So does one
        // that is too long, once its status is recorded.
        let shape = call.world.scenario.shape;
        call.finished = !matches!(status.as_u16(), 201 | 500) || shape == Shape::Large;
        let mut response = Response::new(Answer { frames: body, call });
        *response.status_mut() = status;
        if shape == Shape::Live {
            let live = HeaderValue::from_static("text/event-stream");
            response.headers_mut().insert(CONTENT_TYPE, live);
        }
        Ok(response)
    }

    async fn look_up(self, key: String) -> Result<Response<Answer>, UpstreamError> {
        let Self { world, node } = self;
        node.proceed().await;
        let (delay, fails) = {
            let mut state = world.state();
            let delay = state.rng.duration(Duration::ZERO, world.scenario.lease / 2);
            let faults = if state.healed { 0 } else { world.scenario.backend_faults / 4 };
            (delay, state.rng.chance(faults))
        };
        wait(delay).await;
        let found = {
            let state = world.state();
            state.ledger.iter().position(|row| name(row.key) == key)
        };
        wait(delay).await;
        node.proceed().await;
        world.note(|| format!("lookup of {key}: {found:?}, fails: {fails}"));
        if fails {
            world.count(Fault::LookupFailed);
            return Err(UpstreamError::sent(Trouble::Terminated));
        }
        let (frames, body) = mpsc::channel(1);
        let mut call = Call::new(&world, &node);
        call.finished = true;
        let mut response = Response::new(Answer { frames: body, call });
        match found {
            Some(row) => drop(frames.try_send(Ok(found_as(row)))),
            None => *response.status_mut() = StatusCode::NOT_FOUND,
        }
        Ok(response)
    }
}

/// What a lookup says of a row of the ledger.
pub fn found_as(row: usize) -> Bytes {
    Bytes::from(format!("row {row} was found"))
}

impl Service<Request<RequestBody<Full<Bytes>>>> for Upstream {
    type Response = Response<Answer>;
    type Error = UpstreamError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answer>, UpstreamError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody<Full<Bytes>>>) -> Self::Future {
        if let Some(key) = request.uri().path().strip_prefix("/executions/") {
            return Box::pin(self.clone().look_up(key.to_owned()));
        }
        let attempt = request.headers()[ATTEMPT].to_str().ok().and_then(|text| text.parse().ok());
        Box::pin(self.clone().dispatch(attempt.expect("clients number their requests")))
    }
}

fn draw(world: &World, attempt: usize) -> Journey {
    let scenario = &world.scenario;
    let mut state = world.state();
    let key = state.attempts[attempt].key;
    state.dispatched[key] = true;
    state.doubted[key] |= scenario.response_timeout.is_some();
    let rng = &mut state.rng;
    let quick = Duration::from_millis(rng.pick(&[0, 1, 5, 50, 300]));
    let mut journey = Journey {
        there: quick,
        back: quick,
        deed: Deed::Answered { status: StatusCode::CREATED, executes: true },
    };
    let faults = scenario.backend_faults;
    if state.healed || !state.rng.chance(faults) {
        return journey;
    }
    let rng = &mut state.rng;
    let long = rng.duration(Duration::ZERO, scenario.longest_flight());
    let (deed, fault) = match rng.count(0, 8) {
        0 => (
            Deed::Refused(rng.pick(&[Trouble::Refused, Trouble::ConnectTimeout])),
            Fault::BackendRefused,
        ),
        1 => (Deed::ResetBefore, Fault::BackendResetBefore),
        2 => (Deed::ResetOnTheWay(long), Fault::BackendResetOnTheWay),
        3 => (Deed::ResetAfter, Fault::BackendResetAfter),
        4 => {
            journey.there = rng.duration(Duration::ZERO, scenario.longest_flight());
            (Deed::TimedOut(rng.chance(700).then_some(long)), Fault::BackendTimeout)
        }
        5 => (Deed::Truncated, Fault::BackendTruncated),
        6 => {
            journey.there = scenario.lease + long / 2;
            journey.back = rng.duration(Duration::ZERO, scenario.lease);
            (journey.deed, Fault::BackendSlow)
        }
        _ => {
            let status = rng.pick(&[401, 429, 500, 502, 503]);
            let executes = match status {
                401 | 429 => false,
                500 => true,
                _ => rng.chance(500),
            };
            let status = StatusCode::from_u16(status).expect("they are statuses");
            (Deed::Answered { status, executes }, Fault::BackendStatus)
        }
    };
    state.doubted[key] |= match deed {
        Deed::Answered { status, .. } => status.is_server_error() && status != 500,
        Deed::Refused(_) => false,
        Deed::ResetBefore
        | Deed::ResetOnTheWay(_)
        | Deed::ResetAfter
        | Deed::TimedOut(_)
        | Deed::Truncated => true,
    };
    journey.deed = deed;
    drop(state);
    world.count(fault);
    journey
}

/// A request whose sender learns nothing.
fn travel(world: &Arc<World>, attempt: usize, after: Option<Duration>) {
    let Some(after) = after else { return };
    let world = Arc::clone(world);
    tokio::spawn(async move {
        wait(after).await;
        world.execute(attempt, StatusCode::CREATED);
    });
}

async fn wait(duration: Duration) {
    if !duration.is_zero() {
        sleep(duration).await;
    }
}

/// A response body on its way.
pub struct Answer {
    frames: mpsc::Receiver<Result<Bytes, UpstreamError>>,
    call: Call,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = UpstreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UpstreamError>>> {
        let frame = self.frames.poll_recv(cx);
        match &frame {
            Poll::Ready(None | Some(Err(_))) => self.call.finished = true,
            Poll::Ready(Some(Ok(_))) if self.call.world.scenario.shape == Shape::Live => {
                self.call.since = Instant::now();
            }
            _ => {}
        }
        frame.map(|frame| frame.map(|frame| frame.map(Frame::data)))
    }
}

/// Notices who hangs up on a backend that still works.
struct Call {
    world: Arc<World>,
    node: Arc<Node>,
    /// When the part of the response that is waited for began: its head, then its body, or a piece
    /// of one that is live.
    since: Instant,
    finished: bool,
}

impl Call {
    fn new(world: &Arc<World>, node: &Arc<Node>) -> Self {
        let (world, node) = (Arc::clone(world), Arc::clone(node));
        Self { world, node, since: Instant::now(), finished: false }
    }

    /// Whether the process has a right to hang up: it is gone or told to give up, or
    /// a part of the response is overdue five times over.
    fn may_end(&self) -> bool {
        let overdue = self
            .world
            .scenario
            .response_timeout
            .is_some_and(|limit| self.since.elapsed() >= limit * 5);
        self.finished || overdue || self.node.is_dead() || self.node.gives_up()
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.may_end() && !self.world.state().over {
            let node = self.node.id;
            self.world.violated(Rule::Finished, format!("gate {node} hung up on the backend"));
        }
    }
}
