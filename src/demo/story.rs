//! `oncegate demo`: everything in one process, on free loopback ports.
//!
//! ```text
//!  round        the way of a payment
//!  1, 2         client ──▶ link ──▶ payments
//!  3            client ──▶ link ──▶ gate ──▶ payments
//!  4 hold       client ──▶ gate ──▶ link ──▶ payments
//!  4 retry      client ──▶ gate ──▶ link ──▶ payments that answer 208 to duplicates
//!  4 reconcile  client ──▶ gate ──▶ link ──▶ payments that can be asked
//! ```
//!
//! Ledgers and the gates' stores lie in a temporary folder that goes with the
//! command.

use std::{net::SocketAddr, path::Path as Folder, time::Duration};

use tempfile::TempDir;

use super::{
    Run,
    cli::StoryArgs,
    console::{note, say},
    error::DemoError,
    gate::{GateOptions, OnUnknown, RunningGate, StartGate},
    ledger::Repeats,
    link::{Link, Odds},
    part::{listen_anywhere, told_to_stop},
    payments::{Payments, PaymentsOptions},
    report::render,
    rounds::{Path, Played, ROUNDS, Settings},
};

/// How long one attempt of a client may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Everything that takes part.
#[derive(Debug)]
pub(crate) struct Stage {
    naive: Payments,
    deduplicating: Payments,
    /// To the naive service, to the deduplicating one.
    behind: Link,
    /// To the gate that is behind the link.
    front: Link,
    plain: RunningGate,
    hold: RunningGate,
    retry: RunningGate,
    reconcile: RunningGate,
    // Dropped last: the folder goes when nobody uses it any more.
    _data: TempDir,
}

/// Runs all rounds and prints the table.
///
/// # Errors
/// When a part does not start, a ledger cannot be read, or Ctrl-C is pressed.
pub(crate) async fn tell(args: StoryArgs, start_gate: StartGate) -> Run {
    let needed = fewest(args.before.0, args.after.0);
    if args.payments < needed {
        return Err(DemoError::TooFew(needed));
    }
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(0..1_000_000));
    let odds = Odds { before: args.before.0, after: args.after.0, seed };
    let stage = Stage::set(odds, start_gate).await?;
    note(stage.program(odds));
    let played = tokio::select! {
        played = stage.play(settings(&args)) => played,
        () = told_to_stop() => Err(DemoError::Interrupted),
    };
    let verdict = match played {
        Ok(played) => {
            let (text, verdict) = render(&played);
            say(text);
            say(stage.resets());
            Ok(verdict)
        }
        Err(error) => Err(error),
    };
    if args.stay && verdict.is_ok() {
        say(format_args!("\nEverything keeps running until Ctrl-C:\n{}", stage.urls()));
        told_to_stop().await;
    }
    stage.clear().await;
    verdict
}

impl Stage {
    /// Starts every part.
    ///
    /// # Errors
    /// The first part's that does not start.
    pub(crate) async fn set(odds: Odds, start_gate: StartGate) -> Result<Self, DemoError> {
        let data = TempDir::with_prefix("oncegate-demo-").map_err(DemoError::Scratch)?;
        let naive = payments(data.path(), "payments", Repeats::Execute).await?;
        let deduplicating = payments(data.path(), "payments-208", Repeats::Deduplicate).await?;
        let behind = link([naive.addr, deduplicating.addr], odds).await?;
        let gate = |name: &str, upstream: SocketAddr, on_unknown| {
            start_gate(GateOptions {
                upstream: format!("http://{upstream}"),
                on_unknown,
                data: data.path().join(name),
            })
        };
        let plain = gate("gate", naive.addr, OnUnknown::Hold).await?;
        let hold = gate("gate-hold", behind.addrs[0], OnUnknown::Hold).await?;
        let retry = gate("gate-retry", behind.addrs[1], OnUnknown::Retry).await?;
        let reconcile = gate("gate-reconcile", behind.addrs[0], OnUnknown::Reconcile).await?;
        // A seed of its own: the rounds shall not share their luck.
        let front = link([plain.addr], Odds { seed: odds.seed.wrapping_add(1 << 32), ..odds });
        let front = front.await?;
        Ok(Self { naive, deduplicating, behind, front, plain, hold, retry, reconcile, _data: data })
    }

