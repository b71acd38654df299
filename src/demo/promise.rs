//! Figures, and the promises that are checked against them.
//!
//! [`Figures`] puts what the clients were told beside what the ledger holds;
//! [`Promise::check`] says which sentences of the story did not come true.

use std::collections::HashMap;

use super::{
    ledger::{Row, Totals},
    storm::{Ending, Tally, reference},
};

/// What must come out of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promise {
    /// Less is paid than was sent.
    Less,
    /// More is paid than was sent.
    More,
    /// Exactly what was sent is paid, each payment once, and every client knows.
    Exactly,
    /// Nothing is paid twice, and what may be lost was said to be unknown.
    NothingHidden,
}

/// What came out of a round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    /// Payments that the clients meant to make, of one euro each.
    pub(crate) sent: u64,
    /// Requests that they began.
    pub(crate) attempts: u64,
    /// Rows in the ledger.
    pub(crate) executed: u64,
    /// Euros in the ledger.
    pub(crate) paid: u64,
    /// Payments that the ledger has exactly once.
    pub(crate) once: u64,
    /// Payments that the ledger has more than once.
    pub(crate) doubled: u64,
    /// Payments that the ledger does not have.
    pub(crate) lost: u64,
    /// Rows that belong to no payment of this round.
    pub(crate) foreign: u64,
    /// Payments whose clients were told that they are executed.
    pub(crate) confirmed: u64,
    /// Payments whose clients were told that the outcome is unknown.
    pub(crate) unknown: u64,
    /// Payments whose clients know nothing.
    pub(crate) failed: u64,
    /// Payments that were confirmed and are not in the ledger.
    pub(crate) lost_but_confirmed: u64,
    /// Payments that are not in the ledger, and nobody said so.
    pub(crate) lost_in_silence: u64,
    /// How long the round took, in milliseconds.
    pub(crate) millis: u128,
}

impl Figures {
    /// Puts the clients' view and the ledger side by side.
    pub(crate) fn of(tally: &Tally, rows: &[Row]) -> Self {
        let mut executions = HashMap::<&str, u64>::new();
        for row in rows {
            *executions.entry(&row.reference).or_default() += 1;
        }
        let totals = Totals::of(rows);
        let mut figures = Self {
            sent: tally.endings.len() as u64,
            attempts: tally.attempts,
            executed: totals.count,
            paid: totals.sum,
            millis: tally.wall.as_millis(),
            ..Self::default()
        };
        for (payment, ending) in (0..).zip(&tally.endings) {
            let times = executions.remove(reference(payment).as_str()).unwrap_or(0);
            match times {
                0 => figures.lost += 1,
                1 => figures.once += 1,
                _ => figures.doubled += 1,
            }
            match ending {
                Ending::Confirmed => figures.confirmed += 1,
                Ending::Unknown => figures.unknown += 1,
                Ending::Failed => figures.failed += 1,
            }
            if times == 0 {
                figures.lost_but_confirmed += u64::from(*ending == Ending::Confirmed);
                figures.lost_in_silence += u64::from(*ending == Ending::Failed);
            }
        }
        figures.foreign = executions.values().sum();
        figures
    }
}

impl Promise {
    /// The promise in words.
    pub(crate) fn words(self, figures: &Figures) -> String {
        let Figures { unknown, lost, lost_but_confirmed, lost_in_silence, .. } = *figures;
        match self {
            Self::Less => "some payments are lost, so less is paid than was sent".to_owned(),
            Self::More => "some payments are doubled, so more is paid than was sent".to_owned(),
            Self::Exactly => {
                "exactly what was sent is paid, each payment once, and every client knows"
                    .to_owned()
            }
            Self::NothingHidden => {
                let lost = lost.saturating_sub(lost_but_confirmed + lost_in_silence);
                format!(
                    "nothing is paid twice, and what may be lost was said to be unknown \
                     (of {unknown}: {} paid, {lost} not)",
                    unknown.saturating_sub(lost),
                )
            }
        }
    }

    /// What of it did not come true; nothing, if it was kept.
    pub(crate) fn check(self, figures: &Figures) -> Vec<String> {
        let Figures { sent, executed, paid, once, doubled, lost, confirmed, .. } = *figures;
        let Figures { foreign, failed, unknown, lost_but_confirmed, lost_in_silence, .. } =
            *figures;
        let mut broken = Vec::new();
        let mut demand = |holds: bool, otherwise: String| {
            if !holds {
                broken.push(otherwise);
            }
        };
        demand(
            foreign == 0,
            format!("{foreign} rows of the ledger are from somebody else: let it pay alone"),
        );
        match self {
            Self::Less => demand(
                paid < sent,
                format!("{paid} € were paid for {sent} sent: did the link break anything?"),
            ),
            Self::More => demand(
                paid > sent,
                format!("{paid} € were paid for {sent} sent: did the link break anything?"),
            ),
            Self::Exactly => {
                demand(executed == sent, format!("{executed} executions of {sent} payments"));
                demand(paid == sent, format!("{paid} € instead of {sent} €"));
                demand(doubled == 0, format!("{doubled} payments were executed more than once"));
                demand(lost == 0, format!("{lost} payments were never executed"));
                demand(
                    confirmed == sent,
                    format!(
                        "only {confirmed} of {sent} clients were told that they have paid \
                         ({unknown} unknown, {failed} without an answer)"
                    ),
                );
            }
            Self::NothingHidden => {
                demand(doubled == 0, format!("{doubled} payments were executed more than once"));
                demand(
                    executed + lost == sent,
                    format!("{executed} executed and {lost} lost do not make {sent}"),
                );
                demand(paid == once, format!("{paid} € for {once} payments executed once"));
                demand(
                    confirmed <= executed,
                    format!("{confirmed} were confirmed, but {executed} executed"),
                );
                demand(
                    lost_but_confirmed == 0,
                    format!("{lost_but_confirmed} payments were confirmed and never executed"),
                );
                demand(
                    lost_in_silence == 0,
                    format!("{lost_in_silence} payments were lost, and the gate did not say so"),
                );
                demand(
                    failed == 0,
                    format!("{failed} clients know nothing, and the gate did not say unknown"),
                );
            }
        }
        broken
    }
}
