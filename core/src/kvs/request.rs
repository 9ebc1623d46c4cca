//! What a caller asks of the store, and what it is told.

use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::id::NodeId;
use crate::kvs::expiry::Ttl;
use crate::kvs::list::Page;
use crate::kvs::version::Version;
use crate::kvs::watch::News;

/// Names a request of this node's own callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// What a request promises. A promise that cannot be kept is an error, never
/// quietly weakened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Mode {
    /// Any one copy answers; the last writer wins. Works while voters are
    /// away, and is merged with them later.
    One,
    /// A write is acknowledged when it is synced on a majority of the slot's
    /// voters; a read asks a majority.
    #[default]
    Quorum,
    /// Reads, writes and conditional writes of a key happen one after the
    /// other, in one order for all, each at some instant between its question
    /// and its answer. A write marks its key: from then on no copy of mode
    /// `one` enters it, and its `quorum` writes are linearizable.
    Linearizable,
}

/// What has to be so for a write to happen; it implies
/// [`Mode::Linearizable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Condition {
    /// The key has no value.
    Absent,
    /// It has the value of this version.
    Version(Version),
}

impl Condition {
    /// Whether it holds where this version is there, or none.
    pub(crate) fn holds(self, current: Option<Version>) -> bool {
        match self {
            Self::Absent => current.is_none(),
            Self::Version(version) => current == Some(version),
        }
    }
}

impl Mode {
    /// Its name, as in `?mode=`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Quorum => "quorum",
            Self::Linearizable => "linearizable",
        }
    }

    /// The mode of a name, if there is one.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let mut all = [Self::One, Self::Quorum, Self::Linearizable].into_iter();
        all.find(|mode| mode.name() == name)
    }
}

/// What a write promises, on what condition it acts, and how long it lasts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Without a condition; one implies [`Mode::Linearizable`].
    pub mode: Mode,
    /// What has to be so.
    pub condition: Option<Condition>,
    /// How long the value lives; for ever, without it. A delete has none.
    pub ttl: Option<Ttl>,
}

impl Terms {
    /// The mode, or that which a condition implies.
    pub(crate) const fn effective_mode(self) -> Mode {
        match self.condition {
            Some(_) => Mode::Linearizable,
            None => self.mode,
        }
    }
}

impl From<Mode> for Terms {
    fn from(mode: Mode) -> Self {
        Self {
            mode,
            ..Self::default()
        }
    }
}

impl From<Condition> for Terms {
    fn from(condition: Condition) -> Self {
        Self {
            condition: Some(condition),
            ..Self::default()
        }
    }
}

/// How many copies a write had when it was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copies {
    /// Voters that hold it synced.
    pub have: u8,
    /// Voters in the slot's view.
    pub of: u8,
}

impl Copies {
    pub(crate) fn counted(have: usize, of: usize) -> Self {
        let count = |n: usize| u8::try_from(n).unwrap_or(u8::MAX);
        Self {
            have: count(have),
            of: count(of),
        }
    }
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A read found a value.
    Found {
        /// The value.
        value: Vec<u8>,
        /// Its version.
        version: Version,
    },
    /// A read found nothing, or a tombstone.
    Missing,
    /// A page of a bucket.
    Listed(Page),
    /// A piece of a watch.
    Watched(News),
    /// A write or delete is acknowledged.
    Written {
        /// The version it has.
        version: Version,
        /// Its copies.
        copies: Copies,
    },
    /// A member was evicted: it votes on nothing any more.
    Evicted,
    /// It failed.
    Failed(RequestError),
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RequestError {
    /// Surely not applied: too few of the slot's voters can be reached.
    Unavailable {
        /// Those that are missing.
        missing: Vec<NodeId>,
    },
    /// A write that may or may not have been applied: no answer came in time.
    OutcomeUnknown,
    /// Surely not applied: the value is longer than
    /// [`VALUE_LEN_MAX`](crate::kvs::VALUE_LEN_MAX).
    TooLarge,
    /// Surely not applied: storage is full.
    Full,
    /// Surely not applied: too many requests are under way; try again later.
    Busy,
    /// Surely not applied: this node is in no ring yet.
    NotJoined,
    /// Surely not applied: the condition does not hold.
    ConditionFailed {
        /// The version that is there; without one, the key has no value.
        current: Option<Version>,
    },
    /// Surely not applied: a write of mode [`Mode::One`], and the key is marked
    /// by a linearizable one.
    Conflict,
    /// Not evicted: the member still answers.
    Answers,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable { missing } if missing.is_empty() => {
                f.write_str("not applied: the key's voters are not known yet; try again")
            }
            Self::Unavailable { missing } => {
                f.write_str("not applied: too few of the key's voters can be reached; missing ")?;
                for (index, id) in missing.iter().enumerate() {
                    write!(f, "{}{id}", if index == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
            Self::OutcomeUnknown => f.write_str(
                "no answer in time: the write may or may not have been applied; read the key",
            ),
            Self::TooLarge => f.write_str("not applied: a value holds at most 1 MiB"),
            Self::Full => f.write_str(
                "not applied: the disk of one of the key's voters is full; make room there, or delete keys",
            ),
            Self::Busy => f.write_str("not applied: too many requests are under way; try later"),
            Self::NotJoined => f.write_str("not applied: this node is in no ring yet"),
            Self::ConditionFailed { current: None } => {
                f.write_str("not applied: the condition does not hold: the key has no value")
            }
            Self::ConditionFailed {
                current: Some(current),
            } => write!(
                f,
                "not applied: the condition does not hold: the key has version {current}"
            ),
            Self::Conflict => f.write_str(
                "not applied: the key takes no writes of mode one since a linearizable one; \
                 use quorum or linearizable",
            ),
            Self::Answers => f.write_str("not evicted: this member still answers; stop it first"),
        }
    }
}

impl core::error::Error for RequestError {}
