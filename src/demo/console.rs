//! What the demo says: the only place that prints.
//!
//! Results go to stdout. Progress and complaints go to stderr: a bar on a
//! terminal, a line at every quarter elsewhere.

use std::{
    error::Error,
    fmt::Display,
    sync::atomic::{AtomicU64, Ordering},
};

use indicatif::{ProgressBar, ProgressStyle};

/// Says a line of the result.
#[allow(clippy::print_stdout, reason = "the demo's result is what stdout is for")]
pub(crate) fn say(line: impl Display) {
    println!("{line}");
}

/// Says a line that is not part of the result.
#[allow(clippy::print_stderr, reason = "the demo's progress is what stderr is for")]
pub(crate) fn note(line: impl Display) {
    eprintln!("{line}");
}

/// Says what went wrong, with everything that led to it.
pub(crate) fn complain(error: &(dyn Error + 'static)) {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        // Many messages quote their source already.
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    note(format_args!("oncegate demo: {text}"));
}

/// How far a round is.
#[derive(Debug)]
pub(crate) struct Progress {
    name: &'static str,
    bar: ProgressBar,
    total: u64,
    done: AtomicU64,
}

impl Progress {
    /// Begins at 0 of `total`.
    pub(crate) fn new(name: &'static str, total: u64) -> Self {
        let style =
            ProgressStyle::with_template("{prefix:42} {bar:24} {pos:>6}/{len} {elapsed:>4}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(total).with_style(style).with_prefix(name);
        Self { name, bar, total, done: AtomicU64::new(0) }
    }

    /// One more is done.
    pub(crate) fn advance(&self) {
        self.bar.inc(1);
        let done = 1 + self.done.fetch_add(1, Ordering::Relaxed);
        if !self.bar.is_hidden() || self.total == 0 {
            return;
        }
        if done * 4 / self.total > (done - 1) * 4 / self.total {
            note(format_args!("{}: {done} of {}", self.name, self.total));
        }
    }

    /// The round is over; the bar stays as it is.
    pub(crate) fn finish(&self) {
        self.bar.abandon();
    }
}
