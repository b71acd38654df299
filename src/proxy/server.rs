//! Listening, serving, draining.

use std::{
    convert::Infallible, future::Future, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration,
};

use http::{HeaderValue, header::CONNECTION};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    headers::Peer,
    http2,
    inbound::Paced,
    link::Limits,
    observe::{GateMetrics, Metrics},
    pipeline::Pipeline,
    preface::{self, Rewound, Spoken},
    route::Routes,
    start,
    watch::watch,
    workers::{self, Arrival, Workers},
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
    workers: Workers,
    connections: TaskTracker,
    closing: CancellationToken,
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
        let gauges = metrics.collect(GateMetrics::new);
        let listener = start::listen("server.listen", config.server.listen).await?;
        let address = listener
            .local_addr()
            .map_err(|error| StartError::listen("server.listen", config.server.listen, &error))?;
        let (connections, closing) = (TaskTracker::new(), CancellationToken::new());
        let services = (0..workers::count()).map(|_| {
            let pipeline = Arc::new(Pipeline {
                routes: metrics.collect(|| Routes::new(&config.routes, &gate)),
                trusted: config.server.trusted_proxies.clone(),
                body_timeout: config.server.body_timeout,
            });
            let (settings, closing) = (config.server.clone(), closing.clone());
            move |stream, peer| {
                serve(stream, peer, &settings, Arc::clone(&pipeline), closing.clone())
            }
        });
        let workers = Workers::start(services, &connections)
            .map_err(|error| StartError::new(format!("cannot start a thread: {error}")))?;
        let readiness = Readiness::new(gate.clone(), metrics.handle(), gauges);
        let admin = admin::Server::bind(&config.admin, readiness).await?;
        Ok(Self {
            settings: config.server,
            gate,
            workers,
            connections,
            closing,
            listener,
            address,
            admin,
        })
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
        let Self { settings, gate, workers, connections, closing, listener, admin, .. } = self;
        let stop = CancellationToken::new();
        let admin = tokio::spawn(admin.run(stop.clone()));
        tokio::spawn(watch(gate.clone(), stop.clone()));
        let slots = Arc::new(Semaphore::new(settings.max_connections));
        let mut shutdown = pin!(shutdown);
        loop {
            let accepted = async {
                let slot = Arc::clone(&slots).acquire_owned().await;
                let slot = slot.expect("the semaphore is never closed, so a permit always comes");
                (listener.accept().await, slot)
            };
            let (accepted, slot) = tokio::select! {
                biased;
                () = &mut shutdown => break,
                accepted = accepted => accepted,
            };
            match accepted {
                Ok((stream, peer)) => workers.serve(Arrival { stream, peer, slot }),
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
        workers.end().await;
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
        Limits { head_timeout: settings.head_timeout, idle_timeout: settings.idle_timeout };
    let decide = settings.http2;
    let peer = Arc::new(Peer::new(peer.ip(), &pipeline.trusted));
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
    peer: Arc<Peer>,
    limits: Limits,
    pipeline: Arc<Pipeline>,
    closing: CancellationToken,
) {
    let (io, pace) = Paced::new(io, limits.idle_timeout, limits.head_timeout, closing.clone());
    let service = service_fn(move |request| {
        let (pipeline, peer) = (Arc::clone(&pipeline), Arc::clone(&peer));
        let exchange = pipeline.handle(request, peer, pace.clone());
        let closing = closing.clone();
        async move {
            let mut response = exchange.await;
            if closing.is_cancelled() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    if let Err(error) = connection.await {
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
