//! What the gate is meant to cost, and whether it does.

use crate::{
    figure::Figure,
    memory::{self, Memory},
    results::{Measured, Results},
    rows,
    verdict::{Quantile, Verdict},
};

/// One goal with what was seen.
pub(crate) struct Goal {
    pub(crate) what: &'static str,
    pub(crate) limit: String,
    /// The median of the runs. Empty where there is nothing to see.
    pub(crate) seen: String,
    /// The smallest and the largest of the runs, where it is a ratio.
    pub(crate) runs: String,
    /// The same of the gate as cargo builds it, where that is another one.
    pub(crate) plain: Option<String>,
    pub(crate) verdict: Verdict,
}

const MIB: f64 = (1 << 20) as f64;

// What a first request on Redis may take, in units of nginx's pass-through, itself and of
// Redis, and how many times the rival's requests there are to be.
pub(crate) const FIRST: f64 = 2.2;
pub(crate) const FIRST_IN_REDIS: f64 = 1.6;
pub(crate) const FIRST_OVER_RIVAL: f64 = 3.0;

/// A goal for rows of the table.
struct Aim {
    what: &'static str,
    /// The gate's.
    row: &'static str,
    /// What it is compared with.
    other: Option<&'static str>,
    figure: Figure,
    limit: Limit,
}

#[derive(Clone, Copy)]
enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

const AIMS: [Aim; 11] = [
    Aim {
        what: "no key, 1 thread: CPU / nginx pass-through, 1 worker",
        row: rows::UNKEYED,
        other: Some(rows::PASS),
        figure: Figure::Cpu,
        limit: Limit::AtMost(1.0),
    },
    Aim {
        what: "no key, a thread per core: CPU / nginx pass-through, a worker per core",
        row: rows::UNKEYED_THREADS,
        other: Some(rows::PASS_WORKERS),
        figure: Figure::Cpu,
        limit: Limit::AtMost(1.0),
    },
    Aim {
        what: "replay from the cache, 1 thread: CPU / nginx answering from its cache, 1 worker",
        row: rows::CACHED,
        other: Some(rows::CACHE),
        figure: Figure::Cpu,
        limit: Limit::AtMost(0.75),
    },
    Aim {
        what: "replay from the cache, 1 thread: CPU / nginx with its files kept open, 1 worker",
        row: rows::CACHED,
        other: Some(rows::CACHE_OPEN),
        figure: Figure::Cpu,
        limit: Limit::AtMost(0.75),
    },
    Aim {
        what: "first request, Redis: CPU / nginx pass-through",
        row: rows::FIRST_REDIS,
        other: Some(rows::PASS),
        figure: Figure::Cpu,
        limit: Limit::AtMost(FIRST),
    },
    Aim {
        what: "first request, Redis: CPU of Redis / nginx pass-through",
        row: rows::FIRST_REDIS,
        other: Some(rows::PASS),
        figure: Figure::Redis,
        limit: Limit::AtMost(FIRST_IN_REDIS),
    },
    Aim {
        what: "first request, Redis: p50 above nginx pass-through",
        row: rows::FIRST_REDIS,
        other: Some(rows::PASS),
        figure: Figure::Above(Quantile::P50),
        limit: Limit::AtMost(0.25),
    },
    Aim {
        what: "first request, Redis: p99 above nginx pass-through",
        row: rows::FIRST_REDIS,
        other: Some(rows::PASS),
        figure: Figure::Above(Quantile::P99),
        limit: Limit::AtMost(1.0),
    },
    Aim {
        what: "first request, embedded, on disk, 64 connections",
        row: rows::FIRST_EMBEDDED_64,
        other: None,
        figure: Figure::Rate,
        limit: Limit::AtLeast(6000.0),
    },
    Aim {
        what: "replays from the cache, 1 thread / those of idempotent-proxy from Redis",
        row: rows::CACHED,
        other: Some(rows::RIVAL_REPLAY),
        figure: Figure::RateOver,
        limit: Limit::AtLeast(5.0),
    },
    Aim {
        what: "first requests / those of idempotent-proxy, both on Redis",
        row: rows::FIRST_REDIS,
        other: Some(rows::RIVAL_FIRST),
        figure: Figure::RateOver,
        limit: Limit::AtLeast(FIRST_OVER_RIVAL),
    },
];

