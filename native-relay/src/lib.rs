//! Roundelay, native: the relay, the headless node, their HTTP API and the
//! `roundelay` command.
//!
//! The library binds no socket and installs no signal handler on its own:
//! `main` does, and hands them in.
#![forbid(unsafe_code)]

pub mod api;
pub mod cli;
pub mod config;
pub mod handle;
pub mod identity;
pub mod link;
pub mod store;
pub mod stun;
