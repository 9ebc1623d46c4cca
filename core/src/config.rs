//! What a node is told at its start.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use crate::identity::{Network, check_name};
use crate::status::Class;

/// The most relays a node is configured with.
pub const RELAY_COUNT_MAX: usize = 16;

/// For how long a deleted key is remembered at least: seven days.
pub const TOMBSTONE_GRACE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

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
    /// How it comes into a ring.
    pub entry: RingEntry,
    /// Direct links held at once; zero where the driver has none.
    pub direct_budget: usize,
    /// For how long a deleted key is remembered at least, after which every member
    /// that votes on it has to agree that it is forgotten: [`TOMBSTONE_GRACE`],
    /// unless there is a reason. What a member took in mode `one` alone, and kept
    /// to itself for longer, may be lost.
    pub tombstone_grace: Duration,
}

/// How a node comes into a ring at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingEntry {
    /// Go on in the ring that storage remembers, else join by a relay.
    Join,
    /// Go on in the ring that storage remembers, else begin one.
    Begin,
    /// Begin a ring, whatever storage remembers.
    Renew,
}

/// Why a configuration is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// The name is too long or has control characters.
    Name,
    /// Too many relays.
    Relays,
    /// There is no relay to join by, or a page would begin a ring.
    NoRelay,
}

impl Config {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        check_name(&self.name).map_err(|_| ConfigError::Name)?;
        if self.relays.len() > RELAY_COUNT_MAX {
            return Err(ConfigError::Relays);
        }
        let begins = self.entry != RingEntry::Join;
        if self.relays.is_empty() && !begins || self.class == Class::Transient && begins {
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
            Self::NoRelay => f.write_str("to join a ring a node needs a relay: give one"),
        }
    }
}

impl core::error::Error for ConfigError {}
