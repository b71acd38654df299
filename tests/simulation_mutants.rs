//! The simulation sees: each rule of the layer, broken on purpose, is noticed.
//!
//! ```console
//! $ cargo test --no-default-features --features mutants --test simulation_mutants -- --nocapture
//! ```

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

#[path = "simulation/mod.rs"]
#[allow(dead_code, unreachable_pub, missing_docs, reason = "shared with the example")]
mod simulation;

use oncegate::mutants::{Mutant, set};
use simulation::{
    campaign::campaign,
    checker::Rule::{self, Fingerprint, Finished, Known, Once, Same, Whole},
};

const SEEDS: u64 = 10_000;

/// The mutants that a simulation of the layer can see, and a promise that each of
/// them breaks. `CallBrokenUnsent` is about the proxy's connections.
const MUTANTS: [(Mutant, Rule); 12] = [
    (Mutant::ExpiredLeaseIsFree, Once),
    (Mutant::ReleaseOnReset, Once),
    (Mutant::AnswerBeforeRecording, Same),
    (Mutant::CompleteWithoutToken, Same),
    (Mutant::ReconcileWithoutQuiescence, Once),
    (Mutant::DispatchUnclaimed, Once),
    (Mutant::CancelWithClient, Finished),
    (Mutant::RecordTruncated, Whole),
    (Mutant::IgnoreFingerprint, Fingerprint),
    (Mutant::NoRenewal, Known),
    (Mutant::ForgetOwnClaim, Known),
    (Mutant::NoDrain, Finished),
];

/// One test, because a mutant changes the whole process.
#[test]
#[allow(clippy::print_stdout, reason = "how many seeds it takes is worth knowing")]
fn every_mutant_is_found() {
    for (mutant, rule) in MUTANTS {
        set(Some(mutant));
        let breaks_it = |report: &simulation::Report| {
            report.violations.iter().any(|violation| violation.rule == rule)
        };
        let found = campaign(0..SEEDS, 2, breaks_it, |_| {});
        set(None);
        let (seed, violations) = found.failed.unwrap_or_else(|| panic!("{mutant:?} was not found"));
        println!("{mutant:?}: after {} seeds, seed {seed}: {}", found.seeds, violations[0].what);
    }
}
