//! Load on three gates: rows 26 and 30, and false alarms.

use std::time::Duration;

use crate::support::{
    keepalive, seed,
    storm::{self, Plan, Report, nemesis::Faults, shop::Temper},
};

fn judge(report: &Report) {
    println!(
        "{:?}, {} keys, {} executions, {} disasters",
        report.tally, report.keys, report.executions, report.disasters
    );
    let first: Vec<_> = report.violations.iter().take(10).collect();
    assert!(first.is_empty(), "{} violations: {first:#?}", report.violations.len());
    assert!(report.tally.executed > 100, "hardly any load");
}

/// Row 26.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarted_one_by_one_under_load() {
    let plan = Plan {
        seed: seed(),
        gates: 3,
        clients: 24,
        length: Duration::from_secs(4),
        temper: Temper { slowness: 60, resets: 0 },
        faults: Faults::RollingRestart,
        speaks: false,
    };
    let report = storm::run(&plan).await;
    judge(&report);
    assert!(report.exit_codes.len() >= 3, "every gate was restarted: {report:?}");
    assert!(report.exit_codes.iter().all(|code| *code == 0), "{:?}", report.exit_codes);
    assert_eq!(report.tally.unknown, 0, "the drain was long enough for everybody");
    assert_eq!(report.executions, report.keys, "every key has been executed");
}

/// Row 30. `ONCEGATE_SEED` takes the same decisions again; how they meet the requests
/// is up to the machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seeded_nemesis() {
    let plan = Plan {
        seed: seed(),
        gates: 3,
        clients: 24,
        length: Duration::from_secs(12),
        temper: Temper { slowness: 40, resets: 5 },
        faults: Faults::Everything(Duration::from_millis(300)),
        speaks: false,
    };
    judge(&storm::run(&plan).await);
}

/// A service that closes unused connections after a second is the most common cause of
/// an outcome that nobody knows though everybody could.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_healthy_backend_leaves_no_unknown_outcomes() {
    let report = keepalive::run(2000, seed()).await;
    println!("{report:?}");
    assert!(report.unknown * 1000 <= report.requests, "{report:?}");
    assert_eq!(report.unknown_and_never_received, 0, "{report:?}");
    assert_eq!(report.doubled, 0, "{report:?}");
}
