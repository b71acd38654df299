//! placeholder until the store branch lands
use crate::engine::record::{Done, StoreKey, Timestamp};
use std::sync::Arc;
#[derive(Debug)]
pub(crate) struct ResponseCache(std::sync::Mutex<std::collections::HashMap<StoreKey, Arc<Done>>>);
impl ResponseCache {
    pub(crate) fn new(_bytes: usize) -> Self {
        Self(Default::default())
    }
    pub(crate) fn peek(&self, key: &StoreKey, now: Timestamp) -> Option<Arc<Done>> {
        self.0.lock().unwrap().get(key).filter(|d| now < d.retained_until).cloned()
    }
    pub(crate) fn weight(&self) -> u64 {
        0
    }
    pub(crate) fn insert(&self, key: StoreKey, done: Arc<Done>) {
        self.0.lock().unwrap().insert(key, done);
    }
}
