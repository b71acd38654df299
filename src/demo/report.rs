//! The table, and under it the promises.

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets::UTF8_FULL};

use super::{Verdict, promise::Figures, rounds::Played};

/// The table's width in columns.
const WIDTH: u16 = 100;

/// The table, and under it every promise with what broke it.
pub(crate) fn render(played: &[Played]) -> (String, Verdict) {
    let mut verdict = Verdict::Kept;
    let mut lines = Vec::new();
    let mut table = Table::new();
    table.load_style(UTF8_FULL).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(WIDTH).set_header([
        "round", "sent", "attempts", "executed", "paid €", "lost", "doubled", "unknown", "kept",
    ]);
    for Played { round, figures } in played {
        let broken = round.promise.check(figures);
        let kept = broken.is_empty();
        let mut row =
            vec![Cell::new(format!("{}. {}\n{}", round.number, round.name, round.path.stations()))];
        let Figures { sent, attempts, executed, paid, lost, doubled, unknown, .. } = *figures;
        for figure in [sent, attempts, executed, paid, lost, doubled, unknown] {
            row.push(Cell::new(figure).set_alignment(CellAlignment::Right));
        }
        row.push(Cell::new(if kept { "yes" } else { "NO" }));
        table.add_row(row);
        let sign = if kept { '✓' } else { '✗' };
        lines.push(format!("{sign} {}. {}", round.number, round.promise.words(figures)));
        if !kept {
            verdict = Verdict::Broken;
            lines.extend(broken.into_iter().map(|what| format!("     broken: {what}")));
        }
    }
    let seconds: Vec<_> = played
        .iter()
        .map(|Played { figures, .. }| format!("{:.1}", figures.millis as f64 / 1000.0))
        .collect();
    let judgement = match verdict {
        Verdict::Kept => "Every promise was kept.",
        Verdict::Broken => "A promise was broken.",
    };
    let (lines, seconds) = (lines.join("\n"), seconds.join(", "));
    (format!("{table}\n{lines}\nSeconds per round: {seconds}.\n{judgement}"), verdict)
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
