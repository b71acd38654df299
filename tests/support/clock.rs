//! The clock of a test's runtime, as the gates and stores of the test see it.

use oncegate::{
    ambient::{Ambient, System},
    engine::record::{Timestamp, Token},
};
use tokio::time::Instant;

/// Counts from the moment at which it was made.
#[derive(Clone, Copy, Debug)]
pub struct Virtual(pub Instant);

impl Ambient for Virtual {
    fn now(&self) -> Timestamp {
        Timestamp(0).after(self.0.elapsed())
    }

    fn token(&self) -> Token {
        System.token()
    }
}
