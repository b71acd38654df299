//! The beginning of a shutdown, as those see it who ask at every request.
//!
//! A token that can be waited for takes a lock that all share, so what is asked is a flag.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio_util::sync::CancellationToken;

/// A shutdown that may begin. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Closing(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Set before the token is cancelled: who is woken finds it.
    has_begun: AtomicBool,
    token: CancellationToken,
}

impl Closing {
    /// Begins it.
    pub(crate) fn begin(&self) {
        self.0.has_begun.store(true, Ordering::Release);
        self.0.token.cancel();
    }

    /// Whether it has begun.
    pub(crate) fn has_begun(&self) -> bool {
        self.0.has_begun.load(Ordering::Acquire)
    }

    /// Waits until it begins.
    pub(crate) fn begun(&self) -> impl Future<Output = ()> + Send + 'static {
        self.0.token.clone().cancelled_owned()
    }
}
