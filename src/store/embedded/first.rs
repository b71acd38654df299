//! The first start in a data folder.
//!
//! 1. The tables get their name when they are whole: they are made under another one, forced
//!    to the disk and renamed. An interruption leaves a folder without tables, and the next
//!    start begins anew.
//! 2. One process at a time does so: it holds the lock of a file that nobody removes, and
//!    under the lock it looks once more whether the tables are there. So what lies under the
//!    other name belongs to nobody, and no tables are ever replaced.
//! 3. Nothing else is in the folder before: where a journal or responses are and no tables, these
//!    were lost, and nothing is begun over what is left.
//! 4. Where the tables are there the lock is not asked for: they have one of their own.
//!
//! The journal and the responses may be cut short in their first start: nothing is in them
//! before all of it is there, and their next opening makes up for what is missing.

use std::{
    fs::{self, OpenOptions, TryLockError},
    io,
    path::Path,
};

use redb::{Database, DatabaseError, StorageBackend};

use super::{
    FILE, JOURNAL, RESPONSES,
    folder::{self, not_opened},
    meta,
    tables::unavailable,
};
use crate::{
    ambient::Ambient,
    mutants::{Mutant, is_active},
    store::{StoreError, StoreErrorKind},
};

/// The tables before they are whole.
const NEW: &str = "records.redb.new";

/// The file whose lock is that of the folder.
const LOCK: &str = "lock";

/// Makes the tables of a folder that has none, in a file that `backend` writes.
pub(super) fn begin<B: StorageBackend>(
    folder: &Path,
    ambient: &dyn Ambient,
    backend: impl FnOnce(fs::File) -> Result<B, DatabaseError>,
) -> Result<(), StoreError> {
    let (file, unwritten) = (folder.join(FILE), unwritten(folder));
    if is_there(&file).map_err(unwritten)? {
        return Ok(());
    }
    let lock = folder::open(&folder.join(LOCK)).map_err(unwritten)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(not_opened(&file, DatabaseError::DatabaseAlreadyOpen));
        }
        // The tables could not be locked here either.
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
        Err(TryLockError::Error(error)) => return Err(unwritten(error)),
    }
    if is_there(&file).map_err(unwritten)? {
        return Ok(());
    }
    for rest in JOURNAL.into_iter().chain([RESPONSES]) {
        if is_there(&folder.join(rest)).map_err(unwritten)? {
            return Err(lost(&file, rest));
        }
    }
    let new = folder.join(if is_active(Mutant::CreateInPlace) { FILE } else { NEW });
    make(&new, ambient, backend, unwritten)?;
    fs::rename(&new, &file).map_err(unwritten)?;
    folder::sync(folder).map_err(unwritten)
}

/// Makes tables and forces them to the disk.
fn make<B: StorageBackend>(
    new: &Path,
    ambient: &dyn Ambient,
    backend: impl FnOnce(fs::File) -> Result<B, DatabaseError>,
    unwritten: impl Fn(io::Error) -> StoreError + Copy,
) -> Result<(), StoreError> {
    match fs::remove_file(new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unwritten(error)),
        Ok(()) | Err(_) => {}
    }
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(new);
    let file = file.map_err(unwritten)?;
    let unmade = |error| not_opened(new, error);
    let tables = backend(file.try_clone().map_err(unwritten)?).map_err(unmade)?;
    let database = Database::builder().create_with_backend(tables).map_err(unmade)?;
    // What was made just now has this format.
    let _ = meta::prepare(&database, ambient).map_err(|error| {
        unavailable(&format!("store.url: cannot prepare {}", new.display()), error)
    })?;
    drop(database);
    file.sync_all().map_err(unwritten)
}

/// Whether a file is there. One without a byte is what an interruption may leave of a name.
fn is_there(file: &Path) -> io::Result<bool> {
    match fs::metadata(file) {
        Ok(found) => Ok(found.len() > 0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn unwritten(folder: &Path) -> impl Fn(io::Error) -> StoreError + Copy {
    move |error| {
        let name = folder.display();
        unavailable(&format!("store.url: cannot write the data folder {name}"), error)
    }
}

fn lost(tables: &Path, rest: &str) -> StoreError {
    let name = tables.display();
    let what = format!(
        "store.url: {name} is missing from a data folder that has its {rest}; \
         restore it, or use another folder"
    );
    StoreError::new(StoreErrorKind::Corrupt, what)
}

#[cfg(test)]
#[path = "first_tests.rs"]
mod tests;
