//! Storage as core sees it: an ordered map from bytes to bytes, asynchronous.
//!
//! The driver need understand nothing of what it keeps. Core never waits: it
//! gives orders and goes on, and whatever must be durable before it is said
//! leaves after the answer.

mod memory;

use alloc::vec::Vec;
use core::fmt;

pub use self::memory::MemoryStore;

/// One order to storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreOp {
    /// Answer with what is there, every earlier commit included.
    Read(Read),
    /// Apply all writes or none, and answer when they are durable (synced to
    /// disk, where there is a disk).
    Commit(Vec<Write>),
}

/// What to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// One value, answered with [`Stored::Value`].
    Get {
        /// Its key.
        key: Vec<u8>,
    },
    /// The entries with `from <= key < to` in order, answered with
    /// [`Stored::Entries`]: as many as fit in `limit` bytes of keys and
    /// values, and at least one if there is one.
    Scan {
        /// The first key.
        from: Vec<u8>,
        /// One past the last key.
        to: Vec<u8>,
        /// When to stop, in bytes.
        limit: usize,
    },
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The key.
    pub key: Vec<u8>,
    /// Its new value; `None` removes it.
    pub value: Option<Vec<u8>>,
}

/// What storage answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// To [`Read::Get`].
    Value(Option<Vec<u8>>),
    /// To [`Read::Scan`]: keys and values, in order.
    Entries(Vec<(Vec<u8>, Vec<u8>)>),
    /// To [`StoreOp::Commit`]: applied and durable.
    Done,
}

/// Why storage refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// No room is left. A commit that is refused so changed nothing.
    Full,
    /// The medium failed. A commit that is refused so is not seen by reads, but
    /// may come to light, whole, after a later start.
    Failed,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "storage is full",
            Self::Failed => "storage failed",
        })
    }
}

impl core::error::Error for StoreError {}
