//! The Python that services of rivals run with.

use std::{ffi::OsString, path::PathBuf, process::Command};

use super::{Server, redis};
use crate::{
    Result,
    process::{self, Process, find, free_address},
};

/// The interpreter; one with the packages can be named.
pub(crate) const VARIABLE: &str = "SIDE_BY_SIDE_PYTHON";

pub(crate) fn interpreter() -> Option<PathBuf> {
    std::env::var_os(VARIABLE).map(named).or_else(|| find("python3"))
}

/// A server starts in a folder of its own, so that a path has to say where it begins. Links
/// are left as they are: the interpreter of an environment is one, and finds its packages by
/// where the link is.
fn named(python: OsString) -> PathBuf {
    let python = PathBuf::from(python);
    if python.components().count() == 1 {
        // The name of a program on the path.
        return python;
    }
    // It fails for an empty path, which has no component.
    std::path::absolute(&python).unwrap_or(python)
}

/// Starts uvicorn with the `app` of a script, which finds a Redis at `REDIS_PORT` if it needs
/// one, and what else it is told in its environment.
pub(crate) fn serve(script: &str, with_redis: bool, told: &[(&str, &str)]) -> Result<Server> {
    let python = interpreter().ok_or("python3 is missing; try: apt-get install python3-venv")?;
    let (address, folder) = (free_address()?, process::folder()?);
    process::write(&folder, "service.py", script)?;
    let mut command = Command::new(python);
    command.args(["-m", "uvicorn", "service:app", "--no-access-log", "--log-level", "warning"]);
    command.args(["--lifespan", "off", "--timeout-keep-alive", "3600", "--host", "127.0.0.1"]);
    command.args(["--port", &address.port().to_string()]).envs(told.iter().copied());
    let redis = if with_redis {
        let (process, at) = redis::start()?;
        command.env("REDIS_PORT", at.port().to_string());
        Some(process)
    } else {
        None
    };
    let process = Process::start("uvicorn", &mut command, folder, address)?;
    Ok(Server { address, path: "/payments", process, redis })
}

/// Whether it finds all these modules.
pub(crate) fn has(modules: &str) -> bool {
    interpreter().and_then(|python| run(python, &format!("import {modules}"))).is_some()
}

/// The interpreter's version, and those of these packages that are installed.
pub(crate) fn versions(packages: &[&str]) -> Option<String> {
    let list = format!(
        "import importlib.metadata as packages, platform\n\
         print(platform.python_version())\n\
         for name in {packages:?}:\n    \
             try: print(name, packages.version(name))\n    \
             except packages.PackageNotFoundError: pass"
    );
    let said = run(interpreter()?, &list)?;
    let mut lines = said.lines();
    let python = lines.next()?;
    let packages: Vec<&str> = lines.collect();
    Some(format!("Python {python} ({})", packages.join(", ")))
}

/// What a script writes; nothing, where it fails.
pub(crate) fn run(python: PathBuf, script: &str) -> Option<String> {
    let output = Command::new(python).args(["-c", script]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
