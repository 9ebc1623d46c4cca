//! Roundelay, native.
