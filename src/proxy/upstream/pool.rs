//! Connections to one upstream address, the last used first.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
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
    max_idle: Duration,
    idle: Mutex<Vec<Idle<B>>>,
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
            max_idle: settings.pool_idle,
            idle: Mutex::default(),
        }
    }

    pub(crate) fn url(&self) -> &UpstreamUrl {
        &self.url
    }

    /// How long a connection may take.
    pub(crate) const fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// The connection that was used last, if that was less than `max_idle` before `now`.
    pub(crate) fn take(&self, max_idle: Duration, now: Instant) -> Option<Box<Connection<B>>> {
        let mut idle = self.idle();
        loop {
            let newest = idle.last()?;
            let age = now.saturating_duration_since(newest.since);
            if age > self.max_idle {
                // The newest is too old, so all are.
                idle.clear();
                return None;
            }
            if newest.connection.is_closed() {
                idle.pop();
                continue;
            }
            return if age <= max_idle { idle.pop().map(|idle| idle.connection) } else { None };
        }
    }

    /// Keeps a connection for the next exchange.
    pub(crate) fn put(&self, mut connection: Box<Connection<B>>) {
        if connection.is_closed() || !connection.is_kept() {
            return;
        }
        let now = Instant::now();
        let mut idle = self.idle();
        let expired = idle
            .iter()
            .take_while(|idle| now.saturating_duration_since(idle.since) > self.max_idle)
            .count();
        idle.drain(..expired);
        if idle.len() < MAX_IDLE {
            connection.reused = true;
            idle.push(Idle { connection, since: now });
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle<B>>> {
        // A panic between two operations on the list leaves a list.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
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
