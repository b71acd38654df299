#![doc = "placeholder"]

#[cfg(feature = "proxy")]
mod admin;
pub mod ambient;
#[cfg(feature = "proxy")]
pub mod cli;
#[cfg(feature = "proxy")]
pub mod config;
#[cfg(feature = "demo")]
pub mod demo;
pub mod engine;
mod layer;
#[doc(hidden)]
pub mod mutants;
#[cfg(feature = "proxy")]
pub mod proxy;
pub mod store;

pub use engine::{
    key::Key,
    policy::{OnConflict, OnLateRetry, OnStoreDown, OnUnknown, Policy},
};
pub use layer::{
    Gate, GateBuilder, IdempotencyLayer, IdempotencyService, Outcome, RequestBody, ResponseBody,
    ResponseFuture, UpstreamError,
};

/// Any error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An error and everything that it lies on, outermost first.
pub(crate) fn chain<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}
