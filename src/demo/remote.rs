//! The parts as processes of their own, for compose.

use std::time::{Duration, Instant};

use http::{Method, StatusCode};

use super::{
    Run, Verdict,
    cli::{LinkArgs, PaymentsArgs, StormArgs},
    console::{note, say},
    error::DemoError,
    http::{call, request},
    ledger::Repeats,
    link::{Link, Odds},
    part::{listen, told_to_stop},
    payments::{Payments, PaymentsOptions},
    report::render,
    rounds::{Path, ROUNDS, Settings},
    story::PATIENCE,
};

/// Between two looks at whether a peer is up.
const LOOK: Duration = Duration::from_millis(100);

/// `oncegate demo payments`: serves until it is told to stop.
///
/// # Errors
/// When the address or the ledger is taken.
pub(crate) async fn payments(args: PaymentsArgs) -> Run {
    let repeats = if args.deduplicate { Repeats::Deduplicate } else { Repeats::Execute };
    let listening = listen(args.listen, "--listen").await?;
    let service = Payments::start(listening, PaymentsOptions { data: args.data, repeats }).await?;
    note(format_args!("payments: http://{}/stats", service.addr));
    told_to_stop().await;
    service.stop().await;
    Ok(Verdict::Kept)
}

/// `oncegate demo link`: forwards until it is told to stop.
///
/// # Errors
/// When an address is taken.
pub(crate) async fn link(args: LinkArgs) -> Run {
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(0..1_000_000));
    let mut maps = Vec::with_capacity(args.maps.len());
    for map in args.maps {
        let listening = listen(map.listen, "--map").await?;
        note(format_args!("link: {} to {} (--seed {seed})", listening.addr, map.target.0));
        maps.push((listening, map.target.0));
    }
    let link = Link::start(maps, Odds { before: args.before.0, after: args.after.0, seed });
    told_to_stop().await;
    let (before, after) = (link.resets.before(), link.resets.after());
    note(format_args!("link: reset {before} connections on the request, {after} on the response"));
    link.stop().await;
    Ok(Verdict::Kept)
}

/// `oncegate demo storm`: rounds 1 to 3 across the network, then the table.
///
/// # Errors
/// When a peer does not come up, or the ledger cannot be read.
pub(crate) async fn storm(args: StormArgs) -> Run {
    tokio::select! {
        verdict = play(args) => verdict,
        () = told_to_stop() => Err(DemoError::Interrupted),
    }
}

async fn play(args: StormArgs) -> Run {
    wait("the payment service", &args.ledger.0, "--ledger", args.wait).await?;
    wait("the link to the payment service", &args.direct.0, "--direct", args.wait).await?;
    wait("the gate behind the link", &args.gate.0, "--gate", args.wait).await?;
    let settings = Settings {
        payments: args.payments,
        concurrency: args.concurrency.into(),
        attempts: args.attempts,
        patience: PATIENCE,
    };
    let mut played = Vec::new();
    for round in ROUNDS {
        let target = match round.path {
            Path::Direct => &args.direct.0,
            Path::GateBehindLink => &args.gate.0,
            Path::HoldBeforeLink | Path::RetryBeforeLink | Path::ReconcileBeforeLink => continue,
        };
        played.push(round.play(target, &args.ledger.0, settings).await?);
    }
    let (text, verdict) = render(&played);
    say(text);
    Ok(verdict)
}

/// Waits until `peer` answers `GET /healthz`, through as many resets as it takes.
async fn wait(
    what: &'static str,
    peer: &str,
    flag: &'static str,
    limit: Duration,
) -> Result<(), DemoError> {
    let deadline = Instant::now() + limit;
    loop {
        let last = match call(peer, request(Method::GET, "/healthz", ""), PATIENCE).await {
            Ok(reply) if reply.status == StatusCode::OK => return Ok(()),
            Ok(reply) => format!("it answered {}", reply.status),
            Err(error) => error.to_string(),
        };
        if Instant::now() >= deadline {
            let peer = peer.to_owned();
            return Err(DemoError::NotReady { what, peer, flag, waited: limit, last });
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
#[path = "remote_tests.rs"]
mod tests;
