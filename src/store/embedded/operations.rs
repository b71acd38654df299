//! The operations of the store: what is there is read here, and what changes is the
//! [committer](super::committer)'s word.

use std::time::Duration;

use async_trait::async_trait;

use super::{
    EmbeddedStore,
    job::{self, Job},
    recent::Shared,
};
use crate::{
    engine::{
        codec,
        policy::Keep,
        record::{Fence, Record, StoreKey},
    },
    mutants::{Mutant, is_active},
    store::{Claimed, Cursor, Page, Store, StoreError, Write},
};

/// The most rows of a page, which has as long as any operation.
const PAGE: usize = 1000;

#[async_trait]
impl Store for EmbeddedStore {
    async fn claim(
        &self,
        key: &StoreKey,
        record: &Record,
        keep: Keep,
    ) -> Result<Claimed, StoreError> {
        let (key, fence) = (*key, record.fence());
        if is_active(Mutant::AdmitBeforeReading) {
            self.shared.check().map_err(StoreError::undone)?;
        }
        // What is there lasts, also after a write has failed; only an absent key needs the
        // committer's word.
        let now = self.shared.ambient.now();
        let found = self.find(&key, now).await.map_err(StoreError::undone)?;
        if let Some(row) = &found.row {
            let held = row.record(now);
            if held != Ok(None) {
                return job::claimed(held, fence);
            }
        }
        let keep = keep.bounded();
        let new = codec::encode(record, keep.record);
        self.ask(|reply| Job::Claim { key, fence, new, keep, found, reply }).await
    }

    async fn swap(
        &self,
        key: &StoreKey,
        expect: Fence,
        record: &Record,
        keep: Keep,
    ) -> Result<Write, StoreError> {
        let keep = keep.bounded();
        let (key, fence, new) = (*key, record.fence(), codec::encode(record, keep.record));
        self.ask(|reply| Job::Swap { key, expect, fence, new, keep, reply }).await
    }

    async fn remove(&self, key: &StoreKey, expect: Fence) -> Result<Write, StoreError> {
        let key = *key;
        self.ask(|reply| Job::Remove { key, expect, reply }).await
    }

    async fn get(&self, key: &StoreKey) -> Result<Option<Record>, StoreError> {
        let now = self.shared.ambient.now();
        let row = self.find(key, now).await?.row;
        Ok(row.map_or(Ok(None), |row| row.record(now))?)
    }

    async fn age(&self, key: &StoreKey) -> Result<Option<(Fence, Duration)>, StoreError> {
        let now = self.shared.ambient.now();
        let row = self.find(key, now).await?.row;
        Ok(row.map_or(Ok(None), |row| row.age(now))?)
    }

    async fn scan(&self, cursor: Option<Cursor>, limit: usize) -> Result<Page, StoreError> {
        let after = cursor.and_then(|cursor| StoreKey::from_hex(&cursor.0));
        let limit = limit.clamp(1, PAGE);
        let list = move |shared: &Shared| shared.list(after, limit);
        let (rows, end) = self.elsewhere("a part of its listing", list).await?;
        let now = self.shared.ambient.now();
        let mut records = Vec::with_capacity(rows.len());
        for (key, row) in rows {
            match row.map_or(Ok(None), |row| row.summary(now)) {
                Ok(summary) => records.extend(summary.map(|summary| (key, summary))),
                Err(error) => tracing::error!(%error, "a record is not listed"),
            }
        }
        Ok(Page { records, next: end.map(|key| Cursor(key.to_string())) })
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.ask(|reply| Job::Ping { reply }).await
    }
}
