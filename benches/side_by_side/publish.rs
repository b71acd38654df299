//! The page and the picture in `docs/`.

use std::{fs, path::Path};

use crate::{Result, goals::Goal, machine, picture, results::Results, table, versions};

/// Writes `docs/side-by-side.md` and `docs/side-by-side.svg`.
pub(crate) fn write(results: &Results, goals: &[Goal], how: &str) -> Result<()> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let machine: Vec<String> =
        [Some(machine::describe()), machine::rivals()].into_iter().flatten().collect();
    let commit = versions::commit().unwrap_or_else(|| "unknown".to_owned());
    let tables = table::markdown(results, goals);
    let page = format!(
        "# Side by side\n\n\
         Written by {how}, on {}. The commit of the benchmark: {commit}.\n\
         How it is measured, and how to read it: [benchmarks.md](benchmarks.md).\n\n\
         ![CPU per request](side-by-side.svg)\n\n{tables}",
        machine.join(", "),
    );
    fs::write(docs.join("side-by-side.md"), page)?;
    fs::write(docs.join("side-by-side.svg"), picture::draw(results, &machine))?;
    eprintln!("wrote docs/side-by-side.md and docs/side-by-side.svg");
    Ok(())
}
