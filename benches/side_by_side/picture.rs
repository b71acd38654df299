//! Processor time per request as bars, readable on light and dark pages.

use std::fmt::Write as _;

use crate::{
    results::{Measured, Results},
    servers::{Build, Subject},
};

const WIDTH: f64 = 970.0;
const LABELS: f64 = 395.0;
const BAR: f64 = 18.0;
const STEP: f64 = 26.0;
const TOP: f64 = 76.0;
/// The lines beneath the bars.
const FOOT: f64 = 88.0;
/// Bars that are longer than this many times nginx are cut, with their number beside them.
const LONGEST: f64 = 8.0;

/// An SVG of all rows that were measured without errors.
pub(crate) fn draw(results: &Results, machine: &[String]) -> String {
    let rows: Vec<_> = results
        .rows
        .iter()
        .filter(|measured| measured.errors().is_none())
        .filter_map(|measured| Some((measured, measured.cpu()?)))
        .collect();
    let total = |(measured, cpu): &(&Measured, f64)| cpu + measured.redis().unwrap_or(0.0);
    let unit = results.row(crate::rows::PASS).and_then(Measured::cpu).unwrap_or(1.0);
    let longest = rows.iter().map(total).fold(unit, f64::max).min(unit * LONGEST);
    let scale = (WIDTH - LABELS - 110.0) / longest;
    let height = TOP + STEP * rows.len() as f64 + FOOT;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\">\n\
         <style>text{{fill:#1f2328}}.own{{fill:#1a7f5a}}.plain{{fill:#7fb59e}}\
         .other{{fill:#8c959f}}.redis{{fill:#cf6a4c}}\
         .line{{stroke:#1f2328;stroke-dasharray:3 3;opacity:.5}}\
         @media(prefers-color-scheme:dark){{text{{fill:#e6edf3}}.line{{stroke:#e6edf3}}}}</style>\n\
         <text x=\"10\" y=\"22\" font-size=\"16\" font-weight=\"600\">CPU microseconds per request, \
         less is better</text>\n\
         <text x=\"10\" y=\"42\" font-size=\"12\">grey: others; green: oncegate, pale where it is as \
         cargo builds it beside another build; red: the Redis that takes part</text>\n\
         <text x=\"10\" y=\"58\" font-size=\"12\">dashed: nginx pass-through; bars that go on to the right \
         are cut</text>\n"
    );
    for (index, (measured, cpu)) in rows.iter().enumerate() {
        let y = TOP + STEP * index as f64;
        let own = (cpu * scale).min(longest * scale);
        let redis = measured.redis().unwrap_or(0.0);
        let rest = (redis * scale).min(longest * scale - own);
        let class = match measured.row.subject {
            Subject::Gate { build: Build::Given, .. } => "own",
            Subject::Gate { build: Build::Plain, .. } => "plain",
            Subject::Backend
            | Subject::Nginx { .. }
            | Subject::NginxCache(_)
            | Subject::Haproxy
            | Subject::Varnish
            | Subject::VarnishCache
            | Subject::IdempotentProxy { .. }
            | Subject::Asgi => "other",
        };
        let number =
            if redis >= 0.5 { format!("{cpu:.0} + {redis:.0}") } else { format!("{cpu:.0}") };
        let cut = if cpu + redis > longest { "\u{2026} " } else { "" };
        // Writing to a String cannot fail.
        let _ = writeln!(
            svg,
            "<text x=\"{x}\" y=\"{text}\" text-anchor=\"end\">{label}</text>\
             <rect class=\"{class}\" x=\"{LABELS}\" y=\"{y}\" width=\"{own:.1}\" height=\"{BAR}\"/>\
             <rect class=\"redis\" x=\"{after:.1}\" y=\"{y}\" width=\"{rest:.1}\" height=\"{BAR}\"/>\
             <text x=\"{end:.1}\" y=\"{text}\">{cut}{number}</text>",
            x = LABELS - 8.0,
            text = y + 13.5,
            label = measured.row.label,
            after = LABELS + own,
            end = LABELS + own + rest + 6.0,
        );
    }
    let (x, bottom) = (LABELS + unit * scale, height - FOOT + 10.0);
    let _ = writeln!(
        svg,
        "<line class=\"line\" x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom}\"/>"
    );
    let lines = results.builds.iter().chain(machine);
    for (index, line) in lines.enumerate() {
        let (y, line) = (bottom + 22.0 + 16.0 * index as f64, line.replace('`', ""));
        let _ = writeln!(svg, "<text x=\"10\" y=\"{y}\" font-size=\"11\">{line}</text>");
    }
    svg + "</svg>\n"
}
