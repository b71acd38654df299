//! Memory that nobody needs any more goes back to the system.
//!
//! The allocator of the program, mimalloc, gives a page back a second after it was freed,
//! but it looks for such pages only when it takes or frees a page. A gate that has gone
//! quiet takes none, and would keep what its busiest moment needed.

use std::{hint::black_box, time::Duration};

use tokio_util::sync::CancellationToken;

const INTERVAL: Duration = Duration::from_secs(1);

/// Larger than what the allocator keeps for the next one who asks, so each takes a page of
/// its own. It is never touched.
const PAGE: usize = 1 << 20;

/// Makes the allocator look until `stop`.
pub(super) async fn release(stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_some() {
        drop(black_box(Vec::<u8>::with_capacity(PAGE)));
    }
}
