//! What several tests need.

#[cfg(feature = "embedded")]
pub(crate) mod disk;
#[cfg(feature = "redis")]
pub(crate) mod redis;
