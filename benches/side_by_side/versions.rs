//! Which programs, and which state of this project, something was seen with.

use std::{fs, process::Command};

use crate::process::find;

/// Which state of the project this is.
pub(crate) fn commit() -> Option<String> {
    let git = |arguments: &[&str]| {
        let folder = env!("CARGO_MANIFEST_DIR");
        let output = Command::new("git").args(["-C", folder]).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short", "HEAD"])?;
    // What the pages say of an earlier run is no part of what is measured.
    let changed = git(&["status", "--porcelain", "src", "benches", "Cargo.toml", "Cargo.lock"])?;
    Some(if changed.is_empty() { commit } else { format!("{commit} with changes") })
}

/// The number in the first words that a program says about itself.
pub(crate) fn version(program: &str, flag: &str) -> Option<String> {
    let output = Command::new(find(program)?).arg(flag).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    // Without the names of packages and builds, which differ in form.
    let version = text.split(|c: char| c.is_whitespace() || "/=-()".contains(c)).find(|word| {
        word.contains('.') && word.split('.').all(|part| part.parse::<u32>().is_ok())
    })?;
    Some(version.to_owned())
}

/// The version of a program that `cargo install` has put there, which keeps a list beside the
/// folder of programs. The program itself may have no way of saying it.
pub(crate) fn installed(program: &str) -> Option<String> {
    let folder = find(program)?.parent()?.parent()?.to_owned();
    let list = fs::read_to_string(folder.join(".crates.toml")).ok()?;
    let line = list.lines().find_map(|line| line.strip_prefix(&format!("\"{program} ")))?;
    Some(line.split(' ').next()?.to_owned())
}
