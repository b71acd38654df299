//! One thread per core, or as many as are wanted, each with a runtime of its own.
//!
//! A connection stays on the thread that it was given to, with the routes of that
//! thread and its connections to the upstreams: on its way a request wakes no other
//! thread, and of what is shared it touches only the gate. New connections go to
//! the thread that has the fewest.

use std::{
    io,
    net::SocketAddr,
    num::NonZero,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, mpsc},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::tunnel::{Switched, Tunnels};

/// A client that was accepted, and its place among those that are served at once.
pub(super) struct Arrival {
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) slot: OwnedSemaphorePermit,
}

/// The threads. They end when this is dropped.
#[derive(Debug)]
pub(super) struct Workers {
    workers: Vec<Worker>,
    threads: Vec<thread::JoinHandle<()>>,
    ended: CancellationToken,
}

#[derive(Debug)]
struct Worker {
    arrivals: mpsc::UnboundedSender<(std::net::TcpStream, SocketAddr, OwnedSemaphorePermit)>,
    load: Arc<AtomicUsize>,
}

/// As many as `wanted`, else as there are cores to run them.
pub(super) fn count(wanted: Option<NonZero<usize>>) -> usize {
    wanted.or_else(|| thread::available_parallelism().ok()).map_or(1, NonZero::get)
}

impl Workers {
    /// Starts one thread for each of `services`. What a service makes of a client is
    /// counted in `connections`, and what that leaves for other protocols in `tunnels`.
    ///
    /// # Errors
    /// The system's, when it has no room for another thread.
    pub(super) fn start<S, F>(
        services: impl IntoIterator<Item = S>,
        connections: &TaskTracker,
        tunnels: &Tunnels,
    ) -> io::Result<Self>
    where
        S: Fn(TcpStream, SocketAddr) -> F + Send + 'static,
        F: Future<Output = Option<Switched>> + Send + 'static,
    {
        let ended = CancellationToken::new();
        let start = |(number, service): (usize, S)| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let (arrivals, mut arriving) = mpsc::unbounded_channel();
            let worker = Worker { arrivals, load: Arc::default() };
            let (load, connections) = (Arc::clone(&worker.load), connections.clone());
            let (tunnels, ended) = (tunnels.clone(), ended.clone());
            let serve = async move {
                while let Some((stream, peer, slot)) = arriving.recv().await {
                    let place = Place(Arc::clone(&load), slot);
                    match TcpStream::from_std(stream) {
                        Ok(stream) => {
                            let connection = service(stream, peer);
                            let tunnels = tunnels.clone();
                            connections.spawn(async move {
                                if let Some(switched) = connection.await {
                                    tunnels.open(switched, place);
                                }
                            });
                        }
                        Err(error) => tracing::error!(%error, "a connection was dropped"),
                    }
                }
            };
            let name = format!("oncegate-{number}");
            let thread = thread::Builder::new().name(name).spawn(move || {
                runtime.block_on(ended.run_until_cancelled(serve));
                // What is blocked in a system call must not hold up the end.
                runtime.shutdown_background();
            })?;
            Ok((worker, thread))
        };
        let started: io::Result<Vec<_>> = services.into_iter().enumerate().map(start).collect();
        let (workers, threads) = started?.into_iter().unzip();
        Ok(Self { workers, threads, ended })
    }

    /// Ends the threads, with everything that still runs there, and waits for them.
    pub(super) async fn end(mut self) {
        self.ended.cancel();
        let threads = std::mem::take(&mut self.threads);
        let ended = tokio::task::spawn_blocking(|| {
            threads.into_iter().for_each(|thread| {
                if thread.join().is_err() {
                    tracing::error!("a thread ended in a panic");
                }
            })
        });
        let _ = ended.await;
    }

    /// Gives a client to the thread that has the fewest.
    pub(super) fn serve(&self, arrival: Arrival) {
        let Arrival { stream, peer, slot } = arrival;
        let load = |worker: &&Worker| worker.load.load(Ordering::Relaxed);
        let Some(worker) = self.workers.iter().min_by_key(load) else { return };
        match stream.into_std() {
            Ok(stream) => {
                worker.load.fetch_add(1, Ordering::Relaxed);
                // The receiver lives as long as its thread, which ends with `self`.
                let _ = worker.arrivals.send((stream, peer, slot));
            }
            Err(error) => tracing::error!(%error, "a connection was dropped"),
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.ended.cancel();
    }
}

/// Counts a connection of a thread for as long as it lives.
struct Place(Arc<AtomicUsize>, #[expect(dead_code, reason = "held")] OwnedSemaphorePermit);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
