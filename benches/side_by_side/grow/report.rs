//! The table of `--grow`, and whether costs stay where they are.

use std::{fs, path::Path};

use comfy_table::{Table, TableStyle, presets};

use super::Line;
use crate::{
    Result, machine,
    measure::{Cost, Wait},
    results::{median, over},
    rows::Work,
    servers::Store,
    table::table,
    verdict::{Late, Quantile, Verdict},
    versions,
};

/// How much more a request may cost with the most records than with the fewest.
const GOAL: f64 = 1.3;

const COLUMNS: [&str; 10] = [
    "store and work",
    "records",
    "CPU us/request",
    "Redis us/request",
    "x fewest",
    "p50 ms",
    "p99 ms",
    "x fewest ",
    "load late, p99 ms",
    "machine late, p99 ms",
];

/// What the slowest size of a store bears of a kind of work.
pub(super) fn slowest(lines: &[Line], store: Store, work: Work) -> f64 {
    let same = lines.iter().filter(|line| line.store == store && line.work == work);
    same.filter_map(|line| median(line.costs.iter().map(|cost| cost.rate)))
        .fold(f64::INFINITY, f64::min)
}

impl Line {
    /// Processor time of gate and Redis together, beside that of `other` in the same run.
    fn cpu_over(&self, other: &Self) -> Option<f64> {
        let cpu = |cost: &Cost| Some(cost.cpu + cost.redis.unwrap_or(0.0));
        over(&self.costs, cpu, &other.costs, cpu)
    }

    /// The same of p99.
    fn p99_over(&self, other: &Self) -> Option<f64> {
        let p99 = |wait: &Wait| Some(wait.p99);
        over(&self.waits, p99, &other.waits, p99)
    }

    /// By how much the machine itself was late at p99.
    fn late(&self) -> Option<f64> {
        median(self.waits.iter().map(|wait| wait.machine.p99))
    }

    fn p99(&self) -> Option<f64> {
        median(self.waits.iter().map(|wait| wait.p99))
    }

    fn name(&self) -> String {
        format!("{:?}, {:?}, {} records", self.store, self.work, self.records)
    }

    fn cpu_verdict(&self, fewest: &Self) -> Verdict {
        match self.cpu_over(fewest) {
            Some(ratio) => self.unsound(fewest).unwrap_or_else(|| Verdict::of(ratio <= GOAL)),
            None => Verdict::Unmeasured("processor time".to_owned()),
        }
    }

    fn p99_verdict(&self, fewest: &Self) -> Verdict {
        let late = self.late().zip(fewest.late()).map(|(one, other)| one.max(other));
        match (self.p99_over(fewest), fewest.p99(), late) {
            (Some(ratio), Some(p99), Some(ms)) => self.unsound(fewest).unwrap_or_else(|| {
                let late = Late { at: Quantile::P99, ms };
                Verdict::of_latency((ratio - GOAL) * p99, (GOAL - 1.0) * p99, late)
            }),
            _ => Verdict::Unmeasured("latencies".to_owned()),
        }
    }

    /// The verdict where one of the two has errors.
    fn unsound(&self, fewest: &Self) -> Option<Verdict> {
        let line = [self, fewest].into_iter().find(|line| line.errors().is_some())?;
        Some(Verdict::Errors(line.name()))
    }

    fn errors(&self) -> Option<&(u64, String)> {
        let costs = self.costs.iter().filter_map(|cost| cost.errors.as_ref());
        costs.chain(self.waits.iter().filter_map(|wait| wait.errors.as_ref())).next()
    }
}

/// The table and the verdicts, for a terminal.
pub(crate) fn terminal(lines: &[Line], notes: &[String]) -> String {
    let remarks = remarks(lines, notes).join("\n");
    format!("{}\n{remarks}", draw(presets::UTF8_FULL_CONDENSED, lines))
}

/// Writes `docs/cost-as-keys-grow.md`.
pub(crate) fn publish(lines: &[Line], notes: &[String], how: &str) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cost-as-keys-grow.md");
    let remarks: String = remarks(lines, notes).iter().map(|line| format!("- {line}\n")).collect();
    let commit = versions::commit().unwrap_or_else(|| "unknown".to_owned());
    let page = format!(
        "# What a request costs as keys grow\n\n\
         Written by {how}, on {}. The commit of the benchmark: {commit}.\n\
         How it is measured: [benchmarks.md](benchmarks.md).\n\n{}\n\n{remarks}",
        machine::describe(),
        draw(presets::ASCII_MARKDOWN, lines),
    );
    fs::write(path, page)?;
    eprintln!("wrote docs/cost-as-keys-grow.md");
    Ok(())
}

/// The line of the fewest records with the same store and work.
fn fewest<'a>(lines: &'a [Line], line: &Line) -> &'a Line {
    let same = lines.iter().filter(|other| other.store == line.store && other.work == line.work);
    same.min_by_key(|other| other.records).unwrap_or(&lines[0])
}

fn draw(style: TableStyle, lines: &[Line]) -> Table {
    let number = |value: Option<f64>, digits: usize| {
        value.map_or_else(String::new, |value| format!("{value:.digits$}"))
    };
    let rows = lines.iter().map(|line| {
        let fewest = fewest(lines, line);
        vec![
            format!("{:?}, {:?}", line.store, line.work).to_lowercase(),
            line.records.to_string(),
            number(median(line.costs.iter().map(|cost| cost.cpu)), 1),
            number(median(line.costs.iter().filter_map(|cost| cost.redis)), 1),
            number(line.cpu_over(fewest), 2),
            number(median(line.waits.iter().map(|wait| wait.p50)), 2),
            number(line.p99(), 2),
            number(line.p99_over(fewest), 2),
            number(median(line.waits.iter().map(|wait| wait.load)), 2),
            number(line.late(), 2),
        ]
    });
    table(style, &COLUMNS, rows.collect())
}

/// What a reader of the table should know, the verdicts among it.
fn remarks(lines: &[Line], notes: &[String]) -> Vec<String> {
    let mut remarks = notes.to_vec();
    remarks.extend(verdicts(lines));
    remarks
}

/// A sentence for each line that is not the first of its kind.
fn verdicts(lines: &[Line]) -> Vec<String> {
    let mut verdicts = Vec::new();
    for line in lines {
        let name = line.name();
        if let Some((count, why)) = line.errors() {
            verdicts.push(format!("(!) {name}: {count} errors, the first: {why}"));
        }
        let fewest = fewest(lines, line);
        if fewest.records == line.records {
            continue;
        }
        let (cpu, p99) = (line.cpu_over(fewest), line.p99_over(fewest));
        for (what, ratio, verdict) in
            [("CPU", cpu, line.cpu_verdict(fewest)), ("p99", p99, line.p99_verdict(fewest))]
        {
            let seen = ratio.map_or_else(|| "unknown".to_owned(), |ratio| format!("{ratio:.2} x"));
            verdicts.push(format!(
                "{name}: {what} is {seen} that with {}, at most {GOAL}: {verdict}",
                fewest.records
            ));
        }
    }
    verdicts
}
