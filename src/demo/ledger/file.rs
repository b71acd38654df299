//! The ledger's file and the thread that owns it.

use std::{path::Path, sync::Arc};

use redb::{Database, Durability, MultimapTableDefinition, ReadableTable, TableDefinition};
use tokio::sync::{mpsc, oneshot};

use super::{Added, Command, DemoError, LedgerError, Payment, Repeats};

/// Amount, reference, and the idempotency key that was seen.
type StoredRow = (u64, &'static str, Option<&'static str>);

/// Every payment by its number.
pub(super) const ROWS: TableDefinition<'_, u64, StoredRow> = TableDefinition::new("payments");
/// The numbers of a reference.
pub(super) const BY_REFERENCE: MultimapTableDefinition<'_, &str, u64> =
    MultimapTableDefinition::new("by_reference");
/// The first number of a key.
const FIRST_BY_KEY: TableDefinition<'_, &str, u64> = TableDefinition::new("first_by_key");

/// The most commands that are taken from the queue at once.
pub(super) const BATCH: usize = 256;

/// Opens the file, or makes one, and its folder with it.
///
/// # Errors
/// [`DemoError::OpenLedger`].
pub(super) fn open(path: &Path) -> Result<Database, DemoError> {
    let failed = |reason| DemoError::OpenLedger { path: path.to_owned(), reason };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| failed(error.into()))?;
    }
    let database = Database::create(path).map_err(|error| failed(error.into()))?;
    make_tables(&database).map_err(|error| failed(error.into()))?;
    Ok(database)
}

/// Executes what comes through `queue` until all its senders are gone.
pub(super) fn own(database: &Database, mut queue: mpsc::Receiver<Command>) {
    let mut batch = Vec::with_capacity(BATCH);
    while queue.blocking_recv_many(&mut batch, BATCH) > 0 {
        let mut payments = Vec::new();
        for command in batch.drain(..) {
            match command {
                Command::Add(payment, reply) => payments.push((payment, reply)),
                Command::Run(job) => {
                    commit(database, std::mem::take(&mut payments));
                    job(database);
                }
            }
        }
        commit(database, payments);
    }
}

fn commit(
    database: &Database,
    payments: Vec<(Payment, oneshot::Sender<Result<Added, LedgerError>>)>,
) {
    if payments.is_empty() {
        return;
    }
    let (payments, replies): (Vec<_>, Vec<_>) = payments.into_iter().unzip();
    // A reply that nobody waits for is the naive service's daily bread: the
    // payment is executed all the same.
    match write(database, &payments) {
        Ok(added) => {
            for (reply, added) in replies.into_iter().zip(added) {
                let _ = reply.send(Ok(added));
            }
        }
        Err(error) => {
            let error = Arc::new(error);
            for reply in replies {
                let _ = reply.send(Err(LedgerError::from(Arc::clone(&error))));
            }
        }
    }
}

fn write(database: &Database, payments: &[Payment]) -> Result<Vec<Added>, redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    let mut results = Vec::with_capacity(payments.len());
    {
        let mut rows = transaction.open_table(ROWS)?;
        let mut by_reference = transaction.open_multimap_table(BY_REFERENCE)?;
        let mut first_by_key = transaction.open_table(FIRST_BY_KEY)?;
        let mut next = rows.last()?.map_or(1, |(id, _)| id.value() + 1);
        for Payment { amount, reference, key, repeats } in payments {
            let first = match key.as_deref() {
                Some(key) => first_by_key.get(key)?.map(|id| id.value()),
                None => None,
            };
            if let (Some(first), Repeats::Deduplicate) = (first, repeats) {
                results.push(Added::Known(first));
                continue;
            }
            rows.insert(next, (*amount, reference.as_str(), key.as_deref()))?;
            by_reference.insert(reference.as_str(), next)?;
            if let (None, Some(key)) = (first, key.as_deref()) {
                first_by_key.insert(key, next)?;
            }
            results.push(Added::New(next));
            next += 1;
        }
    }
    transaction.commit()?;
    Ok(results)
}

fn make_tables(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(ROWS)?;
    transaction.open_multimap_table(BY_REFERENCE)?;
    transaction.open_table(FIRST_BY_KEY)?;
    Ok(transaction.commit()?)
}

/// Empties every table.
///
/// # Errors
/// Whatever the database met; the ledger is as it was.
pub(super) fn clear(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.delete_table(ROWS)?;
    transaction.delete_multimap_table(BY_REFERENCE)?;
    transaction.delete_table(FIRST_BY_KEY)?;
    transaction.commit()?;
    make_tables(database)
}
