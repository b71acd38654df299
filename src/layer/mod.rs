//! The tower middleware. It knows a store as a trait, and no runtime but tokio.
//!
//! Read in this order: [`service`] decides at the first line whether a request is
//! ours; [`exchange`] is the story of one that is, up to its claim, and [`dispatch`]
//! from there; [`claim`] is what holding a key means; [`recording`] reads and records
//! the response; [`reconcile`] asks the backend; [`waiters`], [`follow`] and
//! [`elsewhere`] are for duplicates; [`answer`] words what the caller gets.
//!
//! Rules that hold here:
//! 1. The claim is acknowledged by the store before the first byte goes out.
//! 2. Nothing that runs after a claim lives in the client's future.
//! 3. A buffered answer leaves after it was recorded.
//! 4. Only [`claim`], a lookup and an operator change a record after its claim, each under the
//!    fence that was seen.
//! 5. A request without a key touches no store, no lock and no buffer.

use std::time::Duration;

mod answer;
mod body;
mod budget;
mod buffered;
mod claim;
mod dispatch;
mod elsewhere;
mod ended;
mod evidence;
mod exchange;
mod follow;
mod gate;
#[expect(clippy::module_inception, reason = "the folder is named after what it makes")]
mod layer;
mod operator;
mod reconcile;
mod recording;
mod reply;
mod service;
mod store_down;
mod tally;
mod waiters;

/// Patience without a limit, as far as clocks go.
const FOREVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

pub use body::{RequestBody, ResponseBody};
#[cfg(feature = "proxy")]
pub(crate) use buffered::is_timeout;
#[cfg(feature = "proxy")]
pub(crate) use claim::Standing;
#[cfg(feature = "proxy")]
pub(crate) use dispatch::LATE;
pub use ended::Outcome;
pub use evidence::UpstreamError;
pub use gate::{Gate, GateBuilder};
pub use layer::IdempotencyLayer;
pub use operator::{Resolution, Resolved};
pub use service::{IdempotencyService, ResponseFuture};
#[cfg(feature = "proxy")]
pub(crate) use service::{Look, Managed};
