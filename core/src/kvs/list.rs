//! Pages of a bucket: what may be asked for, and what is told.
//!
//! A page of mode `quorum` is made of what a majority of the slot's voters say
//! they hold, tombstones too: the newest version of each key counts. Where a
//! voter's part was cut at a limit, the page ends at the smallest such cut,
//! since beyond it that voter may know more.

mod held;

use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

pub(crate) use self::held::Held;
use super::key::{KEY_LEN_MAX, Key, KeyError, Slot};
use super::request::Mode;
use super::version::Version;

/// The most keys of a [`Page`].
pub const PAGE_KEY_COUNT_MAX: usize = 1000;

/// About the most bytes of a [`Page`]'s keys and versions: no further key is
/// added beyond it.
pub const PAGE_BYTES_MAX: usize = 256 * 1024;

/// A page of a bucket that is asked for: up to so many of its keys, in the order
/// of their bytes, after one of them or from the first.
///
/// A bucket's keys are `bucket/name`, and `bucket` itself. A key that begins with
/// a slash is in no bucket that can be listed.
///
/// ```
/// use roundelay_core::kvs::{Key, List};
///
/// let list = List::new("chat")?.with_after("chat/hello")?.with_limit(10)?;
/// assert!(list.contains(&Key::new("chat/world").unwrap()));
/// assert!(!list.contains(&Key::new("chat").unwrap()), "that comes before");
/// # Ok::<(), roundelay_core::kvs::ListError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct List {
    /// The bucket's name, which is a key, too.
    bucket: Key,
    /// The one key that is wanted of it.
    only: Option<Key>,
    after: Option<Key>,
    limit: u16,
    mode: Mode,
}

/// What comes as a [`List`].
#[derive(Deserialize)]
struct Unchecked {
    bucket: Key,
    only: Option<Key>,
    after: Option<Key>,
    limit: u16,
    mode: Mode,
}

/// A page of a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Keys that have a value, in order, with their versions; fewer than were
    /// asked for, or none, where many were deleted.
    pub keys: Vec<(Key, Version)>,
    /// After which key the next page begins; none if this is the last.
    pub next: Option<Key>,
}

/// Why something is no [`List`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListError {
    /// The bucket is empty.
    EmptyBucket,
    /// The bucket's name has a slash.
    SlashInBucket,
    /// The bucket has more than [`KEY_LEN_MAX`] bytes.
    LongBucket,
    /// The key after which the page begins is none of the bucket.
    AfterElsewhere,
    /// The limit is not 1 to [`PAGE_KEY_COUNT_MAX`].
    Limit,
    /// The mode is linearizable.
    Linearizable,
}

/// Between the coordinator of a list and the voters of its slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum ListVote {
    /// What do you hold of this?
    Ask { id: u64, view: u64, list: List },
    /// The answer.
    Told { id: u64, view: u64, held: Held },
}

impl List {
    /// The first [`PAGE_KEY_COUNT_MAX`] keys of a bucket, in mode `quorum`.
    ///
    /// # Errors
    /// When the bucket is empty, too long, or has a slash.
    pub fn new(bucket: &str) -> Result<Self, ListError> {
        if bucket.contains('/') {
            return Err(ListError::SlashInBucket);
        }
        let bucket = Key::new(bucket).map_err(|error| match error {
            KeyError::Empty => ListError::EmptyBucket,
            KeyError::TooLong | KeyError::NotUtf8 => ListError::LongBucket,
        })?;
        Ok(Self {
            bucket,
            only: None,
            after: None,
            limit: PAGE_KEY_COUNT_MAX as u16,
            mode: Mode::Quorum,
        })
    }

    /// One key alone.
    pub(crate) fn of_key(key: Key) -> Result<Self, ListError> {
        let list = Self::new(key.bucket())?;
        let only = Some(key);
        Ok(Self { only, ..list })
    }

    /// Begins after a whole key of the bucket, there or not: a page's `next`.
    ///
    /// # Errors
    /// When it is no key of this bucket.
    pub fn with_after(self, after: &str) -> Result<Self, ListError> {
        let key = Key::new(after).map_err(|_| ListError::AfterElsewhere)?;
        if key.bucket() != self.bucket.as_str() {
            return Err(ListError::AfterElsewhere);
        }
        let after = Some(key);
        Ok(Self { after, ..self })
    }

    /// At most so many keys.
    ///
    /// # Errors
    /// When it is none, or more than [`PAGE_KEY_COUNT_MAX`].
    pub fn with_limit(self, limit: usize) -> Result<Self, ListError> {
        if !(1..=PAGE_KEY_COUNT_MAX).contains(&limit) {
            return Err(ListError::Limit);
        }
        let limit = u16::try_from(limit).map_err(|_| ListError::Limit)?;
        Ok(Self { limit, ..self })
    }

