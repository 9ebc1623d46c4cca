//! Positions on the ring.

use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use base32ct::{Base32Unpadded, Encoding};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A node's id: SHA-256 of its Ed25519 public key, and its position on the
/// ring of 2^256 positions (big-endian).
///
/// Its text form, everywhere, is 52 lowercase base32 characters without
/// padding, which fits one DNS label.
///
/// ```
/// use roundelay_core::NodeId;
///
/// let id = NodeId::from_bytes([7; 32]);
/// assert_eq!(id.to_string().len(), 52);
/// assert_eq!(id.to_string().parse::<NodeId>(), Ok(id));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId([u8; 32]);

/// Why a text is no [`NodeId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseIdError;

impl NodeId {
    /// The id with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The id of the holder of this Ed25519 public key.
    #[must_use]
    pub fn from_public_key(key: &[u8; 32]) -> Self {
        Self(Sha256::digest(key).into())
    }

    /// The position of a hashed text (a bucket's name, say).
    #[must_use]
    pub fn hash_of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The id's bytes, most significant first.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The distance clockwise from `self` to `other`, modulo 2^256, as
    /// big-endian bytes: order them to find who comes first.
    #[must_use]
    pub fn distance_to(&self, other: &Self) -> [u8; 32] {
        let ((to_high, to_low), (from_high, from_low)) = (other.halves(), self.halves());
        let (low, borrow) = to_low.overflowing_sub(from_low);
        let high = to_high
            .wrapping_sub(from_high)
            .wrapping_sub(u128::from(borrow));
        let mut distance = [0; 32];
        let (first, second) = distance.split_at_mut(16);
        first.copy_from_slice(&high.to_be_bytes());
        second.copy_from_slice(&low.to_be_bytes());
        distance
    }

    /// The point so far clockwise, as a part of the ring in 2^64.
    pub(crate) fn clockwise_by(&self, distance: u64) -> Self {
        let mut bytes = self.0;
        let head = self.head().wrapping_add(distance);
        for (byte, new) in bytes.iter_mut().zip(head.to_be_bytes()) {
            *byte = new;
        }
        Self(bytes)
    }

    /// Its first eight bytes, as a number.
    pub(crate) fn head(&self) -> u64 {
        let head = self.0.first_chunk();
        head.map_or(0, |head| u64::from_be_bytes(*head))
    }

    fn halves(&self) -> (u128, u128) {
        let half = |bytes: Option<&[u8; 16]>| bytes.map_or(0, |half| u128::from_be_bytes(*half));
        (half(self.0.first_chunk()), half(self.0.last_chunk()))
    }

    /// Whether `self` lies strictly between `low` and `high`, clockwise.
    /// With `low == high` the whole ring but that point lies between.
    #[must_use]
    pub fn is_between(&self, low: &Self, high: &Self) -> bool {
        if low < high {
            low < self && self < high
        } else {
            low < self || self < high
        }
    }

    /// The first eight characters of the text form, for logs and pictures.
    #[must_use]
    pub fn short(&self) -> String {
        Base32Unpadded::encode_string(self.0.get(..5).unwrap_or_default())
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Base32Unpadded::encode_string(&self.0))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

impl FromStr for NodeId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        if text.len() != 52 {
            return Err(ParseIdError);
        }
        let text = text.to_ascii_lowercase();
        let mut bytes = [0; 32];
        Base32Unpadded::decode(&text, &mut bytes).map_err(|_| ParseIdError)?;
        // Of the last character only one bit counts: the others are clear.
        let id = Self(bytes);
        let is_whole = Base32Unpadded::encode_string(&id.0) == text;
        is_whole.then_some(id).ok_or(ParseIdError)
    }
}

impl fmt::Display for ParseIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id is 52 characters of base32 (a-z and 2-7)")
    }
}

impl core::error::Error for ParseIdError {}

/// Names a ring: 128 random bits, chosen at genesis. Two rings of different
/// ids never merge.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingId([u8; 16]);

impl RingId {
    /// The ring id with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The id's first four bytes: the tag that data messages carry.
    pub(crate) fn tag(&self) -> u32 {
        self.0
            .first_chunk()
            .map_or(0, |head| u32::from_be_bytes(*head))
    }
}

impl fmt::Display for RingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Base32Unpadded::encode_string(&self.0))
    }
}

impl fmt::Debug for RingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(first: u8, last: u8) -> NodeId {
        let mut bytes = [0; 32];
        bytes[0] = first;
        bytes[31] = last;
        NodeId(bytes)
    }

    #[test]
    fn distance_wraps_around_the_ring() {
        assert_eq!(id(0, 1).distance_to(&id(0, 3)), id(0, 2).0);
        assert_eq!(id(0, 3).distance_to(&id(0, 3)), [0; 32]);
        let mut all_but_one = [0xff; 32];
        all_but_one[31] = 0xfe;
        assert_eq!(id(0, 3).distance_to(&id(0, 1)), all_but_one);
        assert_eq!(id(2, 0).distance_to(&id(1, 0))[0], 0xff);
    }

    #[test]
    fn between_is_open_and_wraps() {
        let (a, b, c) = (id(1, 0), id(2, 0), id(3, 0));
        assert!(b.is_between(&a, &c));
        assert!(!a.is_between(&a, &c));
        assert!(!c.is_between(&a, &c));
        assert!(a.is_between(&c, &b));
        assert!(b.is_between(&a, &a));
        assert!(!a.is_between(&a, &a));
    }

    #[test]
    fn text_is_lowercase_and_checked() {
        let text = id(0xff, 9).to_string();
        assert_eq!(text, text.to_lowercase());
        assert_eq!(text.to_uppercase().parse(), Ok(id(0xff, 9)));
        assert_eq!("short".parse::<NodeId>(), Err(ParseIdError));
        assert_eq!("1".repeat(52).parse::<NodeId>(), Err(ParseIdError));
    }

    use alloc::string::ToString;
}
