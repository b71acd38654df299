//! What a caller waits for: the disk, when something is not in memory, and the
//! [committer](super::committer)'s word. Never for longer than the disk may take.

use std::sync::Arc;

use tokio::{sync::oneshot, time::timeout};

use super::{
    EmbeddedStore,
    job::{Job, Reply},
    recent::{Found, Shared},
    responses::Haste,
    tables::Broken,
    unreadable, would_wait,
};
use crate::{
    engine::record::{StoreKey, Timestamp},
    mutants::{Mutant, is_active},
    store::{StoreError, StoreErrorKind},
};

impl EmbeddedStore {
    /// The row of `key`; what has expired `now` may be left out. It is read here if it is in
    /// memory, or else where nobody else waits for it, for as long as the disk may take.
    pub(super) async fn find(&self, key: &StoreKey, now: Timestamp) -> Result<Found, StoreError> {
        match self.shared.find(key, now, Haste::Now) {
            Err(error) if would_wait(&error) => {}
            found => return found.map_err(unreadable),
        }
        let key = *key;
        self.elsewhere("a record that is not in memory", move |shared| {
            shared.find(&key, now, Haste::Wait)
        })
        .await
    }

    /// Reads `what` where nobody else waits for it, for as long as the disk may take. If that is
    /// not long enough it is there all the same, so no error here says that nothing is known.
    pub(super) async fn elsewhere<T: Send + 'static>(
        &self,
        what: &str,
        read: impl FnOnce(&Shared) -> Result<T, Broken> + Send + 'static,
    ) -> Result<T, StoreError> {
        let unread = || {
            let what = format!("the embedded store cannot read {what}");
            StoreError::new(StoreErrorKind::Corrupt, what)
        };
        let (shared, readers) = (Arc::clone(&self.shared), Arc::clone(&self.readers));
        let read = async {
            let place = readers.acquire_owned().await;
            let read = tokio::task::spawn_blocking(move || {
                let _place = place;
                read(&shared)
            });
            read.await.map_err(|_| unread())?.map_err(unreadable)
        };
        timeout(self.reply_within, read)
            .await
            .unwrap_or_else(|_| Err(unread().because(self.late())))
    }

    fn late(&self) -> StoreError {
        StoreError::timeout("the disk of the embedded store", self.reply_within)
    }

    /// Hands an operation to the committer and waits for its answer, for as long as the disk
    /// may take.
    pub(super) async fn ask<T>(&self, job: impl FnOnce(Reply<T>) -> Job) -> Result<T, StoreError> {
        self.shared.check().map_err(StoreError::undone)?;
        let limit = self.reply_within;
        let (reply, answer) = oneshot::channel();
        let job = job(reply);
        // A removal is done when the disk is back, whoever still waits for it.
        let waits = job.takes_back() || is_active(Mutant::QueueAtHungDisk);
        if !waits && self.shared.hand.is_busy_for(limit) {
            return Err(self.late().undone());
        }
        if let Some(jobs) = &self.jobs {
            // A queue without a reader drops the job, which the next line notices.
            let _ = jobs.send(job);
        }
        let answer = async { answer.await.unwrap_or_else(|_| Err(StoreError::failed())) };
        if is_active(Mutant::WaitForDisk) {
            return answer.await;
        }
        timeout(limit, answer).await.unwrap_or_else(|_| Err(self.late()))
    }
}
