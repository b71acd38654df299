//! Who may write a record.

use std::fmt;

/// An owner's random 128-bit token.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token(pub [u8; 16]);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({:02x}{:02x}..)", self.0[0], self.0[1])
    }
}

/// Who wrote a record, and which of his writes it is.
///
/// The token keeps an owner that was replaced from writing. The revision keeps
/// an owner's own earlier write, delayed on its way, from undoing a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The owner.
    pub token: Token,
    /// Counts the owner's writes from 0.
    pub revision: u32,
}

impl Fence {
    /// The first write of an owner.
    #[must_use]
    pub const fn new(token: Token) -> Self {
        Self { token, revision: 0 }
    }

    /// The same owner's next write.
    #[must_use]
    pub const fn next(self) -> Self {
        Self { token: self.token, revision: self.revision.saturating_add(1) }
    }

    /// Whether a write that expects `self` may replace a record fenced by
    /// `current`: the same owner, at a revision no newer than the expected one.
    /// Equality is allowed, so that a write whose reply was lost can be repeated.
    #[must_use]
    pub fn admits(self, current: Self) -> bool {
        self.token == current.token && current.revision <= self.revision
    }
}
