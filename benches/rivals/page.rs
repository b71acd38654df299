//! What was seen as tables: for a terminal, and the same as a page of `docs/`.

use std::{fmt::Write as _, fs, path::Path};

use comfy_table::{ContentArrangement, Table, TableStyle, presets};

use crate::{
    Result, axum_service,
    cases::{CASES, Case, Finding},
    command,
    read::READ,
    servers::{idempotent_proxy, python},
    versions,
};

/// All tables, for a terminal.
pub(crate) fn terminal(findings: &[Finding]) -> String {
    let tables = CASES.map(|case| {
        format!("{}\n{}\n", case.title(), draw(presets::UTF8_FULL_CONDENSED, case, findings))
    });
    tables.join("\n")
}

/// Writes `docs/rivals.md`.
pub(crate) fn write(findings: &[Finding], missing: &[String]) -> Result<()> {
    let mut page = format!(
        "# What becomes of a key\n\n\
         Written by `{}`, with {}. The commit: {}.\n\n\
         {ABOUT}\n",
        command::line("rivals", &[python::VARIABLE]),
        seen_with().join(", "),
        versions::commit().unwrap_or_else(|| "unknown".to_owned()),
    );
    for case in CASES {
        let table = draw(presets::ASCII_MARKDOWN, case, findings);
        // A string takes whatever is written to it.
        let _ = write!(page, "\n## {}\n\n{}\n\n{table}\n", case.title(), case.what());
    }
    let _ = write!(page, "\n## How each was set up\n\n{SET_UP}");
    if !missing.is_empty() {
        let missing: String = missing.iter().map(|what| format!("- {what}\n")).collect();
        let _ = write!(page, "\n## Left out\n\nNot installed on this machine:\n\n{missing}");
    }
    let _ = write!(page, "\n## Read, not run\n\n{ABOUT_READ}\n\n{}\n", read());
    fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/rivals.md"), page)?;
    eprintln!("wrote docs/rivals.md");
    Ok(())
}

const ABOUT: &str = "\
Each case is put to everybody by the same program, from outside, with a server, a store and a service of their own. \
*Executions* is what the service's own ledger has. A client that *tries again* waits a second before each try and \
ends with the first status of 2xx, after three tries at the latest; it waits 20 s for an answer. oncegate is one of \
them, with `on_unknown = \"hold\"`, its default: it says that an outcome is unknown (502, 504, then 409) rather than \
send anything twice.";

const SET_UP: &str = "\
- nobody in between: clients speak to the service that is behind the proxies, to see that its ledger counts.
- oncegate: `--store memory:`, all settings as they come; for the slow service \
`upstream.response_timeout = \"1s\"`.
- idempotent-proxy: as it comes, with Redis and with its store in memory; for the slow service \
`REQUEST_TIMEOUT=1000` (10 s by itself). That is also how long it keeps a key, as a lock and as a record, and how \
long a retry is held that finds the lock of a request that is gone. With Redis it has ten connections, and whoever \
waits for somebody else's answer holds one of them meanwhile, so that of fifty even the first has none to record its \
answer with.
- asgi-idempotency-header: its Redis backend, under uvicorn with one process.
- fastapi-idempotency: as it comes, with its store in memory; it takes callers for the same who have the same IP \
address, and `scope=` is a function that can do otherwise.
- axum-idempotent: the header's value as the key, sessions in memory. Its clients have a session before the first \
request, and send its cookie; once more without it, which is what a client is that keeps no cookies.
";

const ABOUT_READ: &str = "\
What these do is what their source or their maintainers say, in the version or at the commit that is named. Nothing \
here was seen happening.";

/// Whatever takes part, with versions.
fn seen_with() -> Vec<String> {
    let build = if cfg!(debug_assertions) { "for development" } else { "for release" };
    let mut parts = vec![format!("oncegate {} (built {build})", env!("CARGO_PKG_VERSION"))];
    parts.extend(idempotent_proxy::version());
    parts.push(axum_service::version());
    parts.extend(python::versions(&[
        "asgi-idempotency-header",
        "fastapi-idempotency",
        "starlette",
        "uvicorn",
        "redis",
    ]));
    let redis = versions::version("redis-server", "--version");
    parts.extend(redis.map(|version| format!("redis-server {version}")));
    parts
}

fn draw(style: TableStyle, case: Case, findings: &[Finding]) -> Table {
    let columns = case.columns();
    let rows = findings.iter().filter(|finding| finding.case == case).map(|finding| {
        let mut cells = vec![finding.subject.name().to_owned()];
        match &finding.cells {
            Ok(seen) => cells.extend(seen.iter().cloned()),
            Err(why) => cells.push(format!("not seen: {why}")),
        }
        cells.resize(columns.len() + 1, String::new());
        cells
    });
    table(style, [&[""], columns].concat(), rows.collect())
}

fn read() -> Table {
    let rows = READ.iter().map(|read| {
        let cells = [read.name, read.duplicate, read.other_payload, read.worth_knowing, read.place];
        cells.map(str::to_owned).to_vec()
    });
    let header =
        ["", "duplicate while running", "same key, other payload", "worth knowing", "where"];
    table(presets::ASCII_MARKDOWN, header.to_vec(), rows.collect())
}

fn table(style: TableStyle, header: Vec<&str>, rows: Vec<Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_style(style).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header).add_rows(rows);
    table
}
