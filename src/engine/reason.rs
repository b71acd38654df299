//! Why nobody knows whether a request was executed.

/// Why an outcome is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The connection broke before a response began.
    Reset,
    /// No response in time.
    Timeout,
    /// The response broke off.
    Truncated,
    /// The upstream answered 502.
    Gateway502,
    /// The upstream answered 503.
    Gateway503,
    /// The upstream answered 504.
    Gateway504,
    /// The owner stopped without a word, or gave up while shutting down.
    OwnerLost,
    /// The store could not be told.
    StoreLost,
    /// The upstream answered with another status that the policy does not trust.
    Status,
}

impl Reason {
    /// All reasons, in the order of their stored numbers.
    pub const ALL: [Self; 9] = [
        Self::Reset,
        Self::Timeout,
        Self::Truncated,
        Self::Gateway502,
        Self::Gateway503,
        Self::Gateway504,
        Self::OwnerLost,
        Self::StoreLost,
        Self::Status,
    ];

    /// The name that clients, operators and metrics see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Truncated => "truncated",
            Self::Gateway502 => "gateway_502",
            Self::Gateway503 => "gateway_503",
            Self::Gateway504 => "gateway_504",
            Self::OwnerLost => "owner_lost",
            Self::StoreLost => "store_lost",
            Self::Status => "status",
        }
    }
}
