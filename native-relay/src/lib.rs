//! Roundelay, native: the relay, the headless node, their HTTP API and the
//! `roundelay` command.
//!
//! The library binds no socket and installs no signal handler on its own:
//! `main` does, and hands them in.
#![forbid(unsafe_code)]

pub mod api;
pub mod bench;
pub mod cli;
mod clock;
pub mod config;
mod driver;
mod error;
mod gord;
pub mod handle;
pub mod identity;
pub mod link;
pub mod listen;
mod member;
pub mod node;
pub mod peer;
pub mod relay;
mod signalling;
pub mod store;
pub mod streams;
pub mod stun;
mod watch;

pub use error::RunError;
pub use peer::{Peer, PeerConfig, PeerError};