    /// Plays all rounds, one after the other.
    ///
    /// # Errors
    /// When a ledger cannot be emptied or read.
    pub(crate) async fn play(&self, settings: Settings) -> Result<Vec<Played>, DemoError> {
        let mut played = Vec::with_capacity(ROUNDS.len());
        for round in ROUNDS {
            let (target, ledger) = match round.path {
                Path::Direct => (self.behind.addrs[0], self.naive.addr),
                Path::GateBehindLink => (self.front.addrs[0], self.naive.addr),
                Path::HoldBeforeLink => (self.hold.addr, self.naive.addr),
                Path::RetryBeforeLink => (self.retry.addr, self.deduplicating.addr),
                Path::ReconcileBeforeLink => (self.reconcile.addr, self.naive.addr),
            };
            played.push(round.play(&target.to_string(), &ledger.to_string(), settings).await?);
        }
        Ok(played)
    }

    /// Ends every part, clients' side first.
    pub(crate) async fn clear(self) {
        self.front.stop().await;
        for gate in [self.plain, self.hold, self.retry, self.reconcile] {
            gate.stop().await;
        }
        self.behind.stop().await;
        self.naive.stop().await;
        self.deduplicating.stop().await;
    }

    fn program(&self, odds: Odds) -> String {
        let Odds { before, after, seed } = odds;
        format!(
            "{}\nThe link resets {:.0} % of the connections before the request arrives, and {:.0} % \
             of the others when the response comes (--seed {seed}).",
            self.urls(),
            before * 100.0,
            after * 100.0,
        )
    }

    fn urls(&self) -> String {
        [
            ("naive payments", self.naive.addr, "/stats"),
            ("payments that answer 208", self.deduplicating.addr, "/stats"),
            ("link to the naive payments", self.behind.addrs[0], "/payments/"),
            ("link to the gate", self.front.addrs[0], "/payments/"),
            ("gate behind the link", self.plain.addr, "/payments/"),
            ("gate before the link: hold", self.hold.addr, "/payments/"),
            ("gate before the link: retry", self.retry.addr, "/payments/"),
            ("gate before it: reconcile", self.reconcile.addr, "/payments/"),
        ]
        .map(|(what, addr, path)| format!("  {what:28} http://{addr}{path}"))
        .join("\n")
    }

    fn resets(&self) -> String {
        let links = [&self.behind.resets, &self.front.resets];
        format!(
            "The link reset {} connections on the request and {} on the response.",
            links.iter().map(|resets| resets.before()).sum::<u64>(),
            links.iter().map(|resets| resets.after()).sum::<u64>(),
        )
    }
}

/// So many payments that in one run of a billion none is lost in round 1, or none paid twice in
/// round 2. A payment is lost there if its one connection is reset before it arrives, and paid
/// twice if the response to its first arrival is reset.
pub(crate) fn fewest(before: f64, after: f64) -> u64 {
    let passes = 1.0 - before.min(after);
    // Shares are at least a hundredth, so this is a number of some thousands at the most.
    (1e-9_f64.ln() / passes.ln()).ceil() as u64
}

/// So many attempts that in one run of a billion a client gives up by bad luck.
pub(crate) fn attempts(payments: u64, before: f64, after: f64) -> u32 {
    let broken = 1.0 - (1.0 - before) * (1.0 - after);
    let needed = (1e-9 / payments as f64).ln() / broken.ln();
    // The bounds keep the number within the type, whatever the odds are.
    needed.clamp(60.0, 10_000.0) as u32
}

fn settings(args: &StoryArgs) -> Settings {
    Settings {
        payments: args.payments,
        concurrency: args.concurrency.into(),
        attempts: attempts(args.payments, args.before.0, args.after.0),
        patience: PATIENCE,
    }
}

async fn payments(data: &Folder, name: &str, repeats: Repeats) -> Result<Payments, DemoError> {
    let options = PaymentsOptions { data: data.join(name), repeats };
    Payments::start(listen_anywhere().await?, options).await
}

async fn link<const N: usize>(targets: [SocketAddr; N], odds: Odds) -> Result<Link, DemoError> {
    let mut maps = Vec::with_capacity(N);
    for target in targets {
        maps.push((listen_anywhere().await?, target.to_string()));
    }
    Ok(Link::start(maps, odds))
}

#[cfg(test)]
#[path = "story_tests.rs"]
mod tests;
