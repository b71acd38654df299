//! What all routes of a process share: the store, the cache, who waits for
//! whom, and what still runs.

use std::{future::Future, sync::Arc, time::Duration};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    budget::Budget,
    tally::Tally,
    waiters::{Moment, Waiters},
};
use crate::{
    ambient::{Ambient, System},
    closing::Closing,
    engine::{
        fingerprint::Hasher,
        record::{Reason, Timestamp, Token},
    },
    mutants::{Mutant, is_active},
    store::{ResponseCache, Store},
};

/// The shared part of every [`IdempotencyLayer`](crate::IdempotencyLayer) of a process. Cheap to
/// clone.
///
/// ```
/// use oncegate::{Gate, IdempotencyLayer, Policy, store::MemoryStore};
///
/// let gate = Gate::builder(MemoryStore::default()).build();
/// let payments = IdempotencyLayer::new(gate.clone(), Policy { require_key: true, ..Policy::default() });
/// let refunds = IdempotencyLayer::new(gate, Policy::default());
/// ```
#[derive(Clone, Debug)]
pub struct Gate(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: Arc<dyn Store>,
    ambient: Arc<dyn Ambient>,
    hasher: Hasher,
    node: Arc<str>,
    cache: ResponseCache,
    budget: Budget,
    waiters: Arc<Waiters>,
    unknown: Tally,
    tasks: TaskTracker,
    closing: Closing,
    abandon: CancellationToken,
}

/// Settings of a [`Gate`].
///
/// # Defaults
/// The empty secret, a cache of 64 MiB, request bodies of 256 MiB in all, the
/// system's clock and randomness, the process id as the node's name.
pub struct GateBuilder {
    store: Arc<dyn Store>,
    ambient: Arc<dyn Ambient>,
    secret: Vec<u8>,
    node: Arc<str>,
    cache: usize,
    max_buffered: usize,
}

impl std::fmt::Debug for GateBuilder {
    /// Without the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GateBuilder")
            .field("store", &self.store)
            .field("node", &self.node)
            .field("cache", &self.cache)
            .field("max_buffered", &self.max_buffered)
            .finish_non_exhaustive()
    }
}

impl GateBuilder {
    /// The secret of store keys and fingerprints. All gates on one store need the same.
    #[must_use]
    pub fn secret(mut self, secret: impl Into<Vec<u8>>) -> Self {
        self.secret = secret.into();
        self
    }

    /// How many bytes of recorded responses this process keeps at hand; 0 for none.
    #[must_use]
    pub fn cache(mut self, bytes: usize) -> Self {
        self.cache = bytes;
        self
    }

    /// How many bytes all buffered request bodies may take together.
    #[must_use]
    pub fn max_buffered(mut self, bytes: usize) -> Self {
        self.max_buffered = bytes;
        self
    }

    /// The name of this process in records, for people who look into the store.
    #[must_use]
    pub fn node(mut self, name: &str) -> Self {
        self.node = name.into();
        self
    }

    /// Another clock and source of tokens.
    #[must_use]
    pub fn ambient(mut self, ambient: Arc<dyn Ambient>) -> Self {
        self.ambient = ambient;
        self
    }

    /// The gate.
    #[must_use]
    pub fn build(self) -> Gate {
        Gate(Arc::new(Shared {
            store: self.store,
            ambient: self.ambient,
            hasher: Hasher::new(&self.secret),
            node: self.node,
            cache: ResponseCache::new(self.cache as u64),
            budget: Budget::new(self.max_buffered),
            waiters: Arc::default(),
            unknown: Tally::default(),
            tasks: TaskTracker::new(),
            closing: Closing::default(),
            abandon: CancellationToken::new(),
        }))
    }
}

impl Gate {
    /// A gate on a store of one's own.
    #[must_use]
    pub fn builder(store: impl Store) -> GateBuilder {
        Self::builder_on(Arc::new(store))
    }

    /// A gate on a store that is shared, or chosen at run time.
    #[must_use]
    pub fn builder_on(store: Arc<dyn Store>) -> GateBuilder {
        const MIB: usize = 1 << 20;
        GateBuilder {
            store,
            ambient: Arc::new(System),
            secret: Vec::new(),
            node: format!("pid-{}", std::process::id()).into(),
            cache: 64 * MIB,
            max_buffered: 256 * MIB,
        }
    }

    /// Stops claiming, waits for what runs, and after `limit` gives up the rest:
    /// its outcomes are recorded as unknown. New keyed requests get 503.
    ///
    /// Returns the number of outcomes that became unknown by that.
    pub async fn drain(&self, limit: Duration) -> usize {
        self.drain_until(tokio::time::sleep(limit)).await
    }

    /// The same until `over`.
    pub(crate) async fn drain_until(&self, over: impl Future<Output = ()>) -> usize {
        self.close();
        self.0.tasks.close();
        let over = async {
            if !is_active(Mutant::NoDrain) {
                over.await;
            }
        };
        tokio::select! {
            biased;
            () = self.0.tasks.wait() => return 0,
            () = over => {}
        }
        let before = self.0.unknown.all();
        self.0.abandon.cancel();
        // What was given up still writes so; a store that hangs must not hold up the exit.
        let _ = tokio::time::timeout(Duration::from_secs(5), self.0.tasks.wait()).await;
        usize::try_from(self.0.unknown.all() - before).unwrap_or(usize::MAX)
    }

    /// Stops claiming, without waiting.
    pub fn close(&self) {
        self.0.closing.begin();
    }

    /// Whether new claims are refused.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.0.closing.has_begun()
    }

    /// The number of keys that this process is busy with.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.0.waiters.len()
    }

    /// How many outcomes have become unknown in this process for a reason, whoever still
    /// waited for them. Those that were learnt since are counted too.
    #[must_use]
    pub fn unknown(&self, reason: Reason) -> u64 {
        self.0.unknown.of(reason)
    }

    /// Bytes of request bodies that are buffered now.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.0.budget.used()
    }

    /// Bytes of recorded responses that are at hand now.
    #[must_use]
    pub fn cached(&self) -> u64 {
        self.0.cache.weight()
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.0.store
    }

    pub(crate) fn cache(&self) -> &ResponseCache {
        &self.0.cache
    }

    pub(crate) fn hasher(&self) -> &Hasher {
        &self.0.hasher
    }

    pub(crate) fn budget(&self) -> &Budget {
        &self.0.budget
    }

    pub(crate) fn waiters(&self) -> &Arc<Waiters> {
        &self.0.waiters
    }

    pub(crate) fn became_unknown(&self, reason: Reason) {
        self.0.unknown.add(reason);
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.0.ambient.now()
    }

    pub(crate) fn moment(&self) -> Moment {
        Moment { wall: self.now(), at: tokio::time::Instant::now() }
    }

    pub(crate) fn token(&self) -> Token {
        self.0.ambient.token()
    }

    pub(crate) fn node(&self) -> Arc<str> {
        Arc::clone(&self.0.node)
    }

    /// Resolves when the gate stops claiming.
    pub(crate) async fn closed(&self) {
        self.0.closing.begun().await;
    }

    /// Resolves when everything that still runs must be given up.
    pub(crate) async fn abandoned(&self) {
        self.0.abandon.cancelled().await;
    }

    /// Runs what must not end with its client.
    pub(crate) fn spawn<F>(&self, work: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.0.tasks.spawn(work)
    }
}
