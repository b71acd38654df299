//! A part that listens somewhere until it is told to stop.

use std::{future::Future, net::SocketAddr, time::Duration};

use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::error::DemoError;

/// How long a part may take to finish what it is doing.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// A listener that knows its address.
#[derive(Debug)]
pub(crate) struct Listening {
    /// The listener.
    pub(crate) listener: TcpListener,
    /// Its address, with the port that was given to it.
    pub(crate) addr: SocketAddr,
}

/// A running server and the way to end it; dropping it ends it at once.
#[derive(Debug)]
pub(crate) struct Part {
    /// Where it listens.
    pub(crate) addr: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Part {
    /// Runs what `serve` makes; its future ends soon after the token is cancelled.
    pub(crate) fn spawn<F>(addr: SocketAddr, serve: impl FnOnce(CancellationToken) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(stop.clone()));
        Self { addr, stop, task }
    }

    /// Lets it finish what it is doing, for [`GRACE`] at most.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        if tokio::time::timeout(GRACE, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Listens on `addr`, which the user chose with `flag`.
///
/// # Errors
/// [`DemoError::Listen`].
pub(crate) async fn listen(addr: SocketAddr, flag: &'static str) -> Result<Listening, DemoError> {
    let failed = |source| DemoError::Listen { addr, flag, source };
    let listener = TcpListener::bind(addr).await.map_err(failed)?;
    let addr = listener.local_addr().map_err(failed)?;
    Ok(Listening { listener, addr })
}

/// Listens on a free port of the loopback interface.
///
/// # Errors
/// [`DemoError::Listen`].
pub(crate) async fn listen_anywhere() -> Result<Listening, DemoError> {
    listen(SocketAddr::from(([127, 0, 0, 1], 0)), "a free port of the loopback interface").await
}

/// Resolves when the process is told to stop, by Ctrl-C or SIGTERM.
pub(crate) async fn told_to_stop() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            return;
        }
    }
    // A handler that cannot be installed must not end the process at once.
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
