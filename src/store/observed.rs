//! A store whose operations are timed.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use metrics::{Counter, Histogram, counter, histogram};

use super::{Claimed, Cursor, Page, Store, StoreError, Write};
use crate::engine::{
    policy::Keep,
    record::{Fence, Record, StoreKey},
};

/// Times every operation of another store.
#[derive(Debug)]
pub(crate) struct ObservedStore<S> {
    inner: S,
    claim: Operation,
    swap: Operation,
    remove: Operation,
    get: Operation,
    scan: Operation,
    ping: Operation,
}

struct Operation {
    durations: Histogram,
    errors: Counter,
}

impl Operation {
    fn new(op: &'static str) -> Self {
        Self {
            durations: histogram!("oncegate_store_operation_duration_seconds", "op" => op),
            errors: counter!("oncegate_store_errors_total", "op" => op),
        }
    }

    async fn time<T>(
        &self,
        operation: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let since = Instant::now();
        let result = operation.await;
        self.durations.record(since.elapsed());
        if result.is_err() {
            self.errors.increment(1);
        }
        result
    }
}

impl std::fmt::Debug for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Operation")
    }
}

impl<S: Store> ObservedStore<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self {
            inner,
            claim: Operation::new("claim"),
            swap: Operation::new("swap"),
            remove: Operation::new("remove"),
            get: Operation::new("get"),
            scan: Operation::new("scan"),
            ping: Operation::new("ping"),
        }
    }
}

#[async_trait]
impl<S: Store> Store for ObservedStore<S> {
    async fn claim(
        &self,
        key: &StoreKey,
        record: &Record,
        keep: Keep,
    ) -> Result<Claimed, StoreError> {
        self.claim.time(self.inner.claim(key, record, keep)).await
    }

    async fn swap(
        &self,
        key: &StoreKey,
        expect: Fence,
        record: &Record,
        keep: Keep,
    ) -> Result<Write, StoreError> {
        self.swap.time(self.inner.swap(key, expect, record, keep)).await
    }

    async fn remove(&self, key: &StoreKey, expect: Fence) -> Result<Write, StoreError> {
        self.remove.time(self.inner.remove(key, expect)).await
    }

    async fn get(&self, key: &StoreKey) -> Result<Option<Record>, StoreError> {
        self.get.time(self.inner.get(key)).await
    }

    async fn age(&self, key: &StoreKey) -> Result<Option<(Fence, Duration)>, StoreError> {
        self.get.time(self.inner.age(key)).await
    }

    async fn scan(&self, cursor: Option<Cursor>, limit: usize) -> Result<Page, StoreError> {
        self.scan.time(self.inner.scan(cursor, limit)).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.ping.time(self.inner.ping()).await
    }

    fn losses(&self) -> u64 {
        self.inner.losses()
    }

    async fn acknowledge_loss(&self) -> Result<(), StoreError> {
        self.ping.time(self.inner.acknowledge_loss()).await
    }
}
