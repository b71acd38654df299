#![doc = "placeholder"]
pub mod ambient;
pub mod engine;
pub mod store;
pub use engine::{
    key::Key,
    policy::{OnConflict, Policy},
};
