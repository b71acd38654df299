//! The clock and the source of randomness, as one argument.
//!
//! Everything that tells the time or draws a token does it through [`Ambient`],
//! so that a simulation owns both.

use std::{
    cell::RefCell,
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

/// How many tokens one call to the operating system gives.
const AT_ONCE: usize = 32;

/// Tokens that nobody has used. After a fork two processes would have the same ones, so
/// they belong to the process that drew them.
struct Drawn {
    process: u32,
    tokens: Vec<Token>,
}

thread_local! {
    static DRAWN: RefCell<Drawn> = const { RefCell::new(Drawn { process: 0, tokens: Vec::new() }) };
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
        DRAWN.with_borrow_mut(|Drawn { process, tokens }| {
            if *process != std::process::id() || tokens.is_empty() {
                let mut bytes = [[0; 16]; AT_ONCE];
                getrandom::fill(bytes.as_flattened_mut())
                    .expect("the operating system has randomness after boot");
                *process = std::process::id();
                *tokens = bytes.map(Token).into();
            }
            tokens.pop().expect("it is not empty")
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, thread};

    use super::*;

    #[test]
    fn no_token_is_drawn_twice() {
        let draw = || (0..5 * AT_ONCE).map(|_| System.token().0).collect::<Vec<_>>();
        let threads = [thread::spawn(draw), thread::spawn(draw)];
        let tokens = threads.map(|thread| thread.join().unwrap()).concat();
        assert_eq!(tokens.iter().collect::<HashSet<_>>().len(), 10 * AT_ONCE);
    }
}
