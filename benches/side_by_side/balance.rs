//! What a request costs a whole machine.
//!
//! Where a machine is busy, requests a second are what one request costs it, turned over:
//! the server, its Redis, the load and the backend together. So a goal for the ratio of two
//! rates is one for processor time, and a narrow one where load and backend take much.

/// What a server and its Redis may take together for a request, so that it gives `times` as
/// many requests a second as another one with equal use of the machine.
///
/// In microseconds of processor time: `other` is what the other server and its Redis take,
/// `around_other` what load and backend take beside them, and `around` what these take beside
/// the server.
pub(crate) fn allowed(times: f64, other: f64, around_other: f64, around: f64) -> f64 {
    (other + around_other) / times - around
}
