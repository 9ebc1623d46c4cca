//! Keys, buckets and slots.

use alloc::string::String;
use core::borrow::Borrow;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::id::NodeId;

/// A key's longest length, in bytes of UTF-8.
pub const KEY_LEN_MAX: usize = 1024;

/// A value's longest length, in bytes.
pub const VALUE_LEN_MAX: usize = 1 << 20;

/// The ring's positions fall into this many slots, by their first 12 bits.
/// Slots never split or merge.
pub const SLOT_COUNT: u16 = 4096;

/// A key: `bucket/name`, UTF-8, 1 to 1,024 bytes. The bucket ends at the first
/// slash; without a slash the key is its own bucket.
///
/// The hash of the bucket is the key's position, so that all keys of a bucket
/// live together.
///
/// ```
/// use roundelay_core::kvs::Key;
///
/// let key = Key::new("chat/2026/hello")?;
/// assert_eq!(key.bucket(), "chat");
/// assert_eq!(key.slot(), Key::new("chat")?.slot());
/// # Ok::<(), roundelay_core::kvs::KeyError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key(String);

/// Why a text is no [`Key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// It is empty.
    Empty,
    /// It has more than [`KEY_LEN_MAX`] bytes.
    TooLong,
    /// It is not UTF-8.
    NotUtf8,
}

impl Key {
    /// Checks and keeps a key.
    ///
    /// # Errors
    /// When the text is empty or too long.
    pub fn new(text: impl Into<String>) -> Result<Self, KeyError> {
        let text = text.into();
        match text.len() {
            0 => Err(KeyError::Empty),
            1..=KEY_LEN_MAX => Ok(Self(text)),
            _ => Err(KeyError::TooLong),
        }
    }

    /// Checks and keeps a key that comes as bytes.
    ///
    /// # Errors
    /// When the bytes are empty, too many, or not UTF-8.
    pub fn from_utf8(bytes: &[u8]) -> Result<Self, KeyError> {
        Self::new(core::str::from_utf8(bytes).map_err(|_| KeyError::NotUtf8)?)
    }

    /// The whole key.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What comes before the first slash; the whole key when there is none.
    #[must_use]
    pub fn bucket(&self) -> &str {
        self.0.split('/').next().unwrap_or_default()
    }

    /// The position of the key's bucket on the ring.
    #[must_use]
    pub fn position(&self) -> NodeId {
        NodeId::hash_of(self.bucket().as_bytes())
    }

    /// The slot of the key's bucket.
    #[must_use]
    pub fn slot(&self) -> Slot {
        Slot::of(&self.position())
    }
}

impl TryFrom<String> for Key {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        Self::new(text)
    }
}

/// Keys are in the order of their texts.
impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the key is empty"),
            Self::TooLong => write!(f, "the key is longer than {KEY_LEN_MAX} bytes"),
            Self::NotUtf8 => f.write_str("the key is not UTF-8"),
        }
    }
}

impl core::error::Error for KeyError {}

/// One of the [`SLOT_COUNT`] parts of the ring that are voted on and moved as
/// a whole. Always below [`SLOT_COUNT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u16);

impl Slot {
    /// The slot of a position: its first 12 bits.
    #[must_use]
    pub fn of(position: &NodeId) -> Self {
        let [high, low, ..] = *position.as_bytes();
        Self(u16::from_be_bytes([high, low]) >> 4)
    }

    /// The slot with this number, if there is one.
    #[must_use]
    pub fn new(number: u16) -> Option<Self> {
        (number < SLOT_COUNT).then_some(Self(number))
    }

    /// The slot after this one, round the ring.
    #[must_use]
    pub const fn next(self) -> Self {
        Self((self.0 + 1) % SLOT_COUNT)
    }

    /// The slot's number.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0
    }

    /// The slot's first position.
    #[must_use]
    pub fn start(self) -> NodeId {
        let mut bytes = [0; 32];
        let [high, low] = (self.0 << 4).to_be_bytes();
        let [first, second, ..] = &mut bytes;
        (*first, *second) = (high, low);
        NodeId::from_bytes(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_ends_at_the_first_slash() {
        assert_eq!(Key::new("a/b/c").unwrap().bucket(), "a");
        assert_eq!(Key::new("abc").unwrap().bucket(), "abc");
        assert_eq!(Key::new("/x").unwrap().bucket(), "");
    }

    #[test]
    fn limits_are_checked_on_the_wire_too() {
        assert_eq!(Key::new(""), Err(KeyError::Empty));
        assert_eq!(Key::new("k".repeat(1025)), Err(KeyError::TooLong));
        assert_eq!(Key::from_utf8(&[0xff]), Err(KeyError::NotUtf8));
        let long = postcard::to_allocvec(&"k".repeat(1025)).unwrap();
        assert!(postcard::from_bytes::<Key>(&long).is_err());
    }

    #[test]
    fn slots_start_where_they_begin() {
        for number in [0, 1, 0x7ff, 0xfff] {
            let slot = Slot::new(number).unwrap();
            assert_eq!(Slot::of(&slot.start()), slot);
        }
        assert_eq!(Slot::new(SLOT_COUNT), None);
    }
}
