//! The command line, and which runs are fit for the pages in `docs/`.

use std::{path::PathBuf, time::Duration};

use clap::Parser;

use crate::{
    Result,
    command::{line, without_folders},
    machine,
    servers::{gate, python},
};

/// What a run is by itself, and what a page takes at the least.
const USUAL: Extent = Extent { runs: 8, seconds: 1.0 };
/// The same with `--grow`, where each figure takes far longer to prepare.
const USUAL_GROW: Extent = Extent { runs: 3, seconds: 1.0 };
const QUICK: Extent = Extent { runs: 2, seconds: 1.0 };
/// The numbers of records on the page.
const SIZES: [u64; 3] = [10_000, 1_000_000, 10_000_000];

/// Compares oncegate with nginx, HAProxy, Varnish and other gates.
#[derive(Parser)]
#[command(name = "cargo bench --bench side_by_side --")]
pub(crate) struct Options {
    /// Rows whose ids contain one of these, separated by commas; `--list` names them. With
    /// `--grow`: redis or embedded.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// How long a measurement takes; 1 by itself. Latencies of the embedded store take 10.
    #[arg(long)]
    seconds: Option<f64>,
    /// How often each row is measured; 8 times by itself, 3 with `--grow`.
    #[arg(long)]
    runs: Option<usize>,
    /// Two runs of a second, and nothing is written.
    #[arg(long)]
    quick: bool,
    /// Processor time only.
    #[arg(long)]
    pub(crate) no_latency: bool,
    /// Requests per second in the measurement of latencies, in place of half of what the
    /// slowest bears.
    #[arg(long)]
    pub(crate) rate: Option<f64>,
    /// What requests cost when there are so many records, in place of everything else;
    /// without numbers: 10000,1000000,10000000.
    #[arg(long, value_delimiter = ',', num_args = 0.., default_missing_value = "10000,1000000,10000000")]
    pub(crate) grow: Vec<u64>,
    /// With `--grow`: what the gate's `store.page_cache` is, as in 640MiB.
    #[arg(long)]
    pub(crate) page_cache: Option<String>,
    /// Another build of the gate.
    #[arg(long)]
    pub(crate) gate: Option<PathBuf>,
    /// Names the rows and ends.
    #[arg(long)]
    pub(crate) list: bool,
    /// `cargo bench` says this to every benchmark, `cargo test --all-targets` does not.
    #[arg(long, hide = true)]
    pub(crate) bench: bool,
}

/// How much is measured.
#[derive(Clone, Copy)]
struct Extent {
    runs: usize,
    seconds: f64,
}

impl Options {
    pub(crate) fn wants(&self, id: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| id.contains(part.as_str()))
    }

    pub(crate) fn runs(&self) -> usize {
        self.extent().runs
    }

    /// How long a measurement takes.
    ///
    /// # Errors
    /// When that is no time.
    pub(crate) fn duration(&self) -> Result<Duration> {
        let seconds = self.extent().seconds;
        Ok(Duration::try_from_secs_f64(seconds).map_err(|error| format!("--seconds: {error}"))?)
    }

    /// Why this run is not written to a page, if it is not.
    pub(crate) fn unfit(&self) -> Option<String> {
        let (own, usual) = (self.extent(), self.usual());
        let given = [
            (self.quick, "--quick"),
            (self.no_latency, "--no-latency"),
            (self.rate.is_some(), "--rate"),
            (!self.only.is_empty(), "--only"),
        ];
        if let Some((_, option)) = given.into_iter().find(|(given, _)| *given) {
            return Some(format!("{option} was given"));
        }
        if own.runs < usual.runs || own.seconds < usual.seconds {
            return Some(format!("a page takes {} runs of {} s", usual.runs, usual.seconds));
        }
        if !self.grow.is_empty() && !SIZES.iter().all(|size| self.grow.contains(size)) {
            return Some("a page takes each of the usual numbers of records".to_owned());
        }
        // The load and the gate that cargo builds would not be what people run.
        cfg!(debug_assertions).then(|| "this is a build for development".to_owned())
    }

    /// What a page says about how it was made.
    pub(crate) fn how(&self) -> String {
        let Extent { runs, seconds } = self.extent();
        let command = line("side_by_side", &[python::VARIABLE]);
        format!("`{command}`: {runs} runs of {seconds} s for each figure")
    }

    /// Who has built what is compared.
    pub(crate) fn builds(&self) -> Vec<String> {
        let plain = if cfg!(debug_assertions) {
            "a build for development"
        } else {
            "`cargo build --release`"
        };
        let gate = match &self.gate {
            Some(gate) if gate::is_named() => format!(
                "oncegate is {}, and as cargo builds it, {plain}",
                without_folders(&gate.display().to_string())
            ),
            Some(_) | None => format!("oncegate is as cargo builds it, {plain}"),
        };
        let others = machine::distribution()
            .map(|name| format!("nginx, HAProxy, Varnish and Redis are the builds of {name}"));
        [Some(gate), others].into_iter().flatten().collect()
    }

    fn usual(&self) -> Extent {
        if self.grow.is_empty() { USUAL } else { USUAL_GROW }
    }

    fn extent(&self) -> Extent {
        if self.quick {
            return QUICK;
        }
        let usual = self.usual();
        Extent {
            runs: self.runs.unwrap_or(usual.runs),
            seconds: self.seconds.unwrap_or(usual.seconds),
        }
    }
}
