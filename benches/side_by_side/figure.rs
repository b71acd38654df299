//! What goals look at in one row, or in two.

use crate::{measure::Cost, results::Measured, verdict::Quantile};

/// What is looked at.
#[derive(Clone, Copy)]
pub(crate) enum Figure {
    /// Processor time in units of the other row's.
    Cpu,
    /// The same of the Redis that the row uses.
    Redis,
    /// How far a latency is above the other row's, in milliseconds.
    Above(Quantile),
    /// Requests a second.
    Rate,
    /// The same in units of the other row's.
    RateOver,
}

impl Figure {
    /// `None` where it was not measured.
    pub(crate) fn of(self, one: &Measured, other: Option<&Measured>) -> Option<f64> {
        let cpu = |cost: &Cost| Some(cost.cpu);
        let rate = |cost: &Cost| Some(cost.rate);
        match self {
            Self::Cpu => one.over(cpu, other?, cpu),
            Self::Redis => one.over(|cost| cost.redis, other?, cpu),
            Self::Above(at) => Some(one.wait(at)? - other?.wait(at)?),
            Self::Rate => one.rate(),
            Self::RateOver => one.over(rate, other?, rate),
        }
    }

    /// The same for each run, where it is taken within a run.
    pub(crate) fn of_each_run(self, one: &Measured, other: &Measured) -> Vec<f64> {
        let cpu = |cost: &Cost| Some(cost.cpu);
        let rate = |cost: &Cost| Some(cost.rate);
        match self {
            Self::Cpu => one.ratios(cpu, other, cpu),
            Self::Redis => one.ratios(|cost| cost.redis, other, cpu),
            Self::RateOver => one.ratios(rate, other, rate),
            Self::Above(_) | Self::Rate => Vec::new(),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cpu => "processor time",
            Self::Redis => "Redis's processor time",
            Self::Above(_) => "latencies",
            Self::Rate | Self::RateOver => "requests/s",
        }
    }

    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Cpu | Self::Redis | Self::RateOver => "x",
            Self::Above(_) => " ms",
            Self::Rate => "/s",
        }
    }
}
