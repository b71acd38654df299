//! When a goal is reached, when it is missed, and when nothing can be said.
//!
//! 1. A figure that was not measured has no verdict, and neither has one of a row with errors.
//! 2. Processor time and memory are held against their limit.
//! 3. So are rates, where it does not depend on how much more a server bears than the load
//!    was able to give.
//! 4. A latency is, too, where the machine itself was not late by more than [`SHARE`] of what
//!    the goal leaves for the difference between two rows; both were measured on it, and it
//!    may have been late in either. It is asked at the quantile of the latency: a machine
//!    that stands still for one request in fifty says nothing about the median.
//! 5. However late the machine was, a latency is missed that is further above its limit than
//!    [`BEYOND`] times that: the machine cannot have been the reason.

use std::fmt;

/// How much of what a goal leaves the machine may take for itself.
const SHARE: f64 = 0.5;
/// How many times the machine's lateness is more than it can explain: it may have been late
/// when a request came and again when it was answered.
const BEYOND: f64 = 2.0;

/// Which of the latencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quantile {
    P50,
    P99,
}

/// By how many milliseconds the machine itself was late.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Late {
    pub(crate) at: Quantile,
    pub(crate) ms: f64,
}

/// What became of a goal.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Verdict {
    Reached(Option<Late>),
    Missed(Option<Late>),
    /// The machine itself was too late for a verdict.
    Disturbed(Late),
    /// The load could not give more requests.
    Bound,
    /// The row that has them.
    Errors(String),
    /// What there is no figure of.
    Unmeasured(String),
}

impl Verdict {
    /// For a figure that the machine's own lateness does not reach.
    pub(crate) fn of(reached: bool) -> Self {
        Self::judge(reached, None)
    }

    /// For a rate that is to be high, or so many times another one. The load may have been the
    /// limit of either, of which then only is known that it is no less.
    pub(crate) fn of_rate(reached: bool, bound: bool, other_bound: bool) -> Self {
        let open = if reached { other_bound } else { bound };
        if open { Self::Bound } else { Self::judge(reached, None) }
    }

    /// For latencies of two rows, of which a goal allows one to be `room` milliseconds longer.
    /// It is longer by `excess` more than that, or by less where this is negative.
    pub(crate) fn of_latency(excess: f64, room: f64, late: Late) -> Self {
        if excess > BEYOND * late.ms {
            Self::Missed(Some(late))
        } else if late.ms > SHARE * room {
            Self::Disturbed(late)
        } else {
            Self::judge(excess <= 0.0, Some(late))
        }
    }

    fn judge(reached: bool, late: Option<Late>) -> Self {
        if reached { Self::Reached(late) } else { Self::Missed(late) }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reached(None) => f.write_str("reached"),
            Self::Reached(Some(late)) => write!(f, "reached; {late}"),
            Self::Missed(None) => f.write_str("MISSED"),
            Self::Missed(Some(late)) => write!(f, "MISSED; {late}"),
            Self::Disturbed(late) => write!(f, "no verdict: {late}"),
            Self::Bound => f.write_str("no verdict: the load was the limit"),
            Self::Errors(row) => write!(f, "no verdict: errors of {row}"),
            Self::Unmeasured(what) => write!(f, "not measured: {what}"),
        }
    }
}

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the machine itself was late by {:.2} ms at {}", self.ms, self.at)
    }
}

impl fmt::Display for Quantile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::P50 => "p50",
            Self::P99 => "p99",
        })
    }
}
