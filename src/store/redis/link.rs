//! The connection, and what happens when it breaks.
//!
//! 1. One connection for each runtime carries all its operations, pipelined: an
//!    operation never wakes another thread.
//! 2. It is made by the first operation that needs it. While one operation
//!    connects the others wait for its outcome; after a failure everybody is
//!    refused at once for [`PAUSE`], so that a server that comes back is not
//!    trampled.
//! 3. An operation whose connection broke, or which got no reply in time, is
//!    repeated once, on a new connection. The store's operations are made for
//!    that: under the same fence they may be done twice. `redis` itself never
//!    repeats a command.
//! 4. Whatever happens, an operation ends within twice the reply time.
//! 5. The guard looks at every connection before it is used.

use std::{
    fmt,
    future::poll_fn,
    io,
    pin::pin,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, ErrorKind, RedisError, RedisResult,
    ServerErrorKind, Value, aio::MultiplexedConnection, io::tcp,
};
use tokio::{
    runtime,
    time::{Instant, timeout},
};

use super::{RedisOptions, guard::Guard, request::Request, verify};
use crate::{
    mutants::{Mutant, is_active},
    store::{StoreError, StoreErrorKind},
    timer::Timer,
};

/// How long a failed attempt to connect speaks for the next ones.
const PAUSE: Duration = Duration::from_millis(100);

/// How many commands may queue before their callers wait.
const QUEUE: usize = 1024;

/// The way to one server.
pub(super) struct Link {
    client: Client,
    config: AsyncConnectionConfig,
    guard: Guard,
    peer: String,
    reply_within: Duration,
    /// The connections by their runtimes, which are few.
    current: Mutex<Vec<(runtime::Id, Current)>>,
    /// Counts connections, so that a failure takes away only the one it happened on.
    number: AtomicU64,
    /// Held while connecting; the failure of the last attempt, if it was one.
    connecting: tokio::sync::Mutex<Option<Failure>>,
}

struct Current {
    number: u64,
    connection: MultiplexedConnection,
    /// Those of earlier operations, since hardly any has rung.
    timers: Vec<Timer>,
}

/// What one operation needs of a connection.
struct Way {
    number: u64,
    connection: MultiplexedConnection,
    timer: Timer,
}

struct Failure {
    at: Instant,
    error: RedisError,
}

