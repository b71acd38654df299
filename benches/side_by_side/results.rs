//! What came out: several runs of each row, reduced to one line each.

use crate::{
    measure::{Cost, Wait},
    memory::Memory,
    rows::{self, Row},
    servers::Subject,
    verdict::{Late, Quantile},
};

/// From here on a load whose one thread computes for this part of the time is the limit.
pub(crate) const BOUND: f64 = 0.9;

/// A row and its runs.
pub(crate) struct Measured {
    pub(crate) row: Row,
    pub(crate) costs: Vec<Cost>,
    pub(crate) waits: Vec<Wait>,
    /// Why there is nothing, or not all.
    pub(crate) trouble: Option<String>,
}

impl Measured {
    pub(crate) fn new(row: Row) -> Self {
        Self { row, costs: Vec::new(), waits: Vec::new(), trouble: None }
    }

    pub(crate) fn rate(&self) -> Option<f64> {
        median(self.costs.iter().map(|cost| cost.rate))
    }

    /// Whether the load was the limit, so that the server bears more than its rate.
    pub(crate) fn is_bound_by_load(&self) -> bool {
        median(self.costs.iter().map(|cost| cost.load_share)).is_some_and(|share| share > BOUND)
    }

    /// Microseconds of processor time per request that load and backend took.
    pub(crate) fn around(&self) -> Option<f64> {
        median(self.costs.iter().map(|cost| cost.around))
    }

    /// Microseconds of processor time per request.
    pub(crate) fn cpu(&self) -> Option<f64> {
        median(self.costs.iter().map(|cost| cost.cpu))
    }

    /// One figure of the costs in units of another row's.
    pub(crate) fn over(
        &self,
        figure: impl Fn(&Cost) -> Option<f64>,
        other: &Self,
        unit: impl Fn(&Cost) -> Option<f64>,
    ) -> Option<f64> {
        over(&self.costs, figure, &other.costs, unit)
    }

    /// The same in each run.
    pub(crate) fn ratios(
        &self,
        figure: impl Fn(&Cost) -> Option<f64>,
        other: &Self,
        unit: impl Fn(&Cost) -> Option<f64>,
    ) -> Vec<f64> {
        ratios(&self.costs, figure, &other.costs, unit)
    }

    /// How far runs were apart: the widest from the median, as a part of it.
    pub(crate) fn spread(&self) -> Option<f64> {
        let middle = self.cpu()?;
        let widest = self.costs.iter().map(|cost| (cost.cpu - middle).abs()).fold(0.0, f64::max);
        Some(widest / middle)
    }

    pub(crate) fn redis(&self) -> Option<f64> {
        median(self.costs.iter().filter_map(|cost| cost.redis))
    }

    /// What clients waited, in milliseconds.
    pub(crate) fn wait(&self, at: Quantile) -> Option<f64> {
        median(self.waits.iter().map(|wait| wait.at(at)))
    }

    pub(crate) fn p999(&self) -> Option<f64> {
        median(self.waits.iter().map(|wait| wait.p999))
    }

    /// What the load was late by at p99, in milliseconds.
    pub(crate) fn load(&self) -> Option<f64> {
        median(self.waits.iter().map(|wait| wait.load))
    }

    /// What the machine itself was late by while latencies were taken.
    pub(crate) fn machine(&self, at: Quantile) -> Option<f64> {
        median(self.waits.iter().map(|wait| wait.machine.at(at)))
    }

    /// The same for the one of two rows in which it was later.
    pub(crate) fn late_in_either(one: &Self, other: &Self, at: Quantile) -> Option<Late> {
        Some(Late { at, ms: one.machine(at)?.max(other.machine(at)?) })
    }

    /// What went wrong in any run, in words.
    pub(crate) fn errors(&self) -> Option<String> {
        let costs = self.costs.iter().filter_map(|cost| cost.errors.as_ref());
        let waits = self.waits.iter().filter_map(|wait| wait.errors.as_ref());
        let (mut count, mut first) = (0, None);
        for (errors, why) in costs.chain(waits) {
            count += errors;
            first.get_or_insert(why);
        }
        let seen = first.map(|why| format!("{count} errors, the first: {why}"));
        self.trouble.clone().or(seen)
    }
}

/// Everything that one run of the program has found out.
pub(crate) struct Results {
    pub(crate) rows: Vec<Measured>,
    /// Requests per second in the measurement of latencies.
    pub(crate) pace: Option<f64>,
    pub(crate) memory: Option<Memory>,
    /// What could not be measured, and how to change that.
    pub(crate) left_out: Vec<String>,
    /// What is not there that would make one of the others faster.
    pub(crate) slower: Option<String>,
    /// What is beneath the embedded store.
    pub(crate) disk: Option<String>,
    /// Who has built what is compared.
    pub(crate) builds: Vec<String>,
    /// What else went on.
    pub(crate) busy: Option<String>,
}

impl Results {
    pub(crate) fn row(&self, id: &str) -> Option<&Measured> {
        self.rows.iter().find(|measured| measured.row.id == id)
    }

    /// Which rows have their turn in a run, and when. Every second run goes the other way, so
    /// that of two neighbours each is first as often as the other.
    pub(crate) fn turns(&self, run: usize) -> Vec<usize> {
        let place = |at: &usize| {
            let id = self.rows[*at].row.id;
            rows::TURNS.iter().position(|turn| *turn == id).unwrap_or(rows::TURNS.len())
        };
        let mut turns: Vec<usize> = (0..self.rows.len()).collect();
        turns.retain(|at| self.rows[*at].trouble.is_none());
        turns.sort_by_key(place);
        if run.is_multiple_of(2) {
            turns.reverse();
        }
        turns
    }

    /// A load under which nobody is near his end. The Python service is left out: what it
    /// bears is next to nothing for the others.
    pub(crate) fn half_of_the_slowest(&self) -> Option<f64> {
        let compared = self.rows.iter().filter(|measured| {
            measured.row.subject != Subject::Asgi && measured.errors().is_none()
        });
        compared.filter_map(Measured::rate).min_by(f64::total_cmp).map(|rate| rate / 2.0)
    }

    /// Processor time in units of what nginx takes to pass a request through.
    pub(crate) fn ratio(&self, measured: &Measured) -> Option<f64> {
        let cpu = |cost: &Cost| Some(cost.cpu);
        measured.over(cpu, self.row(rows::PASS)?, cpu)
    }
}

/// One figure in units of another: the median of what each run says. A machine's speed
/// changes from minute to minute; rows that goals compare lie seconds apart in a run.
pub(crate) fn over<T>(
    ones: &[T],
    figure: impl Fn(&T) -> Option<f64>,
    others: &[T],
    unit: impl Fn(&T) -> Option<f64>,
) -> Option<f64> {
    median(ratios(ones, figure, others, unit).into_iter())
}

/// One figure in units of another, run by run.
fn ratios<T>(
    ones: &[T],
    figure: impl Fn(&T) -> Option<f64>,
    others: &[T],
    unit: impl Fn(&T) -> Option<f64>,
) -> Vec<f64> {
    let runs = ones.iter().zip(others);
    runs.filter_map(|(one, other)| Some(figure(one)? / unit(other)?)).collect()
}

/// The middle one; noise of a shared machine reaches single runs.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}
