//! What the figures were taken on.

use std::{
    fs,
    thread::{self, available_parallelism},
    time::{Duration, Instant},
};

use crate::{
    Result, interrupt,
    process::find,
    servers::{asgi, idempotent_proxy, python},
    versions,
};

/// Processor, kernel and the versions of the system's servers in a line.
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
    parts.extend(PROGRAMS.into_iter().filter_map(|(program, flag)| {
        Some(format!("{program} {}", versions::version(program, flag)?))
    }));
    parts.join(", ")
}

/// The versions of what does not come with the system, where it is there.
pub(crate) fn rivals() -> Option<String> {
    let parts = [idempotent_proxy::version(), python::versions(&asgi::PACKAGES)];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// How long a machine may take to come to rest: a load average falls to half in 42 seconds,
/// and what has just been compiled is still in it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until other programs leave the processors alone, and warns when they do not: they
/// reach every figure.
pub(crate) fn rest(patience: Duration) -> Result<Option<String>> {
    let cores = available_parallelism().map_or(1, usize::from);
    let begun = Instant::now();
    let mut said = false;
    while let Some(load) = load().filter(|load| *load > 0.5 * cores as f64) {
        if begun.elapsed() >= patience {
            let waited = match patience.as_secs() {
                0 => "before the start".to_owned(),
                seconds => format!("still after a wait of {seconds} s"),
            };
            return Ok(Some(format!(
                "the machine was busy with other things (load {load} on {cores} cores {waited}): \
                 ratios are rough, and requests/s and latencies say little"
            )));
        }
        if !said {
            let seconds = patience.as_secs();
            eprintln!(
                "the machine is busy (load {load} on {cores} cores): waiting up to {seconds} s"
            );
            said = true;
        }
        interrupt::check()?;
        thread::sleep(Duration::from_secs(1));
    }
    Ok(None)
}

/// How many threads ran or wanted to, over the last minute.
fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

/// Whose packages the other servers are; nobody's, where one lies elsewhere.
pub(crate) fn distribution() -> Option<String> {
    let mut found = PROGRAMS.iter().filter_map(|(program, _)| find(program));
    if !found.all(|path| ["/usr/bin", "/usr/sbin"].iter().any(|folder| path.starts_with(folder))) {
        return None;
    }
    let release = fs::read_to_string("/etc/os-release").ok()?;
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(name.trim_matches('"').to_owned())
}

/// Servers of the system, and what makes them name their version.
const PROGRAMS: [(&str, &str); 4] =
    [("nginx", "-v"), ("haproxy", "-v"), ("varnishd", "-V"), ("redis-server", "--version")];
