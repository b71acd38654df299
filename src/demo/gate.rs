//! How the demo starts a gate: the one place that knows.

use std::{future::Future, net::SocketAddr, path::PathBuf, pin::Pin};

use super::{error::DemoError, part::Part};
use crate::{
    BoxError,
    config::{Config, Sources},
    proxy::Server,
};

/// What a gate of the demo is told; everything else is the default.
#[derive(Clone, Debug)]
pub(crate) struct GateOptions {
    /// Where it forwards to: `http://host:port`.
    pub(crate) upstream: String,
    /// What a retry of an unknown outcome gets.
    pub(crate) on_unknown: OnUnknown,
    /// A folder of its own for its store, which it may have to make.
    pub(crate) data: PathBuf,
}

/// The policies of `on_unknown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnUnknown {
    /// Held.
    Hold,
    /// Dispatched again.
    Retry,
    /// Learnt from the service, which finds payments by their reference.
    Reconcile,
}

impl OnUnknown {
    /// The settings. A connection of the demo breaks at once or never, so what was on
    /// its way has arrived long before the quiescence has passed.
    const fn settings(self) -> &'static str {
        match self {
            Self::Hold => "idempotency.on_unknown = 'hold'",
            Self::Retry => "idempotency.on_unknown = 'retry'",
            Self::Reconcile => {
                "[idempotency]\n\
                 on_unknown = 'reconcile'\n\
                 reconcile.request = 'GET /payments?reference={json:/reference}'\n\
                 reconcile.executed = { status = [200], json = '/0/id' }\n\
                 reconcile.not_executed = { status = [404] }\n\
                 reconcile.quiescence = '250ms'\n"
            }
        }
    }
}

/// A gate that listens on a free port of the loopback interface.
#[derive(Debug)]
pub(crate) struct RunningGate {
    /// Where it listens.
    pub(crate) addr: SocketAddr,
    part: Part,
}

/// What [`StartGate`] returns.
pub(crate) type Starting = Pin<Box<dyn Future<Output = Result<RunningGate, DemoError>> + Send>>;

/// Starts a gate; the tests of the story put others in.
pub(crate) type StartGate = fn(GateOptions) -> Starting;

impl RunningGate {
    /// A gate whose server is `part`.
    pub(crate) fn new(part: Part) -> Self {
        Self { addr: part.addr, part }
    }

    /// Lets it finish what it is doing.
    pub(crate) async fn stop(self) {
        self.part.stop().await;
    }
}

/// [`start`] as a [`StartGate`].
pub(crate) fn starter(options: GateOptions) -> Starting {
    Box::pin(start(options))
}

/// Starts a gate: the real one, on an embedded store of its own.
///
/// # Errors
/// [`DemoError::Gate`].
pub(crate) async fn start(options: GateOptions) -> Result<RunningGate, DemoError> {
    let GateOptions { upstream, on_unknown, data } = options;
    let failed = |reason: BoxError| DemoError::Gate { upstream: upstream.clone(), reason };
    let settings = format!(
        "server.listen = '127.0.0.1:0'\n\
         admin.listen = '127.0.0.1:0'\n\
         upstream.url = '{upstream}'\n\
         store.url = {}\n\
         {}\n",
        toml::Value::from(format!("file:{}", data.display())),
        on_unknown.settings(),
    );
    let config = Config::load(&Sources::text(&settings)).map_err(|error| failed(error.into()))?;
    let server = Server::bind(config).await.map_err(|error| failed(error.into()))?;
    let part = Part::spawn(server.address(), |stop| async move {
        server.run(stop.cancelled_owned()).await;
    });
    Ok(RunningGate::new(part))
}
