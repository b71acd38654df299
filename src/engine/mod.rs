//! The rules, as pure code.
//!
//! Everything here takes what it needs as an argument and returns what it
//! decided. No clock, no randomness, no store, no runtime: the same inputs give
//! the same answer, which is what makes the decision table checkable by
//! exhaustion and the simulation repeatable.
//!
//! | module | question that it answers |
//! |---|---|
//! | [`key`] | which key does a request carry, and is it valid? |
//! | [`facet`] | which values of a request stand for the caller or the account? |
//! | [`fingerprint`] | is this the same request as the one that was claimed? |
//! | [`hop`] | which headers end at this connection? |
//! | [`policy`] | what does a route want? |
//! | [`record`] | what does a store hold about a key? |
//! | [`codec`] | how is that written down? |
//! | [`decision`] | given what the store holds, what happens to this request? |
//! | [`outcome`] | given what was seen of the upstream, what becomes of the key? |
//! | [`reconcile`] | how is the backend asked, and what does its answer prove? |
//! | [`problem`] | how is a refusal worded? |

mod canonical;
#[cfg(feature = "codec")]
pub mod codec;
pub mod decision;
#[cfg(feature = "codec")]
mod encode;
pub mod facet;
mod fence;
#[cfg(feature = "codec")]
mod field;
pub mod fingerprint;
pub mod hop;
pub mod key;
mod message;
pub mod outcome;
pub mod policy;
pub mod problem;
mod reason;
pub mod reconcile;
pub mod record;
mod response;
mod source;
mod summary;
mod wording;
