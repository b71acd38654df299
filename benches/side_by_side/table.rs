//! The results as tables: for a terminal, and the same as Markdown.

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, TableStyle, presets};

use crate::{
    goals::Goal,
    results::{BOUND, Measured, Results},
    rival,
    verdict::Quantile,
};

const COLUMNS: [&str; 10] = [
    "server and work",
    "connections",
    "requests/s",
    "CPU us/request",
    "+-",
    "x nginx",
    "Redis us/request",
    "p50 / p99 / p99.9 ms",
    "load late, p99 ms",
    "machine late, p99 ms",
];

/// Both tables and the remarks, for a terminal.
pub(crate) fn terminal(results: &Results, reached: &[Goal]) -> String {
    let tables = [
        costs(presets::UTF8_FULL_CONDENSED, results),
        goals(presets::UTF8_FULL_CONDENSED, reached),
    ];
    let [costs, goals] = tables.map(|table| table.to_string());
    format!("{costs}\n{goals}\n{}", remarks(results).join("\n"))
}

/// The page of the results.
pub(crate) fn markdown(results: &Results, reached: &[Goal]) -> String {
    let costs = costs(presets::ASCII_MARKDOWN, results);
    let goals = goals(presets::ASCII_MARKDOWN, reached);
    let remarks: String = remarks(results).iter().map(|remark| format!("- {remark}\n")).collect();
    format!("{costs}\n\n## Goals\n\n{goals}\n\n## Remarks\n\n{remarks}")
}

/// What a reader of the tables should know.
fn remarks(results: &Results) -> Vec<String> {
    let mut remarks = rival::remarks(results);
    remarks.extend(results.busy.iter().cloned());
    remarks.extend(results.builds.iter().cloned());
    if results.rows.iter().any(Measured::is_bound_by_load) {
        remarks.push(format!(
            "> the load was the limit: its one thread computed for more than {:.0} % of the time, so \
             that the server bears more",
            BOUND * 100.0
        ));
    }
    if let Some(pace) = results.pace {
        remarks.push(format!(
            "Latencies at {pace:.0} requests/s, counted from when a request was due."
        ));
    }
    for measured in &results.rows {
        if let Some(errors) = measured.errors() {
            remarks.push(format!("(!) {}: {errors}", measured.row.label));
        }
    }
    if let Some(memory) = &results.memory {
        remarks.extend(crate::memory::shortfall(memory));
    }
    remarks.extend(results.disk.iter().cloned());
    remarks.extend(results.slower.iter().cloned());
    remarks.extend(results.left_out.iter().map(|what| format!("left out: {what}")));
    remarks
}

/// The cells of a row.
fn cells(results: &Results, measured: &Measured) -> [String; 10] {
    let number = |value: Option<f64>, digits: usize| match value {
        Some(value) => format!("{value:.digits$}"),
        None => String::new(),
    };
    let waits = match (measured.wait(Quantile::P50), measured.wait(Quantile::P99), measured.p999())
    {
        (Some(p50), Some(p99), Some(p999)) => format!("{p50:.2} / {p99:.2} / {p999:.2}"),
        _ => String::new(),
    };
    [
        format!("{}{}", measured.row.label, if measured.errors().is_some() { " (!)" } else { "" }),
        measured.row.connections.to_string(),
        format!(
            "{}{}",
            if measured.is_bound_by_load() { "> " } else { "" },
            number(measured.rate(), 0)
        ),
        number(measured.cpu(), 1),
        measured.spread().map_or_else(String::new, |part| format!("{:.0} %", part * 100.0)),
        number(results.ratio(measured), 2),
        number(measured.redis(), 1),
        waits,
        number(measured.load(), 2),
        number(measured.machine(Quantile::P99), 2),
    ]
}

/// A table whose numbers are on the right.
pub(crate) fn table(preset: TableStyle, header: &[&str], rows: Vec<Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_style(preset).set_content_arrangement(ContentArrangement::Disabled);
    let header = header.iter().map(Cell::new);
    table.set_header(header).add_rows(rows);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn costs(preset: TableStyle, results: &Results) -> Table {
    let rows = results.rows.iter().map(|measured| cells(results, measured).to_vec()).collect();
    table(preset, &COLUMNS, rows)
}

fn goals(preset: TableStyle, goals: &[Goal]) -> Table {
    let two_builds = goals.iter().any(|goal| goal.plain.is_some());
    let rows = goals.iter().map(|goal| {
        let seen = [&goal.limit, &goal.seen, &goal.runs].map(String::clone);
        let mut cells = vec![goal.what.to_owned()];
        cells.extend(seen);
        cells.extend(two_builds.then(|| goal.plain.clone().unwrap_or_default()));
        cells.push(goal.verdict.to_string());
        cells
    });
    let mut header = vec!["goal", "limit", "seen", "runs"];
    header.extend(two_builds.then_some("as cargo builds it"));
    header.push("");
    table(preset, &header, rows.collect())
}
