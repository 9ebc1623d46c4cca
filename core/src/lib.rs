//! Roundelay's shared core.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

mod attach;
mod config;
mod counter;
pub mod event;
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
pub mod status;
pub mod store;
mod time;
pub mod wire;

pub use attach::Refusal;
pub use config::{Config, ConfigError, RELAY_COUNT_MAX};
pub use event::{Description, DescriptionKind, Dial, Event, Input, Lane, LinkId, Output, Role};
pub use id::{NodeId, ParseIdError, RingId};
pub use identity::{
    BadSignature, Facts, Identity, NAME_LEN_MAX, NameError, Network, Record, check_name,
};
pub use node::Node;
pub use time::{Instant, Now};
