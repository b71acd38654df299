//! The payment service's own record of what it executed: one redb file, one
//! thread that owns it.
//!
//! 1. A payment is on the disk before [`Ledger::add`] returns.
//! 2. Everything passes through the owning thread in the order in which it came
//!    in, so that a reading sees every payment that was handed in before it.
//! 3. The payments of a moment share one commit.

use std::{collections::HashMap, path::Path, sync::Arc};

use redb::{Database, ReadableDatabase, ReadableTable};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use super::error::DemoError;
use file::{BATCH, BY_REFERENCE, ROWS};

mod file;

/// A payment to be executed.
#[derive(Clone, Debug)]
pub(crate) struct Payment {
    /// Whole euros.
    pub(crate) amount: u64,
    /// The payment's own number.
    pub(crate) reference: String,
    /// The `Idempotency-Key` that came with it, for the record only.
    pub(crate) key: Option<String>,
    /// What to do when the key has been seen.
    pub(crate) repeats: Repeats,
}

/// What happens to a payment whose key is in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeats {
    /// It is executed: the service is naive.
    Execute,
    /// The first result stands.
    Deduplicate,
}

/// What became of a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Added {
    /// It was executed and got this id.
    New(u64),
    /// It had been executed under this id.
    Known(u64),
}

/// An executed payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Row {
    /// The ledger's number.
    pub(crate) id: u64,
    /// Whole euros.
    pub(crate) amount: u64,
    /// The payment's own number.
    pub(crate) reference: String,
    /// The idempotency key that came with it.
    pub(crate) key: Option<String>,
}

/// The ledger's sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Totals {
    /// Rows.
    pub(crate) count: u64,
    /// Euros.
    pub(crate) sum: u64,
    /// References with exactly one row.
    pub(crate) once: u64,
    /// References with more than one row.
    pub(crate) doubled: u64,
    /// Rows beyond the first of their reference.
    pub(crate) surplus: u64,
}

/// The ledger failed.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum LedgerError {
    /// The database refused; nothing of the request was written.
    #[error("the ledger's database: {0}")]
    Database(#[from] Arc<redb::Error>),
    /// The owning thread is gone.
    #[error("the ledger is closed")]
    Closed,
}

/// A handle to the ledger; the last one that is dropped closes the file.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    commands: mpsc::Sender<Command>,
}

/// The thread that owns the file.
#[derive(Debug)]
pub(crate) struct Owner(JoinHandle<()>);

enum Command {
    Add(Payment, oneshot::Sender<Result<Added, LedgerError>>),
    Run(Box<dyn FnOnce(&Database) + Send>),
}

impl Ledger {
    /// Opens the ledger in `folder`, or makes one.
    ///
    /// # Errors
    /// [`DemoError::OpenLedger`].
    pub(crate) async fn open(folder: &Path) -> Result<(Self, Owner), DemoError> {
        let path = folder.join("payments.redb");
        let database = tokio::task::spawn_blocking({
            let path = path.clone();
            move || file::open(&path)
        })
        .await
        .map_err(|error| DemoError::OpenLedger { path: path.clone(), reason: error.into() })??;
        let (commands, queue) = mpsc::channel(4 * BATCH);
        let owner = tokio::task::spawn_blocking(move || file::own(&database, queue));
        Ok((Self { commands }, Owner(owner)))
    }

    /// Executes a payment; it is on the disk when this returns.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub(crate) async fn add(&self, payment: Payment) -> Result<Added, LedgerError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Add(payment, reply)).await.map_err(|_| LedgerError::Closed)?;
        answer.await.map_err(|_| LedgerError::Closed)?
    }

    /// Empties the ledger; numbers begin at 1 again.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub(crate) async fn clear(&self) -> Result<(), LedgerError> {
        self.run(file::clear).await
    }

    /// The sums.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub(crate) async fn totals(&self) -> Result<Totals, LedgerError> {
        Ok(Totals::of(&self.rows().await?))
    }

    /// All rows.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub(crate) async fn rows(&self) -> Result<Vec<Row>, LedgerError> {
        self.run(|database| {
            let rows = database.begin_read()?.open_table(ROWS)?;
            rows.iter()?
                .map(|entry| entry.map(|(id, row)| Row::new(id.value(), row.value())))
                .collect::<Result<_, _>>()
                .map_err(redb::Error::from)
        })
        .await
    }

    /// The rows of one payment.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub(crate) async fn find(&self, reference: String) -> Result<Vec<Row>, LedgerError> {
        self.run(move |database| {
            let read = database.begin_read()?;
            let rows = read.open_table(ROWS)?;
            let mut found = Vec::new();
            for id in read.open_multimap_table(BY_REFERENCE)?.get(reference.as_str())? {
                let id = id?.value();
                found.extend(rows.get(id)?.map(|row| Row::new(id, row.value())));
            }
            Ok(found)
        })
        .await
    }

    /// The row with this number.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub(crate) async fn get(&self, id: u64) -> Result<Option<Row>, LedgerError> {
        self.run(move |database| {
            let rows = database.begin_read()?.open_table(ROWS)?;
            Ok(rows.get(id)?.map(|row| Row::new(id, row.value())))
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Database) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let (reply, answer) = oneshot::channel();
        let job = move |database: &Database| {
            // Who asked may be gone by now.
            let _ = reply.send(job(database).map_err(|error| LedgerError::from(Arc::new(error))));
        };
        self.commands.send(Command::Run(Box::new(job))).await.map_err(|_| LedgerError::Closed)?;
        answer.await.map_err(|_| LedgerError::Closed)?
    }
}

impl Owner {
    /// Resolves when the last [`Ledger`] is gone and the file is closed.
    pub(crate) async fn closed(self) {
        // A panic of the thread has been reported to everyone who waited for it.
        let _ = self.0.await;
    }
}

impl Row {
    fn new(id: u64, (amount, reference, key): (u64, &str, Option<&str>)) -> Self {
        Self { id, amount, reference: reference.to_owned(), key: key.map(str::to_owned) }
    }
}

impl Totals {
    /// Sums `rows` up.
    pub(crate) fn of(rows: &[Row]) -> Self {
        let mut executions = HashMap::<&str, u64>::new();
        for row in rows {
            *executions.entry(&row.reference).or_default() += 1;
        }
        Self {
            count: rows.len() as u64,
            sum: rows.iter().map(|row| row.amount).sum(),
            once: executions.values().filter(|times| **times == 1).count() as u64,
            doubled: executions.values().filter(|times| **times > 1).count() as u64,
            surplus: executions.values().map(|times| times - 1).sum(),
        }
    }
}
