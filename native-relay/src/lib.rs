//! Roundelay, native.

pub mod link;
