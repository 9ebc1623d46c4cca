//! What a node is told at its start.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::identity::{Network, check_name};
use crate::status::Class;

/// The most relays a node is configured with.
pub const RELAY_COUNT_MAX: usize = 16;

/// A node's configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The network it belongs to.
    pub network: Network,
    /// Whether it keeps what it is given.
    pub class: Class,
    /// Its name, for people; may be empty.
    pub name: String,
    /// Greater than at every earlier start of the same identity.
    pub epoch: u64,
    /// URLs of relays, `ws://` or `wss://`.
    pub relays: Vec<String>,
    /// Start a ring even though there are relays to ask for one.
    pub new_ring: bool,
    /// Direct links held at once; zero where the driver has none.
    pub direct_budget: usize,
}

/// Why a configuration is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// The name is too long or has control characters.
    Name,
    /// Too many relays.
    Relays,
    /// A page needs a relay, and can start no ring.
    NoRelay,
}

impl Config {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        check_name(&self.name).map_err(|_| ConfigError::Name)?;
        if self.relays.len() > RELAY_COUNT_MAX {
            return Err(ConfigError::Relays);
        }
        if self.class == Class::Transient && (self.relays.is_empty() || self.new_ring) {
            return Err(ConfigError::NoRelay);
        }
        Ok(())
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name => f.write_str("the node's name is longer than 64 bytes or unprintable"),
            Self::Relays => write!(f, "more than {RELAY_COUNT_MAX} relays are given"),
            Self::NoRelay => f.write_str("a page joins by a relay: give one"),
        }
    }
}

impl core::error::Error for ConfigError {}
