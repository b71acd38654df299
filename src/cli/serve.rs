//! `oncegate serve`.

use std::{io, process::ExitCode};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::Mutex,
};
use tracing_subscriber::EnvFilter;

use super::complain;
use crate::{
    config::{Config, LogFormat, Telemetry},
    proxy::Server,
};

/// Serves until SIGTERM or SIGINT, then drains. A second signal cuts it short.
pub(super) async fn run(config: Config) -> ExitCode {
    let telemetry = config.telemetry.clone();
    let signals = match Signals::new() {
        Ok(signals) => Mutex::new(signals),
        Err(error) => return complain(ExitCode::FAILURE, &error),
    };
    let (store, routes) = (config.store.url.to_string(), config.routes.clone());
    let server = match Server::bind(config).await {
        Ok(server) => server,
        Err(error) => return complain(ExitCode::FAILURE, &error),
    };
    // From here on there is a log; a start that fails says why in one line.
    log(&telemetry);
    greet(&server, &store, &routes);
    let next = async || signals.lock().await.next().await;
    // The second is waited for when the first has come.
    let abandoned = server.run_until(next(), next()).await;
    if abandoned > 0 {
        tracing::warn!(
            abandoned,
            "exchanges were still running at the end of the drain; their outcomes are unknown"
        );
    }
    ExitCode::SUCCESS
}

/// SIGTERM and SIGINT, which say the same, and SIGHUP, which asks for what there is not yet.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        let (terminate, interrupt) = (SignalKind::terminate(), SignalKind::interrupt());
        let hangup = signal(SignalKind::hangup())?;
        Ok(Self { terminate: signal(terminate)?, interrupt: signal(interrupt)?, hangup })
    }

    async fn next(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => tracing::warn!(
                    "SIGHUP: settings cannot be read anew while the gate runs yet; restart it"
                ),
            }
        }
    }
}

fn log(telemetry: &Telemetry) {
    let lines = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&telemetry.log))
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(std::io::stderr);
    // Only an earlier subscriber of the same process could be in the way; it stays.
    let _ = match telemetry.format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
}

/// What a first run wants to know.
#[expect(clippy::print_stderr, reason = "the command line's own voice")]
fn greet(server: &Server, store: &str, routes: &[crate::config::Route]) {
    let (listen, admin) = (server.address(), server.admin_address());
    eprintln!("oncegate {} listens on http://{listen}", env!("CARGO_PKG_VERSION"));
    for route in routes {
        let upstreams: Vec<String> = route.upstream.urls.iter().map(ToString::to_string).collect();
        let guarded = if route.policy.is_some() { "" } else { "  (not gated)" };
        let host = route.host.as_deref().unwrap_or("");
        eprintln!("  {host}{} -> {}{guarded}", route.path, upstreams.join(", "));
    }
    eprintln!("  records in {store}");
    eprintln!("  http://{admin}/readyz  http://{admin}/metrics");
    eprintln!("try: curl -i -X POST http://{listen}/ -H 'Idempotency-Key: 1' -d '{{}}'   (twice)");
}
