//! What a store on Redis is told.

use std::time::Duration;

use crate::store::Durability;

/// How to deal with a Redis server.
///
/// # Defaults
/// A reply within 2 seconds, a connection within 1 second, no eviction, what the server
/// acknowledges by itself, an alarm and no refusals after a loss of data.
#[derive(Clone, Debug)]
pub struct RedisOptions {
    /// How long to wait for a reply. What breaks is sent once more, so a way to the server and
    /// back takes twice as long at the most. A claim may be several: a look at a server that was
    /// found unfit before, and a reading where it takes no claims.
    pub reply_timeout: Duration,
    /// How long to wait for a connection.
    pub connect_timeout: Duration,
    /// Whether the server may throw records away when its memory is full. A
    /// request whose claim was thrown away can run twice.
    pub allow_eviction: bool,
    /// What the server has to have done before a write counts.
    pub durability: Durability,
    /// Whether claims are refused after the server lost its data, until an operator
    /// [acknowledges](crate::store::Store::acknowledge_loss) it. Costs Redis one more read a claim.
    pub refuse_after_loss: bool,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            reply_timeout: Duration::from_secs(2),
            connect_timeout: Duration::from_secs(1),
            allow_eviction: false,
            durability: Durability::Acknowledged,
            refuse_after_loss: false,
        }
    }
}
