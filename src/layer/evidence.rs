//! What an inner service can say about an exchange that failed.

use std::{error::Error as StdError, fmt};

use crate::engine::{outcome::Evidence, problem::Fault};

/// An exchange with an upstream that failed, and whether anything was sent.
///
/// An inner service that returns this (anywhere in an error's chain of sources)
/// tells the layer when a request provably never left. Any other error counts as
/// "may have been executed".
///
/// ```
/// use oncegate::{UpstreamError, engine::problem::Fault};
///
/// let refused = UpstreamError::unsent(Fault::Refused);
/// assert!(!refused.may_have_been_sent());
/// assert!(UpstreamError::sent(Fault::Terminated).may_have_been_sent());
/// ```
#[derive(Debug)]
pub struct UpstreamError {
    fault: Fault,
    sent: bool,
    source: Option<crate::BoxError>,
}

impl UpstreamError {
    /// Proof exists that no byte of the request left this process.
    #[must_use]
    pub const fn unsent(fault: Fault) -> Self {
        Self { fault, sent: false, source: None }
    }

    /// At least one byte may have left.
    #[must_use]
    pub const fn sent(fault: Fault) -> Self {
        Self { fault, sent: true, source: None }
    }

    /// Adds what lies underneath.
    #[must_use]
    pub fn because(mut self, source: impl Into<crate::BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What went wrong.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        self.fault
    }

    /// Whether a byte of the request may have left.
    #[must_use]
    pub const fn may_have_been_sent(&self) -> bool {
        self.sent
    }

    /// The evidence and the fault that an error carries.
    pub(crate) fn read(error: &(dyn StdError + 'static)) -> (Evidence, Fault) {
        let Some(error) = crate::chain(error).find_map(|error| error.downcast_ref::<Self>()) else {
            return (Evidence::Reset, Fault::Terminated);
        };
        let evidence = match (error.sent, error.fault) {
            (false, _) => Evidence::NotSent,
            (true, Fault::ResponseTimeout) => Evidence::TimedOut,
            (true, Fault::Incomplete) => Evidence::Truncated,
            (true, _) => Evidence::Reset,
        };
        (evidence, error.fault)
    }
}

impl fmt::Display for UpstreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sent = if self.sent { "after sending" } else { "nothing sent" };
        write!(f, "upstream: {} ({sent})", self.fault)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl StdError for UpstreamError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
