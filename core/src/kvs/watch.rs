//! Watches: what becomes of a key, or of the keys of a bucket.
//!
//! A watch is asked for piece by piece, and each piece brings a token to ask for
//! the next one with. The voter that is asked keeps a log of what becomes durable
//! in buckets that are watched (`feed`), and holds a question until there is
//! something to tell. So nothing is ever kept for a watcher that is slow: what it
//! has not asked for is merged, or it has to begin again.
//!
//! ```text
//! no token, or one that means nothing here:  reset, then a list, page by page
//! token of a list: the next page             (a majority's, as any list)
//! token of the log: what came after, now or as soon as there is something
//! ```
//!
//! Nothing is missed: the token of a list names the log's end before the list
//! began. A version that is newest in the end was listed, or it became durable
//! at this voter since, and is in the log; or this voter never gets it, being
//! cut off or replaced, and the watcher begins again at another.

mod feed;
mod serving;

use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

pub(super) use self::feed::Feed;
pub(super) use self::serving::HOLD;
use super::key::{KEY_LEN_MAX, Key, KeyError};
use super::list::{List, ListError};
use super::version::Version;
use crate::wire;

/// The next piece of a watch that is asked for.
///
/// ```
/// use roundelay_core::kvs::Watch;
///
/// let bucket = Watch::new("chat/")?;
/// let key = Watch::new("chat/hello")?;
/// # assert_ne!(bucket, key);
/// # Ok::<(), roundelay_core::kvs::WatchError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    pub(super) list: List,
    pub(super) token: Option<Token>,
}

/// A piece of a watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct News {
    /// All that was told before is to be forgotten: the keys that exist follow,
    /// in this piece and the next ones, as changes.
    pub reset: bool,
    /// What changed. Of each key the newest version is told, and between two
    /// resets never an older one after it; versions between may be left out, and
    /// one may be told twice.
    pub changes: Vec<Change>,
    /// What the next piece is asked for with.
    pub token: Token,
}

/// A key has another version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Which key.
    pub key: Key,
    /// Its version.
    pub version: Version,
    /// Whether it has no value any more.
    pub deleted: bool,
}

/// How far a watch is. Its text form, the HTTP API's `Last-Event-ID`, is opaque:
/// hexadecimal digits, at most [`TOKEN_LEN_MAX`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// The log, of one start of one voter.
    pub(super) log: u64,
    /// The last change of it that is known.
    pub(super) seq: u64,
    pub(super) place: Place,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Place {
    /// A reset, and the first page.
    Reset,
    /// The page after this key.
    Listing(Key),
    /// The log.
    Following,
}

/// The longest text of a [`Token`].
pub const TOKEN_LEN_MAX: usize = 2 * (KEY_LEN_MAX + 32);

/// Why something is no [`Watch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchError {
    /// What is to be watched is empty.
    Empty,
    /// It has more than [`KEY_LEN_MAX`] bytes.
    TooLong,
    /// It begins with a slash: it is in no bucket.
    NoBucket,
}

/// A text is no [`Token`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseTokenError;

impl Watch {
    /// A watch of a key, or, with a slash at its end and no other, of the keys of
    /// a bucket: `chat/`.
    ///
    /// # Errors
    /// When it is neither.
    pub fn new(target: &str) -> Result<Self, WatchError> {
        let bucket = target.strip_suffix('/').filter(|name| !name.contains('/'));
        let list = match bucket {
            Some(bucket) => List::new(bucket),
            None => List::of_key(Key::new(target).map_err(|error| match error {
                KeyError::Empty => WatchError::Empty,
                KeyError::TooLong | KeyError::NotUtf8 => WatchError::TooLong,
            })?),
        };
        let list = list.map_err(|error| match error {
            ListError::LongBucket => WatchError::TooLong,
            _ => WatchError::NoBucket,
        })?;
        Ok(Self { list, token: None })
    }

    /// Goes on after an earlier piece.
    #[must_use]
    pub fn with_token(self, token: Token) -> Self {
        let token = Some(token);
        Self { token, ..self }
    }

    /// Whether a key is watched.
    pub(super) fn contains(&self, key: &Key) -> bool {
        self.list.contains(key)
    }

    /// The page to list next.
    pub(super) fn page(&self) -> List {
        match self.token.as_ref().map(|token| &token.place) {
            Some(Place::Listing(after)) => {
                let rest = self.list.clone().with_after(after.as_str());
                rest.unwrap_or_else(|_| self.list.clone())
            }
            _ => self.list.clone(),
        }
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = wire::encode(self).into_iter();
        bytes.try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Token {
    type Err = ParseTokenError;

    fn from_str(text: &str) -> Result<Self, ParseTokenError> {
        let digits = text.as_bytes();
        if digits.len() > TOKEN_LEN_MAX {
            return Err(ParseTokenError);
        }
        let hex = |digit: u8| char::from(digit).to_digit(16);
        let byte = |pair: &[u8]| match pair {
            [high, low] => u8::try_from(hex(*high)? * 16 + hex(*low)?).ok(),
            _ => None,
        };
        let bytes: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
        wire::decode(&bytes.ok_or(ParseTokenError)?).map_err(|_| ParseTokenError)
    }
}

impl fmt::Display for WatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("name a key, or a bucket with a slash at its end"),
            Self::TooLong => write!(f, "the key is longer than {KEY_LEN_MAX} bytes"),
            Self::NoBucket => f.write_str("a key that begins with a slash cannot be watched"),
        }
    }
}

impl fmt::Display for ParseTokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a token is what an earlier piece of the watch brought")
    }
}

impl core::error::Error for WatchError {}
impl core::error::Error for ParseTokenError {}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::{String, ToString};

    fn watches(target: &str, key: &str) -> Result<bool, WatchError> {
        let key = Key::new(key).unwrap();
        Watch::new(target).map(|watch| watch.contains(&key))
    }

    #[test]
    fn a_slash_at_the_end_means_the_bucket() {
        for (target, key, expected) in [
            ("a/", "a/b", true),
            ("a/", "a", true),
            ("a/", "a/b/c", true),
            ("a/", "b/a", false),
            ("a/", "a-b/c", false),
            ("a", "a", true),
            ("a", "a/b", false),
            ("a/b", "a/b", true),
            ("a/b", "a/c", false),
            ("a/b/", "a/b/", true),
            ("a/b/", "a/b/c", false),
        ] {
            assert_eq!(watches(target, key), Ok(expected), "{target} {key}");
        }
        let long: String = "k".repeat(1025);
        for (target, error) in [
            ("", WatchError::Empty),
            ("/", WatchError::NoBucket),
            ("/a", WatchError::NoBucket),
            (long.as_str(), WatchError::TooLong),
            (&alloc::format!("{long}/"), WatchError::TooLong),
            (&alloc::format!("a/{long}"), WatchError::TooLong),
        ] {
            assert_eq!(watches(target, "a"), Err(error), "{target}");
        }
    }

    #[test]
    fn tokens_have_a_text() {
        let key = Key::new("k".repeat(KEY_LEN_MAX)).unwrap();
        for place in [Place::Reset, Place::Following, Place::Listing(key)] {
            let (log, seq) = (u64::MAX, u64::MAX);
            let token = Token { log, seq, place };
            assert!(token.to_string().len() <= TOKEN_LEN_MAX);
            assert_eq!(token.to_string().parse(), Ok(token));
        }
        for bad in ["", "0", "zz", "00", &"0".repeat(10_000)] {
            assert_eq!(bad.parse::<Token>(), Err(ParseTokenError), "{bad}");
        }
    }
}