impl Link {
    pub(super) fn new(info: ConnectionInfo, options: &RedisOptions) -> RedisResult<Self> {
        let peer = info.addr().to_string();
        let info = info.set_tcp_settings(tcp::TcpSettings::default().set_nodelay(true));
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(options.connect_timeout))
            // Replies are waited for here, once and not by two timers.
            .set_response_timeout(None)
            .set_pipeline_buffer_size(QUEUE);
        Ok(Self {
            client: Client::open(info)?,
            config,
            guard: Guard::new(peer.clone(), options.clone()),
            peer,
            reply_within: options.reply_timeout,
            current: Mutex::default(),
            number: AtomicU64::new(0),
            connecting: tokio::sync::Mutex::default(),
        })
    }

    /// Host and port.
    pub(super) fn peer(&self) -> &str {
        &self.peer
    }

    pub(super) const fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Looks at the server again.
    pub(super) async fn look(&self, operation: &str) -> Result<(), StoreError> {
        self.run(operation, Request::Look).await.map(drop)
    }

    /// Sends a request that may be repeated, and reads its reply.
    pub(super) async fn run(
        &self,
        operation: &str,
        request: Request<'_>,
    ) -> Result<Value, StoreError> {
        self.send(request).await.map_err(|(error, _)| self.error(operation, error))
    }

    /// The same, for a request before which nothing was sent on its behalf. An error says so
    /// where the server was not reached.
    pub(super) async fn run_first(
        &self,
        operation: &str,
        request: Request<'_>,
    ) -> Result<Value, StoreError> {
        self.send(request).await.map_err(|(error, is_sent)| {
            let error = self.error(operation, error);
            if is_sent { error } else { error.undone() }
        })
    }

    /// An error comes with whether the request may have been sent.
    async fn send(&self, request: Request<'_>) -> Result<Value, (RedisError, bool)> {
        let is_sent = AtomicBool::new(false);
        let result = match self.live() {
            Some(way) => match self.once(&request, way, &is_sent).await {
                Err(error) if error.is_io_error() && !is_active(Mutant::NoRepeat) => {
                    Box::pin(self.anew(&request, 1, &is_sent)).await
                }
                result => result,
            },
            None => Box::pin(self.anew(&request, 2, &is_sent)).await,
        };
        result.map_err(|error| (error, is_sent.into_inner()))
    }

    /// Connects where it must and sends a request, up to `times` times and as many
    /// times as long as a reply may take.
    async fn anew(
        &self,
        request: &Request<'_>,
        times: u32,
        is_sent: &AtomicBool,
    ) -> RedisResult<Value> {
        let attempts = async {
            let mut left = times;
            loop {
                left -= 1;
                let attempt = async { self.once(request, self.connection().await?, is_sent).await };
                match attempt.await {
                    Err(error)
                        if error.is_io_error() && left > 0 && !is_active(Mutant::NoRepeat) => {}
                    result => return result,
                }
            }
        };
        timeout(times * self.reply_within, attempts).await.unwrap_or_else(|_| Err(late()))
    }

    /// Sends a request on a connection, and gives up the connection when it does not work.
    async fn once(
        &self,
        request: &Request<'_>,
        way: Way,
        is_sent: &AtomicBool,
    ) -> RedisResult<Value> {
        is_sent.store(true, Ordering::Relaxed);
        let Way { number, mut connection, mut timer } = way;
        let until = Instant::now() + self.reply_within;
        let result = {
            let mut reply = pin!(request.send(&self.guard, &mut connection));
            let in_time = poll_fn(|cx| match reply.as_mut().poll(cx) {
                Poll::Ready(result) => Poll::Ready(result),
                Poll::Pending => timer.poll_until(until, cx).map(|()| Err(late())),
            });
            in_time.await
        };
        let is_spoilt = match &result {
            Err(error) => spoils_connection(error),
            Ok(_) => {
                matches!(request, Request::Look)
                    && self.guard.is_at_no_primary()
                    && !is_active(Mutant::StayWithReplica)
            }
        };
        if is_spoilt {
            self.discard(number);
        } else {
            self.keep(number, timer);
        }
        result
    }

    async fn connection(&self) -> RedisResult<Way> {
        if let Some(way) = self.live() {
            return Ok(way);
        }
        let arrived = Instant::now();
        let mut failure = self.connecting.lock().await;
        if let Some(way) = self.live() {
            return Ok(way);
        }
        if let Some(last) = &*failure
            && (last.at > arrived || last.at.elapsed() < PAUSE)
        {
            return Err(last.error.clone());
        }
        match self.connect().await {
            Ok(connection) => {
                *failure = None;
                let number = self.number.fetch_add(1, Ordering::Relaxed);
                let current =
                    Current { number, connection: connection.clone(), timers: Vec::new() };
                let here = runtime::Handle::current().id();
                let mut all = self.current();
                all.retain(|(runtime, _)| *runtime != here);
                all.push((here, current));
                Ok(Way { number, connection, timer: Timer::default() })
            }
            Err(error) => {
                tracing::warn!(peer = self.peer, %error, "cannot connect to Redis");
                *failure = Some(Failure { at: Instant::now(), error: error.clone() });
                Err(error)
            }
        }
    }

    async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        let mut connection =
            self.client.get_multiplexed_async_connection_with_config(&self.config).await?;
        let look = timeout(self.reply_within, self.guard.look(&mut connection));
        look.await.unwrap_or_else(|_| Err(late()))?;
        Ok(connection)
    }

    fn live(&self) -> Option<Way> {
        let here = runtime::Handle::current().id();
        let mut all = self.current();
        let (_, current) = all.iter_mut().find(|(runtime, _)| *runtime == here)?;
        let Current { number, connection, timers } = current;
        let timer = timers.pop().unwrap_or_default();
        Some(Way { number: *number, connection: connection.clone(), timer })
    }

    /// Keeps a timer with its connection, unless that was given up meanwhile.
    fn keep(&self, number: u64, timer: Timer) {
        let mut all = self.current();
        if let Some((_, current)) = all.iter_mut().find(|(_, current)| current.number == number)
            // Those of a storm need not outlive it.
            && current.timers.len() < QUEUE
        {
            current.timers.push(timer);
        }
    }

    fn discard(&self, number: u64) {
        let mut all = self.current();
        let before = all.len();
        all.retain(|(_, current)| current.number != number);
        if all.len() < before {
            tracing::warn!(peer = self.peer, "gave up a connection to Redis");
        }
    }

    fn current(&self) -> MutexGuard<'_, Vec<(runtime::Id, Current)>> {
        // Nothing that runs under the lock can panic half way.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn what(&self, operation: &str) -> String {
        format!("{operation} at Redis {}", self.peer)
    }

    fn error(&self, operation: &str, error: RedisError) -> StoreError {
        if error.is_timeout() {
            return StoreError::timeout(&self.what(operation), self.reply_within);
        }
        let kind = match error.kind() {
            ErrorKind::UnexpectedReturnType => StoreErrorKind::Corrupt,
            ErrorKind::AuthenticationFailed
            | ErrorKind::InvalidClientConfig
            | ErrorKind::Server(ServerErrorKind::NoPerm) => StoreErrorKind::Misconfigured,
            // The library's kinds may grow; whatever else it says, the store did not work.
            _ => StoreErrorKind::Unavailable,
        };
        StoreError::new(kind, self.what(operation)).because(error)
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// No reply in time.
fn late() -> RedisError {
    io::Error::from(io::ErrorKind::TimedOut).into()
}

/// Whether to go on with another connection. A time-out counts, because the
/// network may have swallowed the connection without a word; so does a server that
/// has become a replica, because its name may lead to the new primary. Who does not
/// write hears of that by a look, which succeeds.
fn spoils_connection(error: &RedisError) -> bool {
    error.is_io_error() || error.is_unrecoverable_error() || verify::is_read_only(error)
}
