//! The data folder on the disk.

use std::{
    fs::{self, OpenOptions},
    io,
    path::Path,
};

use redb::{DatabaseError, backends::FileBackend};

use super::{
    FILE,
    disk::{Room, Space},
    journal::File,
    paced::Paced,
    peeking::{self, Peeking},
    tables::unavailable,
};
use crate::store::{StoreError, StoreErrorKind};

/// Why the file cannot be used, in one line.
pub(super) fn not_opened(file: &Path, error: DatabaseError) -> StoreError {
    let name = file.display();
    match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::new(
            StoreErrorKind::Misconfigured,
            format!(
                "store.url: another gate uses {name}; a data folder belongs to one process, \
                 so stop the other one, or choose another folder or a redis:// store"
            ),
        ),
        DatabaseError::UpgradeRequired(version) => StoreError::new(
            StoreErrorKind::Corrupt,
            format!("store.url: {name} has version {version} of redb's format, which is not read"),
        ),
        DatabaseError::Storage(redb::StorageError::Io(error))
            if error.kind() != io::ErrorKind::InvalidData =>
        {
            unavailable(&format!("store.url: cannot open {name}"), error)
        }
        error => StoreError::new(
            StoreErrorKind::Corrupt,
            format!("store.url: {name} is damaged, or not a file of oncegate"),
        )
        .because(error),
    }
}

/// Creates the folder, for its owner only, unless it is there. The names of those above it that
/// are new last, as far as the system can.
pub(super) fn create(folder: &Path) -> io::Result<()> {
    let is_new = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
    let new: Vec<&Path> = folder.ancestors().skip(1).take_while(is_new).collect();
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)?;
    new.into_iter().try_for_each(sync)
}

/// Opens a file of the journal, and creates it if need be.
pub(super) fn journal(file: &Path) -> io::Result<File> {
    Ok(Box::new(FileBackend::new(open(file)?).map_err(io::Error::other)?))
}

/// Opens the file of the responses, and creates it if need be.
pub(super) fn responses(file: &Path) -> io::Result<peeking::File> {
    Ok(Box::new(Peeking::new(open(file)?)?))
}

/// Opens the file of the tables, and creates it if need be.
pub(super) fn tables(file: &Path) -> Result<Paced<FileBackend>, DatabaseError> {
    let file = open(file).map_err(|error| DatabaseError::Storage(error.into()))?;
    Ok(Paced::new(FileBackend::new(file)?))
}

/// Opens a file, and creates it if need be.
pub(super) fn open(file: &Path) -> io::Result<fs::File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(file)
}

/// How much room the disk of a folder has for this process. Some file systems say nothing, in
/// zeros.
#[cfg(unix)]
pub(super) fn room(folder: &Path) -> Room {
    let (folder, tables) = (folder.to_owned(), folder.join(FILE));
    Room::new(move || {
        let disk = rustix::fs::statvfs(&folder).ok().filter(|disk| disk.f_blocks > 0)?;
        let left = disk.f_bavail.saturating_mul(disk.f_frsize);
        Some(Space { left, tables: fs::metadata(&tables).ok()?.len() })
    })
}

/// Nobody is asked here.
#[cfg(not(unix))]
pub(super) fn room(_: &Path) -> Room {
    Room::unknown()
}

/// Makes the names of new files last, as far as the system can.
#[cfg(unix)]
pub(super) fn sync(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()?;
    // Somebody else's folder need not be readable; most file systems keep the name anyway.
    let parent = folder.canonicalize()?.parent().map(Path::to_path_buf);
    let _ = parent.map(|parent| fs::File::open(parent).and_then(|parent| parent.sync_all()));
    Ok(())
}

/// There is no such thing here.
#[cfg(not(unix))]
pub(super) fn sync(_: &Path) -> io::Result<()> {
    Ok(())
}
