//! How the tables of a data folder are opened, and brought up to what its journal holds.

use redb::Database;

use super::{
    journal::{self, File},
    row::{self, Changes},
    shelf,
    tables::{self, Layout, Reader, unavailable},
    unreadable,
};
use crate::{
    ambient::Ambient,
    mutants::{Mutant, is_active},
    store::{StoreError, StoreErrorKind},
};

/// Opens the tables, and creates them in an empty folder. Returns what is known of them, how
/// to read them, and the number of the journal's last frame. `name` is for errors.
pub(super) fn tables(
    database: &Database,
    responses: File,
    journal: &[File; 2],
    name: &str,
    ambient: &dyn Ambient,
) -> Result<(Layout, Reader, u64), StoreError> {
    let (format, moved) = tables::prepare(database)
        .map_err(|error| unavailable(&format!("store.url: cannot prepare {name}"), error))?;
    if format != tables::FORMAT {
        return Err(StoreError::new(
            StoreErrorKind::Misconfigured,
            format!(
                "store.url: {name} has format {format}, this program reads format {}; \
                 use the version of oncegate that wrote it, or another folder",
                tables::FORMAT
            ),
        ));
    }
    let layout = Layout::open(database, responses).map_err(unreadable)?;
    let mut layout = layout.ok_or_else(|| damaged("the file of responses", name, MISSING))?;
    let before = Reader::open(database, &mut layout).map_err(unreadable)?;
    let last = catch_up(database, &mut layout, journal, moved, name, ambient)?;
    let tables = Reader::open(database, &mut layout).map_err(unreadable)?;
    // With nobody to read them, redb would free the pages of before at once, and leave
    // in memory what it notes about that. Every look for a page that is not in memory
    // would then search this, until the next transaction.
    drop(before);
    Ok((layout, tables, last))
}

/// Puts what the journal holds after frame `moved` into the tables, and returns the
/// number of its last frame.
fn catch_up(
    database: &Database,
    layout: &mut Layout,
    files: &[File; 2],
    moved: u64,
    name: &str,
    ambient: &dyn Ambient,
) -> Result<u64, StoreError> {
    let damaged = |how| damaged("the journal", name, how);
    if moved == 0 {
        journal::create(files)
            .map_err(|error| unavailable(&format!("store.url: no journal beside {name}"), error))?;
    }
    let frames = journal::read(files, moved)
        .map_err(|error| unavailable(&format!("store.url: no journal beside {name}"), error))?
        .ok_or_else(|| damaged(MISSING))?;
    let Some(last) = frames.last().map(|frame| frame.number) else { return Ok(moved) };
    if is_active(Mutant::ForgetJournal) {
        return Ok(last);
    }
    let mut changes = Changes::new();
    for frame in frames {
        row::decode_into(frame.changes, &mut changes).ok_or_else(|| damaged("is damaged"))?;
    }
    tracing::info!(records = changes.len(), "the last run's journal is moved into the tables");
    shelf::store(database, layout, &changes, last, ambient.now(), 0)
        .map_err(|error| unavailable(&format!("store.url: cannot write {name}"), error))?;
    Ok(last)
}

const MISSING: &str = "does not belong to it";

fn damaged(file: &str, name: &str, how: &str) -> StoreError {
    StoreError::new(StoreErrorKind::Corrupt, format!("store.url: {file} beside {name} {how}"))
}
