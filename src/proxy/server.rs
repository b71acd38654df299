//! Listening, serving, draining.

use std::{
    convert::Infallible, future::Future, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration,
};

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    http2,
    inbound::Paced,
    observe::{GateMetrics, Metrics},
    pipeline::Pipeline,
    preface::{self, Rewound, Spoken},
    route::Routes,
    start,
    watch::watch,
};
use crate::{
    Gate,
    admin::{self, Readiness},
    config::{Config, Server as Settings},
};

pub use super::start::StartError;

/// A gate that listens. [`run`](Server::run) serves.
///
/// ```no_run
/// use oncegate::{config::Config, proxy::Server};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let server = Server::bind(Config::default()).await?;
/// println!("listening on {}", server.address());
/// server.run(async { let _ = tokio::signal::ctrl_c().await; }).await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Server {
    settings: Settings,
    gate: Gate,
    pipeline: Arc<Pipeline>,
    listener: TcpListener,
    address: SocketAddr,
    admin: admin::Server,
}

impl Server {
    /// Opens the store and both listeners.
    ///
    /// # Errors
    /// [`StartError`], one line that names the setting.
    pub async fn bind(config: Config) -> Result<Self, StartError> {
        let metrics = Metrics::new();
        let store = start::store(&config.store, &metrics).await?;
        let gate = Gate::builder_on(store)
            .secret(config.store.hash_secret.clone())
            .cache(config.store.cache)
            .max_buffered(config.max_buffered)
            .build();
        let (routes, gauges) =
            metrics.collect(|| (Routes::new(&config.routes, &gate), GateMetrics::new()));
        let pipeline = Arc::new(Pipeline {
            routes,
            trusted: config.server.trusted_proxies.clone(),
            body_timeout: config.server.body_timeout,
        });
        let listener = start::listen("server.listen", config.server.listen).await?;
        let address = listener
            .local_addr()
            .map_err(|error| StartError::listen("server.listen", config.server.listen, &error))?;
        let readiness = Readiness::new(gate.clone(), metrics.handle(), gauges);
        let admin = admin::Server::bind(&config.admin, readiness).await?;
        Ok(Self { settings: config.server, gate, pipeline, listener, address, admin })
    }

    /// Where clients connect.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where operators connect.
    #[must_use]
    pub const fn admin_address(&self) -> SocketAddr {
        self.admin.address()
    }

    /// The gate.
    #[must_use]
    pub const fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Serves until `shutdown`, then drains: no new claims, running exchanges are
    /// finished and recorded, and what is left after `server.drain` is recorded
    /// as unknown. Returns how many that were.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> usize {
        let Self { settings, gate, pipeline, listener, admin, .. } = self;
        let stop = CancellationToken::new();
        let admin = tokio::spawn(admin.run(stop.clone()));
        tokio::spawn(watch(gate.clone(), stop.clone()));
        let connections = TaskTracker::new();
        let closing = CancellationToken::new();
        let slots = Arc::new(Semaphore::new(settings.max_connections));
        let mut shutdown = pin!(shutdown);
        loop {
            let accepted = async {
                // The semaphore is never closed, so a permit always comes.
                let slot = Arc::clone(&slots).acquire_owned().await;
                (listener.accept().await, slot)
            };
            let (accepted, slot) = tokio::select! {
                biased;
                () = &mut shutdown => break,
                accepted = accepted => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let connection =
                        serve(stream, peer, &settings, Arc::clone(&pipeline), closing.clone());
                    connections.spawn(async move {
                        connection.await;
                        drop(slot);
                    });
                }
                Err(error) => rest_after(&error).await,
            }
        }
        drop(listener);
        tracing::info!(pending = gate.pending(), "shutting down: finishing what runs");
        gate.close();
        closing.cancel();
        connections.close();
        let abandoned = gate.drain(settings.drain).await;
        // Answers of finished exchanges still have to reach their clients.
        let grace = Duration::from_secs(2).min(settings.drain);
        if tokio::time::timeout(grace, connections.wait()).await.is_err() {
            tracing::warn!(
                left = connections.len(),
                "connections were cut at the end of the shutdown"
            );
        }
        stop.cancel();
        let _ = admin.await;
        abandoned
    }
}

/// Serves one connection until it ends, or until it is idle after `closing`.
fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    settings: &Settings,
    pipeline: Arc<Pipeline>,
    closing: CancellationToken,
) -> impl Future<Output = ()> + use<> {
    let limits =
        http2::Limits { head_timeout: settings.head_timeout, idle_timeout: settings.idle_timeout };
    let decide = settings.http2;
    async move {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY was refused");
        }
        if !decide {
            return http1(Rewound::untouched(stream), peer, limits, pipeline, closing).await;
        }
        let decided = tokio::select! {
            // What has arrived before a shutdown is served.
            biased;
            decided = preface::decide(stream, limits.idle_timeout, limits.head_timeout) => decided,
            () = closing.cancelled() => return,
        };
        match decided {
            Ok((Spoken::Http1, io)) => http1(io, peer, limits, pipeline, closing).await,
            // Boxed, so that the many connections of HTTP/1 do not hold room for it.
            Ok((Spoken::Http2, io)) => {
                Box::pin(http2::serve(io, peer, limits, pipeline, closing)).await;
            }
            Err(error) => tracing::debug!(%error, "a client connection ended before it began"),
        }
    }
}

/// Serves a connection that speaks HTTP/1.
async fn http1(
    io: Rewound<TcpStream>,
    peer: SocketAddr,
    limits: http2::Limits,
    pipeline: Arc<Pipeline>,
    closing: CancellationToken,
) {
    let (io, pace) = Paced::new(io, limits.head_timeout);
    let service = service_fn(move |request| {
        let exchange = Arc::clone(&pipeline).handle(request, peer, pace.clone());
        async move { Ok::<_, Infallible>(exchange.await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle_timeout)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let served = tokio::select! {
        served = &mut connection => served,
        () = closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a client connection ended");
    }
}

/// A process out of file descriptors must not spin.
async fn rest_after(error: &io::Error) {
    let of_the_peer = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    );
    if !of_the_peer {
        tracing::error!(%error, "no connection can be accepted; raise the limit of open files or lower server.max_connections");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
