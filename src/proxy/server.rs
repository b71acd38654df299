//! Listening, serving, draining.

use std::{
    future::{Future, pending},
    io,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    connection::Client,
    drain::Drain,
    headers::Peer,
    link::Limits,
    observe::{GateMetrics, Metrics},
    pipeline::Pipeline,
    release::release,
    route::Routes,
    start,
    tunnel::Tunnels,
    watch::watch,
    workers::{self, Arrival, Workers},
};
use crate::{
    Gate,
    admin::{self, Readiness},
    closing::Closing,
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
    tunnels: Tunnels,
    closing: Closing,
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
        let (connections, tunnels) = (TaskTracker::new(), Tunnels::default());
        let closing = Closing::default();
        let services = (0..workers::count(config.server.threads)).map(|_| {
            let pipeline = Arc::new(Pipeline {
                routes: metrics.collect(|| Routes::new(&config.routes, &gate)),
                trusted: config.server.trusted_proxies.clone(),
                body_timeout: config.server.body_timeout,
            });
            let Settings { head_timeout, idle_timeout, http2, .. } = config.server;
            let (limits, closing) = (Limits { head_timeout, idle_timeout }, closing.clone());
            move |stream, peer: SocketAddr| {
                let peer = Arc::new(Peer::new(peer.ip(), &pipeline.trusted));
                let (pipeline, closing) = (Arc::clone(&pipeline), closing.clone());
                Client { peer, limits, http2, pipeline, closing }.serve(stream)
            }
        });
        let workers = Workers::start(services, &connections, &tunnels).map_err(|error| {
            StartError::new(format!("server.threads: cannot start a thread: {error}"))
        })?;
        let readiness = Readiness::new(gate.clone(), metrics.page(), gauges);
        let admin = admin::Server::bind(&config.admin, readiness).await?;
        Ok(Self {
            settings: config.server,
            gate,
            workers,
            connections,
            tunnels,
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
        self.run_until(shutdown, pending()).await
    }

    /// Does what [`run`](Self::run) does, but `cut` ends the drain at once, as if the time
    /// for it had passed.
    pub async fn run_until(
        self,
        shutdown: impl Future<Output = ()>,
        cut: impl Future<Output = ()>,
    ) -> usize {
        let Self {
            settings, gate, workers, connections, tunnels, closing, listener, admin, ..
        } = self;
        let stop = CancellationToken::new();
        // Who drops this future ends what runs beside it, too.
        let _stopping = stop.clone().drop_guard();
        let admin = tokio::spawn(admin.run(stop.clone()));
        tokio::spawn(watch(gate.clone(), stop.clone()));
        tokio::spawn(release(stop.clone()));
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
        let drain = Drain { gate, connections, tunnels, closing, limit: settings.drain };
        let given_up = drain.run(cut).await;
        workers.end().await;
        stop.cancel();
        let _ = admin.await;
        given_up
    }
}

/// A process out of file descriptors must not spin.
pub(crate) async fn rest_after(error: &io::Error) {
    let of_the_peer = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    );
    if !of_the_peer {
        // EMFILE and ENFILE, the same number on every Unix.
        let advice = match error.raw_os_error() {
            Some(23 | 24) => "; raise the limit of open files or lower server.max_connections",
            Some(_) | None => "",
        };
        tracing::error!(%error, "no connection can be accepted{advice}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
