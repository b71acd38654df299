//! The service with axum-idempotent in it, a package of its own in `axum/`.
//!
//! It is built here, once, into the folder for what benches leave behind; one that is there
//! already can be named.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use crate::{
    Result,
    backend::Mode,
    process::{self, Process, free_address},
    servers::Server,
};

/// The program, where it is not to be built.
const VARIABLE: &str = "RIVALS_AXUM";
const PACKAGE: &str = "benches/rivals/axum/Cargo.toml";
const LOCK: &str = include_str!("axum/Cargo.lock");

/// The version that the package is held at.
pub(crate) fn version() -> String {
    let after = LOCK.split("name = \"axum-idempotent\"\nversion = \"").nth(1);
    let version = after.and_then(|rest| rest.split('"').next()).unwrap_or("of unknown version");
    format!("axum-idempotent {version}")
}

/// Why there is none, with what to do about it.
pub(crate) fn missing() -> Option<String> {
    let why = program().as_ref().err()?;
    Some(format!(
        "axum-idempotent: {why}; try: cargo build --locked --manifest-path {PACKAGE}, then set \
         {VARIABLE}=benches/rivals/axum/target/debug/axum-service"
    ))
}

pub(crate) fn start(mode: Mode) -> Result<Server> {
    let program = program().as_ref().map_err(Clone::clone)?;
    let (address, folder) = (free_address()?, process::folder()?);
    let mut command = Command::new(program);
    command.env("ADDRESS", address.to_string()).env("MODE", mode.name());
    let process = Process::start("axum-service", &mut command, folder, address)?;
    Ok(Server { address, path: "/payments", process, redis: None })
}

fn program() -> &'static Result<PathBuf, String> {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    PROGRAM.get_or_init(|| match std::env::var_os(VARIABLE) {
        // A server starts in a folder of its own, so that a path has to say where it begins.
        Some(named) => Path::new(&named)
            .canonicalize()
            .map_err(|why| format!("what {VARIABLE} names is not there: {why}")),
        None => build(),
    })
}

fn build() -> Result<PathBuf, String> {
    eprintln!("building {PACKAGE}");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("rivals-axum");
    // The cargo that runs this bench says which one it is.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--locked", "--manifest-path"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(PACKAGE))
        .arg("--target-dir")
        .arg(&folder)
        .output()
        .map_err(|why| format!("cargo does not run: {why}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let first = said.lines().find(|line| line.starts_with("error")).unwrap_or("no error");
        return Err(format!("it was not built: {first}"));
    }
    Ok(folder.join("debug/axum-service"))
}
