//! The counts that are accepted, in a file of the repository.

use std::{collections::BTreeMap, fs, path::PathBuf, process::Command};

use serde::{Deserialize, Serialize};

use crate::{COMMAND, Result};

/// How much more counts as worse, as a part of what it was.
const TOLERANCE: f64 = 0.03;
/// And in instructions, below which a difference is the compiler's whim.
const SLACK: f64 = 10.0;

/// Whether this program has what is counted, and nothing that the compiler could mix with it.
const IS_ALONE: bool =
    !cfg!(any(feature = "redis", feature = "embedded", feature = "proxy", feature = "mutants"));

/// The file begins with this.
fn head() -> String {
    format!(
        "# Instructions per call, as callgrind counts them. Compared by\n\
         #   {COMMAND}\n\
         # and rewritten, when a change is worth what it costs, by\n\
         #   {COMMAND} -- --write\n\n"
    )
}

/// Counts, and what they are true for.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Baseline {
    /// The compiler, as `rustc --version` names it, without the commit.
    rustc: String,
    /// The kind of processor.
    processor: String,
    pub(crate) instructions: BTreeMap<String, u64>,
}

/// What a count means beside the baseline's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Same,
    Better,
    Worse,
    /// The baseline does not have it.
    New,
}

impl Verdict {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Same => "",
            Self::Better => "  better",
            Self::Worse => "  WORSE",
            Self::New => "  NEW",
        }
    }
}

impl Baseline {
    /// No counts yet, from this compiler on this processor.
    pub(crate) fn here() -> Result<Self> {
        let output = Command::new("rustc")
            .arg("--version")
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .map_err(|error| format!("cannot ask rustc for its version: {error}"))?;
        let version = String::from_utf8_lossy(&output.stdout);
        let rustc = version.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        let processor = std::env::consts::ARCH.to_owned();
        Ok(Self { rustc, processor, instructions: BTreeMap::new() })
    }

    pub(crate) fn read() -> Result<Self> {
        let path = path();
        let text = fs::read_to_string(&path).map_err(|error| {
            format!("{}: {error}; `{COMMAND} -- --write` makes it", path.display())
        })?;
        Ok(toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?)
    }

    pub(crate) fn write(&self) -> Result<()> {
        if !IS_ALONE {
            return Err(format!("these counts are of another build than those of {COMMAND}").into());
        }
        let path = path();
        fs::write(&path, head() + &toml::to_string(self)?)?;
        println!("\nwrote {}", path.display());
        Ok(())
    }

    /// Why counts cannot be compared with those of `other`.
    pub(crate) fn unlike(&self, other: &Self) -> Option<String> {
        if self.rustc != other.rustc || self.processor != other.processor {
            return Some(format!(
                "The baseline is of {} on {}, this is {} on {}.",
                self.rustc, self.processor, other.rustc, other.processor
            ));
        }
        (!IS_ALONE).then(|| format!("The baseline is of another build: {COMMAND}"))
    }

    /// The count that was accepted, and what `count` is beside it.
    pub(crate) fn judge(&self, case: &str, count: u64) -> (Option<u64>, Verdict) {
        let Some(&before) = self.instructions.get(case) else { return (None, Verdict::New) };
        let (more, allowed) = (count as f64 - before as f64, before as f64 * TOLERANCE);
        let allowed = allowed.max(SLACK);
        let verdict = if more > allowed {
            Verdict::Worse
        } else if more < -allowed {
            Verdict::Better
        } else {
            Verdict::Same
        };
        (Some(before), verdict)
    }
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/micro/baseline.toml")
}
