//! Counting.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::Result;

/// Enough calls for tables to have grown and lazy things to be there.
const FEW: u64 = 100;
/// And so many more that what differs from run to run (the seeds of hash tables) is lost
/// among them.
const MORE: u64 = 1000;

/// Instructions per call of a case.
pub(crate) fn count(case: &str) -> Result<u64> {
    let few = instructions(case, FEW)?;
    let many = instructions(case, FEW + MORE)?;
    Ok((many.saturating_sub(few) + MORE / 2) / MORE)
}

/// Where the last profile of a case is, for `callgrind_annotate`.
pub(crate) fn profile(case: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("micro-{case}.callgrind"))
}

/// Instructions of the whole program with so many calls.
fn instructions(case: &str, times: u64) -> Result<u64> {
    let profile = profile(case);
    let mut file = std::ffi::OsString::from("--callgrind-out-file=");
    file.push(&profile);
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet"])
        .arg(file)
        .arg(std::env::current_exe()?)
        .args(["--run", case, &times.to_string()])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run valgrind ({error}); try: apt-get install valgrind"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{case} under valgrind: {}: {}", output.status, said.trim()).into());
    }
    let text =
        fs::read_to_string(&profile).map_err(|error| format!("{}: {error}", profile.display()))?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    let total = total.ok_or_else(|| format!("{} has no totals", profile.display()))?;
    Ok(total.trim().parse()?)
}
