//! How the tables of a data folder are opened, and brought up to what its journal holds.

use std::io;

use redb::Database;

use super::{
    journal::{self, File, Flaw, Secret},
    meta::{self, Meta},
    peeking,
    row::{self, Changes},
    shelf,
    tables::{FORMAT, Layout, Reader, unavailable},
    unreadable,
};
use crate::{
    ambient::Ambient,
    mutants::{Mutant, is_active},
    store::{StoreError, StoreErrorKind},
};

/// Opens the tables, and creates them in an empty folder. Returns what is known of them, how
/// to read them, and the number of the journal's last frame with the secret of the next.
/// `name` is for errors.
pub(super) fn tables(
    database: &Database,
    responses: peeking::File,
    journal: &[File; 2],
    name: &str,
    ambient: &dyn Ambient,
) -> Result<(Layout, Reader, (u64, Secret)), StoreError> {
    let meta = meta::prepare(database, ambient)
        .map_err(|error| unavailable(&format!("store.url: cannot prepare {name}"), error))?
        .map_err(|format| {
            let what = format!(
                "store.url: {name} has format {format}, this program reads format {FORMAT}; \
                 use the version of oncegate that wrote it, or another folder"
            );
            StoreError::new(StoreErrorKind::Misconfigured, what)
        })?;
    let layout = Layout::open(database, responses).map_err(unreadable)?;
    let mut layout = layout.ok_or_else(|| damaged("the file of responses", name, MISSING))?;
    let before = Reader::open(database, &mut layout).map_err(unreadable)?;
    let last = catch_up(database, &mut layout, journal, &meta, name, ambient)?;
    let tables = Reader::open(database, &mut layout).map_err(unreadable)?;
    // With nobody to read them, redb would free the pages of before at once, and leave
    // in memory what it notes about that. Every look for a page that is not in memory
    // would then search this, until the next transaction.
    drop(before);
    Ok((layout, tables, (last, meta.secret)))
}

/// Puts what the journal holds and the tables do not into these, and returns the
/// number of its last frame.
fn catch_up(
    database: &Database,
    layout: &mut Layout,
    files: &[File; 2],
    meta: &Meta,
    name: &str,
    ambient: &dyn Ambient,
) -> Result<u64, StoreError> {
    let damaged = |how| damaged("the journal", name, how);
    let unread =
        |error: io::Error| unavailable(&format!("store.url: no journal beside {name}"), error);
    // Nobody but the tables that it was written for can read a journal.
    if meta.are_new && !journal::are_empty(files).map_err(unread)? {
        return Err(damaged(MISSING));
    }
    if meta.moved == 0 {
        journal::create(files).map_err(unread)?;
    }
    let frames =
        journal::read(files, meta.moved, &meta.secret).map_err(unread)?.map_err(|flaw| {
            damaged(match flaw {
                Flaw::Missing => MISSING,
                Flaw::Damaged => DAMAGED,
            })
        })?;
    let Some(last) = frames.last().map(|frame| frame.number) else { return Ok(meta.moved) };
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
const DAMAGED: &str = "is damaged before its end: claims that were acknowledged cannot be read, \
                       and their requests would be sent once more; restore the whole folder, or \
                       accept that and use another one";

fn damaged(file: &str, name: &str, how: &str) -> StoreError {
    StoreError::new(StoreErrorKind::Corrupt, format!("store.url: {file} beside {name} {how}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use redb::StorageBackend as _;

    use super::*;
    use crate::{
        ambient::System,
        engine::record::StoreKey,
        store::{
            EmbeddedOptions, EmbeddedStore,
            embedded::{common::Common, journal::Journal, row::Row},
        },
    };

    #[test]
    fn a_journal_that_is_damaged_before_its_end_is_refused() {
        let (prepared, files) = (Common::default(), [Common::default(), Common::default()]);
        let database = Database::builder().create_with_backend(prepared.clone()).unwrap();
        let secret = meta::prepare(&database, &System).unwrap().unwrap().secret;
        drop(database);
        let mut content = vec![0; usize::try_from(prepared.len().unwrap()).unwrap()];
        prepared.read(0, &mut content).unwrap();
        let journal = files.clone().map(|file| Box::new(file) as File);
        let mut journal = Journal::new(journal, 0, secret);
        for number in 1..=3 {
            let head = Bytes::from_static(b"a head");
            let row = Row { until: u64::MAX, response_until: 0, head, response: None };
            let change = (StoreKey::from_bytes([number; 32]), Some(Arc::new(row)));
            journal.append(&row::encode(&Changes::from([change])), true).unwrap();
        }
        let open = || {
            let (tables, responses) = (Common::default(), Common::default());
            tables.set_len(content.len() as u64).unwrap();
            tables.write(0, &content).unwrap();
            let (system, options) = (Arc::new(System), EmbeddedOptions::default());
            EmbeddedStore::with_backends(tables, responses, files.clone(), system, options)
        };
        for (damaged, found) in
            [(None, Ok(3)), (Some(0), Err(())), (Some(1), Err(())), (Some(2), Ok(2))]
        {
            let flip = || {
                let mut byte = [0];
                let Some(at) = damaged.map(|frame| frame * 4096 + 40) else { return };
                files[0].read(at, &mut byte).unwrap();
                files[0].write(at, &[byte[0] ^ 1]).unwrap();
            };
            flip();
            match open() {
                Ok(store) => assert_eq!(Ok(store.count().unwrap()), found, "{damaged:?}"),
                Err(error) => {
                    assert_eq!((Err(()), error.kind()), (found, StoreErrorKind::Corrupt));
                    assert!(error.to_string().contains("claims that were acknowledged"), "{error}");
                }
            }
            flip();
        }
    }

    #[test]
    fn a_journal_that_has_lost_its_tables_is_refused() {
        let files = [Common::default(), Common::default()];
        let open = || {
            let (tables, responses) = (Common::default(), Common::default());
            let (system, options) = (Arc::new(System), EmbeddedOptions::default());
            EmbeddedStore::with_backends(tables, responses, files.clone(), system, options)
        };
        open().unwrap();
        assert_eq!(open().unwrap_err().kind(), StoreErrorKind::Corrupt);
    }
}
