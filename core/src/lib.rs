//! Roundelay's shared core: a ring of peers that keeps keys, as one pure
//! state machine. No I/O, no clock, no randomness of its own, no `async`.
//!
//! A [`Node`] is a member of a ring. Its driver (a native process or a page)
//! hands it [`Input`]s, and carries out its [`Output`]s:
//!
//! ```text
//!              Input                            Output
//!   frames, link up/down,   +--------------+   send, dial, hang up,
//!   descriptions, storage ->|     Node     |-> descriptions, storage orders,
//!   answers, time           | link|ring|kvs|   events, wait until
//!                           +--------------+
//! ```
//!
//! - **Links** reach other peers: by a sealed circuit through a relay at once,
//!   by WebRTC as soon as that is up.
//! - **The ring** is Chord as Zave proved it correct: members in a circle by
//!   id, each with a predecessor and a list of successors, and a gossiped table
//!   of all members beside it.
//! - **The store** keeps each key on up to three voters, fixed in numbered
//!   views that change by consensus, and on pages that mirror it.
//!
//! ```
//! use roundelay_core::{Config, Identity, Instant, Network, Node, Now, Output, RingEntry};
//! use roundelay_core::TOMBSTONE_GRACE;
//! use roundelay_core::kvs::{Key, Mode};
//! use roundelay_core::status::Class;
//!
//! let now = Now { mono: Instant::from_micros(0), unix_ms: 1_763_856_000_000 };
//! let config = Config {
//!     network: Network::new("default", b"")?,
//!     class: Class::Durable,
//!     name: "first".into(),
//!     epoch: 1,
//!     relays: vec![],
//!     entry: RingEntry::Begin,
//!     direct_budget: 0,
//!     tombstone_grace: TOMBSTONE_GRACE,
//! };
//! let mut node = Node::new(Identity::from_seed(&[7; 32]), config, [9; 32], now)?;
//! loop {
//!     match node.poll_output() {
//!         Output::Store { token, op } => { /* carry it out, answer with Input::Stored */ }
//!         Output::Wait(until) => break,
//!         other => { /* links and events */ }
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::std_instead_of_core,
        clippy::std_instead_of_alloc
    )
)]
extern crate alloc;

mod attach;
mod config;
mod counter;
pub mod event;
pub mod flat;
pub mod hub;
mod id;
mod identity;
pub mod kvs;
mod link;
mod node;
#[cfg(planted_bugs)]
pub mod planted;
mod ring;
mod rng;
mod rtt;
mod session;
pub mod status;
pub mod store;
mod time;
mod traffic;
mod trouble;
pub mod wire;

pub use attach::Refusal;
pub use config::{Config, ConfigError, RELAY_COUNT_MAX, RingEntry, TOMBSTONE_GRACE};
pub use event::{Description, DescriptionKind, Dial, Event, Input, Lane, LinkId, Output, Role};
pub use id::{NodeId, ParseIdError, RingId};
pub use identity::{
    BadSignature, Facts, Identity, NAME_LEN_MAX, NameError, Network, Record, check_name,
};
pub use node::Node;
pub use session::{SessionError, SessionEvent, SessionsFull};
pub use time::{Instant, Now};
pub use trouble::{Trouble, TroubleKind};
