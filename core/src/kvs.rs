//! The key-value store.

mod key;
mod request;
mod version;

pub use key::{KEY_LEN_MAX, Key, KeyError, SLOT_COUNT, Slot, VALUE_LEN_MAX};
pub use request::{Copies, Mode, Reply, RequestError, RequestId};
pub use version::{CLOCK_AHEAD_MS_MAX, ParseVersionError, Version};
