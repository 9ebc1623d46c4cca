//! Records that live for a while only.
//!
//! A write may have a time to live. Its record expires so long after the
//! version's own time, which its caller's clock gave it: that instant travels
//! with the entry, and is the same everywhere. Whether it has come is for
//! nobody to say alone. A coordinator whose hybrid clock has passed it has a
//! majority keep a tombstone before it answers that there is nothing; and a
//! voter takes such a tombstone only when its own clock, with the error that
//! peers' clocks are allowed, has passed the instant, too. So what was missing
//! once stays missing, whatever clock is asked next.
//!
//! The tombstone's version is the one next to the record's: no other write lies
//! between them, and all who make it make the same one.

mod sweep;

use core::fmt;
use core::num::NonZeroU64;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

pub(super) use self::sweep::Sweeper;
use super::entry::Entry;
use super::version::{CLOCK_AHEAD_MS_MAX, Clock, Version};
use crate::time::Now;

/// The longest time to live, in seconds: ten years.
pub const TTL_SECONDS_MAX: u32 = 10 * 365 * 24 * 60 * 60;

/// How long a record lives: whole seconds, from 1 to [`TTL_SECONDS_MAX`].
///
/// ```
/// use roundelay_core::kvs::Ttl;
///
/// assert_eq!("60".parse::<Ttl>()?.as_seconds(), 60);
/// assert!("0".parse::<Ttl>().is_err());
/// # Ok::<(), roundelay_core::kvs::TtlError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Ttl(u32);

/// Why a number is no [`Ttl`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TtlError;

impl Ttl {
    /// The seconds.
    #[must_use]
    pub const fn as_seconds(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Ttl {
    type Error = TtlError;

    fn try_from(seconds: u32) -> Result<Self, TtlError> {
        match seconds {
            1..=TTL_SECONDS_MAX => Ok(Self(seconds)),
            _ => Err(TtlError),
        }
    }
}

impl From<Ttl> for u32 {
    fn from(ttl: Ttl) -> Self {
        ttl.0
    }
}

impl FromStr for Ttl {
    type Err = TtlError;

    fn from_str(text: &str) -> Result<Self, TtlError> {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let seconds = text.parse::<u32>().ok().filter(|_| digits);
        seconds.ok_or(TtlError)?.try_into()
    }
}

impl fmt::Display for TtlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a time to live is a whole number of seconds, from 1 to {TTL_SECONDS_MAX}"
        )
    }
}

impl core::error::Error for TtlError {}

/// When a record expires, in milliseconds since the Unix epoch, by the clocks
/// that make versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Expiry(NonZeroU64);

impl Expiry {
    /// That of a write of this version.
    pub(crate) fn after(version: Version, ttl: Ttl) -> Self {
        let ttl = u64::from(ttl.0).saturating_mul(1000);
        let unix_ms = version.unix_ms().saturating_add(ttl);
        Self(NonZeroU64::new(unix_ms).unwrap_or(NonZeroU64::MIN))
    }

    /// Whether a clock has passed it.
    pub(crate) fn is_past(self, clock: &Clock, now: Now) -> bool {
        self.unix_ms() <= clock.unix_ms(now.unix_ms)
    }

    pub(crate) const fn unix_ms(self) -> u64 {
        self.0.get()
    }
}

impl Entry {
    /// Whether it stands for a record that expired.
    pub(crate) const fn is_of_expired(&self) -> bool {
        self.value.is_none() && self.expires.is_some()
    }

    /// Whether it has a value that has expired, as far as a clock can tell.
    pub(crate) fn is_past(&self, clock: &Clock, now: Now) -> bool {
        let expiry = self.expires.filter(|_| self.value.is_some());
        expiry.is_some_and(|expiry| expiry.is_past(clock, now))
    }

    /// Whether a voter agrees that what this stands for has expired: its clock
    /// has passed the instant, or would have, were it as far behind as it may be.
    pub(crate) fn is_agreed(&self, now: Now) -> bool {
        let latest = now.unix_ms.saturating_add(CLOCK_AHEAD_MS_MAX);
        let expiry = self.expires.filter(|_| self.value.is_none());
        expiry.is_none_or(|expiry| expiry.unix_ms() <= latest)
    }
}

#[cfg(test)]
mod tests;
