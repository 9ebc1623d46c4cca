//! Roundelay's shared core.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

pub mod event;
mod id;
pub mod kvs;
pub mod status;
pub mod store;
mod time;

pub use event::{Description, DescriptionKind, Dial, Event, Input, Lane, LinkId, Output, Role};
pub use id::{NodeId, ParseIdError};
pub use time::{Instant, Now};
