//! The layer: one gate, one policy, any service.

use std::sync::Arc;

use tower::Layer;

use super::{gate::Gate, service::IdempotencyService};
use crate::{engine::policy::Policy, store::Store};

/// Makes a service execute each keyed request at most once.
///
/// ```
/// use oncegate::{IdempotencyLayer, Policy, store::MemoryStore};
/// use tower::{ServiceBuilder, service_fn};
///
/// let layer = IdempotencyLayer::with_store(MemoryStore::default());
/// let service = ServiceBuilder::new().layer(layer).service(service_fn(
///     async |request: http::Request<oncegate::RequestBody<http_body_util::Full<bytes::Bytes>>>| {
///         let body = http_body_util::Full::new(bytes::Bytes::from("paid"));
///         Ok::<_, std::convert::Infallible>(http::Response::new(body))
///     },
/// ));
/// # let _ = service;
/// ```
#[derive(Clone, Debug)]
pub struct IdempotencyLayer {
    gate: Gate,
    policy: Arc<Policy>,
}

impl IdempotencyLayer {
    /// A layer for one kind of route. Layers of one process should share a gate.
    #[must_use]
    pub fn new(gate: Gate, policy: impl Into<Arc<Policy>>) -> Self {
        Self { gate, policy: policy.into() }
    }

    /// A layer with a gate of its own and the default policy.
    #[must_use]
    pub fn with_store(store: impl Store) -> Self {
        Self::new(Gate::builder(store).build(), Policy::default())
    }

    /// The same layer with another policy.
    #[must_use]
    pub fn policy(mut self, policy: impl Into<Arc<Policy>>) -> Self {
        self.policy = policy.into();
        self
    }

    /// The gate, to drain it at shutdown.
    #[must_use]
    pub const fn gate(&self) -> &Gate {
        &self.gate
    }
}

impl<S> Layer<S> for IdempotencyLayer {
    type Service = IdempotencyService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        IdempotencyService::new(self.gate.clone(), Arc::clone(&self.policy), inner)
    }
}
