//! The clock and the source of randomness, as one argument.
//!
//! Everything that tells the time or draws a token does it through [`Ambient`],
//! so that a simulation owns both.

use std::{
    fmt::Debug,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::engine::record::{Timestamp, Token};

/// What the surroundings provide.
pub trait Ambient: Debug + Send + Sync + 'static {
    /// The wall clock.
    fn now(&self) -> Timestamp;

    /// A token that nobody else has.
    fn token(&self) -> Token;
}

/// The operating system's clock and randomness.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Ambient for System {
    fn now(&self) -> Timestamp {
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(0).after(elapsed)
    }

    /// # Panics
    /// When the operating system gives no random bytes: without them no claim
    /// would be safe.
    fn token(&self) -> Token {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("the operating system has randomness after boot");
        Token(bytes)
    }
}
