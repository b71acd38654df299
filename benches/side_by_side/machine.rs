//! What the figures were taken on.

use std::{fs, process::Command, thread::available_parallelism};

use crate::process::find;

/// Processor, kernel and versions in a line.
pub(crate) fn describe() -> String {
    let cores = available_parallelism().map_or(1, usize::from);
    let processor = fs::read_to_string("/proc/cpuinfo").ok().and_then(|info| {
        let line = info.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut parts = vec![
        format!("{cores} cores ({})", processor.as_deref().unwrap_or("unknown processor")),
        format!("Linux {}", kernel.trim()),
    ];
    parts.extend(versions());
    parts.join(", ")
}

/// A warning when other programs keep the processors busy, which reaches every figure.
pub(crate) fn busy() -> Option<String> {
    let load = fs::read_to_string("/proc/loadavg").ok()?;
    let load: f64 = load.split(' ').next()?.parse().ok()?;
    let cores = available_parallelism().map_or(1, usize::from);
    (load > 0.5 * cores as f64).then(|| {
        format!(
            "the machine was busy with other things (load {load} on {cores} cores before the start): \
             ratios are rough, and requests/s and latencies say little"
        )
    })
}

/// The first line of what each program says about itself.
fn versions() -> impl Iterator<Item = String> {
    let programs =
        [("nginx", "-v"), ("haproxy", "-v"), ("varnishd", "-V"), ("redis-server", "--version")];
    programs.into_iter().filter_map(|(program, flag)| {
        let output = Command::new(find(program)?).arg(flag).output().ok()?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        // The number, without the names of packages and builds that differ in form.
        let version =
            text.split(|c: char| c.is_whitespace() || "/=-()".contains(c)).find(|word| {
                word.contains('.') && word.split('.').all(|part| part.parse::<u32>().is_ok())
            })?;
        Some(format!("{program} {version}"))
    })
}
