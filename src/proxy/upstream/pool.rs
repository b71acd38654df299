//! Connections to one upstream address, the last used first.
//!
//! What is unused for `upstream.pool_idle` is closed by the next one who looks, and by a task
//! that is there as long as there are unused connections.

use std::{
    io, mem,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http_body::Body;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};

use super::connection::Connection;
use crate::{
    BoxError, UpstreamError,
    config::{Upstream as Settings, UpstreamUrl},
    engine::problem::Fault,
};

/// How many unused connections are kept to one address.
const MAX_IDLE: usize = 512;

/// One address and its unused connections.
#[derive(Debug)]
pub(crate) struct Pool<B> {
    url: UpstreamUrl,
    connect_timeout: Duration,
    response_timeout: Duration,
    max_idle: Duration,
    unused: Mutex<Unused<B>>,
}

#[derive(Debug)]
struct Unused<B> {
    /// The oldest first.
    idle: Vec<Idle<B>>,
    /// A task closes what gets too old.
    is_swept: bool,
}

#[derive(Debug)]
struct Idle<B> {
    /// Boxed, since it goes from hand to hand with each exchange.
    connection: Box<Connection<B>>,
    since: Instant,
}

impl<B> Pool<B> {
    pub(crate) fn new(url: UpstreamUrl, settings: &Settings) -> Self {
        Self {
            url,
            connect_timeout: settings.connect_timeout,
            response_timeout: settings.response_timeout,
            max_idle: settings.pool_idle,
            unused: Mutex::new(Unused { idle: Vec::new(), is_swept: false }),
        }
    }

    pub(crate) fn url(&self) -> &UpstreamUrl {
        &self.url
    }

    /// The connection that was used last, if that was less than `max_idle` before `now`.
    pub(crate) fn take(&self, max_idle: Duration, now: Instant) -> Option<Box<Connection<B>>> {
        let idle = &mut self.unused().idle;
        loop {
            let newest = idle.last()?;
            let age = now.saturating_duration_since(newest.since);
            if age > self.max_idle {
                // The newest is too old, so all are.
                idle.clear();
                return None;
            }
            if !newest.connection.is_free() {
                idle.pop();
                continue;
            }
            return if age <= max_idle { idle.pop().map(|idle| idle.connection) } else { None };
        }
    }

    /// Closes what is too old `now`.
    fn expire(&self, idle: &mut Vec<Idle<B>>, now: Instant) {
        let is_old = |idle: &&Idle<B>| now.saturating_duration_since(idle.since) >= self.max_idle;
        let old = idle.iter().take_while(is_old).count();
        idle.drain(..old);
    }

    fn unused(&self) -> MutexGuard<'_, Unused<B>> {
        // A panic between two operations on the list leaves a list.
        self.unused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B: Send + 'static> Pool<B> {
    /// Keeps a connection for the next exchange, unless it is still busy with the last one, or
    /// that was its last.
    pub(crate) fn put(self: &Arc<Self>, mut connection: Box<Connection<B>>) {
        if !connection.is_free() {
            return connection.leave(self.response_timeout);
        }
        if connection.is_last() {
            return;
        }
        let now = Instant::now();
        let Unused { idle, is_swept } = &mut *self.unused();
        self.expire(idle, now);
        if idle.len() < MAX_IDLE {
            connection.reused = true;
            idle.push(Idle { connection, since: now });
            if !mem::replace(is_swept, true) {
                tokio::spawn(Arc::clone(self).sweep());
            }
        }
    }

    /// Closes what gets too old, until nothing is left.
    async fn sweep(self: Arc<Self>) {
        while let Some(next) = self.next_to_expire() {
            tokio::time::sleep_until(next).await;
        }
    }

    /// When the oldest connection gets too old. Without one nobody waits for the next.
    fn next_to_expire(&self) -> Option<Instant> {
        let Unused { idle, is_swept } = &mut *self.unused();
        self.expire(idle, Instant::now());
        let next = idle.first().and_then(|oldest| oldest.since.checked_add(self.max_idle));
        *is_swept = next.is_some();
        next
    }
}

impl<B> Pool<B>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    /// Opens a connection. Every error is a proof that nothing was sent.
    pub(crate) async fn connect(&self) -> Result<Box<Connection<B>>, UpstreamError> {
        let until = Instant::now() + self.connect_timeout;
        let late = || {
            UpstreamError::unsent(Fault::ConnectTimeout).because(format!(
                "{} did not accept within {:?} (upstream.connect_timeout)",
                self.url, self.connect_timeout
            ))
        };
        let addresses = timeout_at(until, self.addresses()).await.map_err(|_| late())??;
        let stream = match first_to_accept(&addresses, until).await {
            Ok(stream) => stream,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(late()),
            Err(error) => {
                let why = format!("{} does not accept: {error}", self.url);
                return Err(UpstreamError::unsent(Fault::Refused).because(why));
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY was refused");
        }
        Connection::open(stream)
            .await
            .map(Box::new)
            .map_err(|error| UpstreamError::unsent(Fault::Terminated).because(error))
    }

    async fn addresses(&self) -> Result<Vec<SocketAddr>, UpstreamError> {
        let unresolved = |why: &dyn std::fmt::Display| {
            UpstreamError::unsent(Fault::Dns).because(format!("{} {why}", self.url))
        };
        let found = tokio::net::lookup_host((self.url.host(), self.url.port()));
        let found =
            found.await.map_err(|error| unresolved(&format!("does not resolve: {error}")))?;
        let addresses: Vec<_> = found.collect();
        if addresses.is_empty() {
            Err(unresolved(&"resolves to no address"))
        } else {
            Ok(addresses)
        }
    }
}

/// Tries one address after the other. Each has its part of the time that is left, so that one
/// that is silent hides none of the others.
async fn first_to_accept(addresses: &[SocketAddr], until: Instant) -> io::Result<TcpStream> {
    let mut failure = io::Error::from(io::ErrorKind::TimedOut);
    for (address, others) in addresses.iter().zip((1..=addresses.len()).rev()) {
        let left = until.saturating_duration_since(Instant::now());
        let part = left / u32::try_from(others).unwrap_or(u32::MAX);
        match timeout(part, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => failure = io::Error::new(error.kind(), format!("{address}: {error}")),
            Err(_) => failure = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(failure)
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    /// Somebody whose queue is full, so that what comes is not answered, and what fills it.
    async fn silent() -> (SocketAddr, TcpListener, Vec<TcpStream>) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut queued = Vec::new();
        let moment = Duration::from_millis(100);
        while let Ok(stream) = timeout(moment, TcpStream::connect(address)).await {
            queued.push(stream.unwrap());
        }
        (address, listener, queued)
    }

    #[tokio::test]
    async fn a_silent_address_hides_no_other() {
        let (silent, _listener, _queued) = silent().await;
        let accepting = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let until = Instant::now() + Duration::from_secs(4);
        let addresses = [silent, accepting.local_addr().unwrap()];
        let stream = first_to_accept(&addresses, until).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), addresses[1]);
        let until = Instant::now() + Duration::from_millis(50);
        let error = first_to_accept(&addresses[..1], until).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