/// All goals, those that nothing can be said about among them.
pub(crate) fn check(results: &Results) -> Vec<Goal> {
    let mut goals: Vec<Goal> = AIMS.iter().map(|aim| aim.check(results)).collect();
    let memory = results.memory.as_ref();
    goals.push(resident("resident when idle", memory, 12.0, |memory| Ok(memory.idle)));
    goals.push(resident("resident with 10,000 idle connections", memory, 80.0, |memory| {
        if memory.connections == memory::CONNECTIONS {
            Ok(memory.connected)
        } else {
            Err(format!("there were {} connections", memory.connections))
        }
    }));
    goals
}

impl Aim {
    fn check(&self, results: &Results) -> Goal {
        let (seen, verdict) = match self.judge(results) {
            Ok((seen, verdict)) => (self.text(seen), verdict),
            Err(verdict) => (String::new(), verdict),
        };
        let limit = match self.limit {
            Limit::AtMost(limit) => format!("at most {limit}{}", self.figure.unit()),
            Limit::AtLeast(limit) => format!("at least {limit}{}", self.figure.unit()),
        };
        let (runs, plain) = (self.runs(results), self.plain(results));
        Goal { what: self.what, limit, seen, runs, plain, verdict }
    }

    /// What was seen and what it means, or why there is nothing.
    fn judge(&self, results: &Results) -> Result<(f64, Verdict), Verdict> {
        let row = sound(results, self.row)?;
        let other = self.other.map(|other| sound(results, other)).transpose()?;
        let seen = self.figure.of(row, other).ok_or_else(|| {
            Verdict::Unmeasured(format!("{} of {}", self.figure.name(), row.row.label))
        })?;
        let (room, reached) = match self.limit {
            Limit::AtMost(limit) => (limit, seen <= limit),
            Limit::AtLeast(limit) => (limit, seen >= limit),
        };
        let verdict = match self.figure {
            Figure::Cpu | Figure::Redis => Verdict::of(reached),
            Figure::Rate | Figure::RateOver => Verdict::of_rate(
                reached,
                row.is_bound_by_load(),
                other.is_some_and(Measured::is_bound_by_load),
            ),
            Figure::Above(at) => {
                let late = Measured::late_in_either(row, other.unwrap_or(row), at);
                let late = late.ok_or_else(|| Verdict::Unmeasured("the machine".to_owned()))?;
                Verdict::of_latency(seen - room, room, late)
            }
        };
        Ok((seen, verdict))
    }

    /// How far the runs are apart whose median is seen.
    fn runs(&self, results: &Results) -> String {
        let other = self.other.and_then(|other| sound(results, other).ok());
        let runs = match (sound(results, self.row), other) {
            (Ok(row), Some(other)) => self.figure.of_each_run(row, other),
            (Ok(_) | Err(_), _) => Vec::new(),
        };
        let least = runs.iter().copied().min_by(f64::total_cmp);
        let most = runs.iter().copied().max_by(f64::total_cmp);
        let range = least.zip(most).map(|(least, most)| format!("{least:.2} - {most:.2}"));
        range.unwrap_or_default()
    }

    /// What is seen of the gate as cargo builds it.
    fn plain(&self, results: &Results) -> Option<String> {
        let row = sound(results, rows::plain(self.row)?).ok()?;
        let other = self.other.map(|other| sound(results, other)).transpose().ok()?;
        Some(self.text(self.figure.of(row, other)?))
    }

    fn text(&self, seen: f64) -> String {
        let digits = if matches!(self.figure, Figure::Rate) { 0 } else { 2 };
        format!("{seen:.digits$}{}", self.figure.unit())
    }
}

/// A row that was measured without errors.
pub(crate) fn sound<'a>(results: &'a Results, id: &str) -> Result<&'a Measured, Verdict> {
    let row = results.row(id).ok_or_else(|| Verdict::Unmeasured(rows::label(id).to_owned()))?;
    match row.errors() {
        None => Ok(row),
        Some(_) => Err(Verdict::Errors(row.row.label.to_owned())),
    }
}

/// A goal for resident memory, in MiB.
fn resident(
    what: &'static str,
    memory: Option<&Memory>,
    limit: f64,
    bytes: impl Fn(&Memory) -> Result<u64, String>,
) -> Goal {
    let bytes = memory.ok_or_else(|| "memory".to_owned()).and_then(bytes);
    let (seen, verdict) = match bytes.map(|bytes| bytes as f64 / MIB) {
        Ok(seen) => (format!("{seen:.2} MiB"), Verdict::of(seen <= limit)),
        Err(why) => (String::new(), Verdict::Unmeasured(why)),
    };
    let limit = format!("at most {limit} MiB");
    Goal { what, limit, seen, runs: String::new(), plain: None, verdict }
}
