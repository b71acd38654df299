#![doc = "placeholder"]
pub mod ambient;
#[cfg(feature = "demo")]
pub mod demo;
pub mod engine;
pub mod store;
pub use engine::{
    key::Key,
    policy::{OnConflict, Policy},
};
