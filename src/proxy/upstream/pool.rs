//! Connections to one upstream address, the last used first.
//!
//! What is unused for `upstream.pool_idle` is closed by the next one who looks, and by a task
//! that is there as long as there are unused connections.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http_body::Body;
use tokio::{net::TcpStream, time::Instant};

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
    /// Keeps a connection for the next exchange, unless it is still busy with the last one.
    pub(crate) fn put(self: &Arc<Self>, mut connection: Box<Connection<B>>) {
        if !connection.is_free() {
            return connection.leave(self.response_timeout);
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
        let Ok(stream) = tokio::time::timeout(self.connect_timeout, self.open()).await else {
            return Err(UpstreamError::unsent(Fault::ConnectTimeout).because(format!(
                "{} did not accept within {:?} (upstream.connect_timeout)",
                self.url, self.connect_timeout
            )));
        };
        Connection::open(stream?)
            .await
            .map(Box::new)
            .map_err(|error| UpstreamError::unsent(Fault::Terminated).because(error))
    }

    async fn open(&self) -> Result<TcpStream, UpstreamError> {
        let (host, port) = (self.url.host(), self.url.port());
        let addresses: Vec<_> = tokio::net::lookup_host((host, port))
            .await
            .map_err(|error| {
                UpstreamError::unsent(Fault::Dns)
                    .because(format!("{} does not resolve: {error}", self.url))
            })?
            .collect();
        let mut last = format!("{} resolves to no address", self.url);
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "TCP_NODELAY was refused");
                    }
                    return Ok(stream);
                }
                Err(error) => last = format!("{} ({address}): {error}", self.url),
            }
        }
        Err(UpstreamError::unsent(Fault::Refused).because(last))
    }
}