    /// What is promised: `quorum`, that every write of the bucket that was
    /// acknowledged in it before the call and falls into the page is there, with
    /// that version or a later one; `one`, what any one copy holds.
    ///
    /// # Errors
    /// When it is linearizable: a bucket is no register.
    pub fn with_mode(self, mode: Mode) -> Result<Self, ListError> {
        match mode {
            Mode::Linearizable => Err(ListError::Linearizable),
            Mode::One | Mode::Quorum => Ok(Self { mode, ..self }),
        }
    }

    /// The bucket's name.
    #[must_use]
    pub fn bucket(&self) -> &str {
        self.bucket.as_str()
    }

    /// The most keys that are wanted.
    #[must_use]
    pub fn limit(&self) -> usize {
        usize::from(self.limit)
    }

    /// Whether a key is in the bucket, after where the page begins.
    #[must_use]
    pub fn contains(&self, key: &Key) -> bool {
        key.bucket() == self.bucket.as_str()
            && Some(key) > self.after.as_ref()
            && self.only.as_ref().is_none_or(|only| only == key)
    }

    /// The key that has the bucket's name.
    pub(crate) const fn key(&self) -> &Key {
        &self.bucket
    }

    pub(crate) const fn only(&self) -> Option<&Key> {
        self.only.as_ref()
    }

    pub(crate) const fn after(&self) -> Option<&Key> {
        self.after.as_ref()
    }

    pub(crate) const fn mode(&self) -> Mode {
        self.mode
    }

    pub(crate) fn slot(&self) -> Slot {
        self.bucket.slot()
    }
}

impl TryFrom<Unchecked> for List {
    type Error = ListError;

    fn try_from(unchecked: Unchecked) -> Result<Self, ListError> {
        let list = Self::new(unchecked.bucket.as_str())?;
        let list = match unchecked.only {
            Some(only) if only.bucket() == list.bucket() => Self::of_key(only)?,
            Some(_) => return Err(ListError::AfterElsewhere),
            None => list,
        };
        let list = list.with_limit(usize::from(unchecked.limit))?;
        let list = list.with_mode(unchecked.mode)?;
        match unchecked.after {
            Some(after) => list.with_after(after.as_str()),
            None => Ok(list),
        }
    }
}

impl fmt::Display for ListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyBucket => f.write_str("the bucket is empty; name one"),
            Self::SlashInBucket => {
                f.write_str("a bucket's name has no slash: it is what precedes a key's first")
            }
            Self::LongBucket => write!(f, "the bucket is longer than {KEY_LEN_MAX} bytes"),
            Self::AfterElsewhere => f.write_str(
                "after is a whole key of the bucket (bucket/name), as a page names it in next",
            ),
            Self::Limit => write!(f, "limit is 1 to {PAGE_KEY_COUNT_MAX}"),
            Self::Linearizable => {
                f.write_str("a list has the mode one or quorum: a bucket is no register")
            }
        }
    }
}

impl core::error::Error for ListError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire;

    #[test]
    fn what_makes_no_sense_is_refused() {
        let long = "b".repeat(KEY_LEN_MAX + 1);
        for (bucket, error) in [
            ("", ListError::EmptyBucket),
            ("a/", ListError::SlashInBucket),
            ("/", ListError::SlashInBucket),
            (long.as_str(), ListError::LongBucket),
        ] {
            assert_eq!(List::new(bucket), Err(error), "{bucket}");
        }
        let list = List::new("a").unwrap();
        for after in ["", "b", "ab/c", "a-b/c", "/a", &"a/".repeat(600)] {
            let refused = list.clone().with_after(after);
            assert_eq!(refused, Err(ListError::AfterElsewhere), "{after}");
        }
        for limit in [0, 1001, usize::MAX] {
            assert_eq!(list.clone().with_limit(limit), Err(ListError::Limit));
        }
        let linearizable = list.with_mode(Mode::Linearizable);
        assert_eq!(linearizable, Err(ListError::Linearizable));
    }

    #[test]
    fn a_peer_can_ask_for_nothing_else() {
        let list = List::new("a").unwrap().with_after("a/b").unwrap();
        assert_eq!(wire::decode(&wire::encode(&list)), Ok(list.clone()));
        let bad = [
            List {
                limit: 0,
                ..list.clone()
            },
            List {
                limit: 1001,
                ..list.clone()
            },
            List {
                mode: Mode::Linearizable,
                ..list.clone()
            },
            List {
                bucket: Key::new("a/b").unwrap(),
                ..list.clone()
            },
            List {
                after: Some(Key::new("b/a").unwrap()),
                ..list
            },
        ];
        for list in bad {
            let decoded = wire::decode::<List>(&wire::encode(&list));
            assert!(decoded.is_err(), "{list:?}");
        }
    }
}
