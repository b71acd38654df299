//! What several tests need.

#[cfg(feature = "redis")]
pub(crate) mod redis;
