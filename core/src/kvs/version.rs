//! Versions: a hybrid logical clock, then the writer's id.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::NodeId;
use crate::time::{Instant, Now};

/// How far ahead of the local wall clock a peer's version may be, in
/// milliseconds, before it is refused.
pub const CLOCK_AHEAD_MS_MAX: u64 = 5 * 60 * 1000;

/// How much further a version may be ahead than the last one that another voter
/// took, in milliseconds: clocks are not set to each other to the last of them.
const TRUST_MS: u64 = 1000;

/// The bits of a version's node that change when its clock may have gone back.
const VARIANT: u64 = 0xfffe;

/// A version of a record. A greater one wins; no two writes share one.
///
/// Made by a hybrid logical clock (Kulkarni et al. 2014): milliseconds since
/// the Unix epoch in the upper 48 bits, a counter in the lower 16, then the
/// first six bytes of the id of the node that asked for the write, and two that
/// change whenever its clock may have gone back. Their last bit is clear: with it,
/// it is the version of the tombstone of what expired.
///
/// A **marked** version is one of a linearizable write, and the ballot by which
/// it was chosen. It has a term, the number of the view that chose it, which
/// counts first: no other write outranks it, however late its clock.
///
/// Its text form, the HTTP API's `ETag`, is `<hex stamp>-<hex node>`, with
/// `<hex term>.` before it if it is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version {
    /// Zero if it is not marked.
    term: u64,
    stamp: u64,
    node: u64,
}

/// Why a text is no [`Version`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseVersionError;

impl Version {
    /// Older than every version that a clock makes.
    pub const ZERO: Self = Self {
        term: 0,
        stamp: 0,
        node: 0,
    };

    /// The clock's part, in milliseconds since the Unix epoch.
    #[must_use]
    pub const fn unix_ms(self) -> u64 {
        self.stamp >> 16
    }

    /// Whether a wall clock is no more behind it than peers may differ.
    pub(crate) const fn is_believed(self, unix_ms: u64) -> bool {
        self.unix_ms() <= unix_ms.saturating_add(CLOCK_AHEAD_MS_MAX)
    }

    /// Whether it is of a linearizable write.
    #[must_use]
    pub const fn is_marked(self) -> bool {
        self.term > 0
    }

    /// The last one of a millisecond.
    pub(crate) const fn end_of(unix_ms: u64) -> Self {
        Self {
            term: 0,
            stamp: (unix_ms << 16) | 0xffff,
            node: !1,
        }
    }

    /// The ballot of this write in a view.
    pub(crate) const fn marked(self, term: u64) -> Self {
        Self { term, ..self }
    }

    /// Whether it was written under a ballot of the view with this number, or of none.
    pub(crate) const fn is_settled_in(self, view: u64) -> bool {
        !self.is_marked() || self.term == view
    }

    /// The write itself, in whatever view it was chosen. Writes of one key that
    /// were chosen one after the other have rising ones.
    pub(crate) const fn write(self) -> (u64, u64) {
        (self.stamp, self.node)
    }

    /// The version next to it, of the tombstone that takes its place when it
    /// expires. No clock makes one between the two, or this one.
    pub(crate) const fn expired(self) -> Self {
        Self {
            node: self.node | 1,
            ..self
        }
    }

    pub(crate) const fn parts(self) -> [u64; 3] {
        [self.term, self.stamp, self.node]
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_marked() {
            write!(f, "{:x}.", self.term)?;
        }
        write!(f, "{:x}-{:016x}", self.stamp, self.node)
    }
}

impl FromStr for Version {
    type Err = ParseVersionError;

    fn from_str(text: &str) -> Result<Self, ParseVersionError> {
        let parse = |hex: &str| match hex.strip_prefix('+') {
            Some(_) => Err(ParseVersionError),
            None => u64::from_str_radix(hex, 16).map_err(|_| ParseVersionError),
        };
        let (term, rest) = match text.split_once('.') {
            Some((term, rest)) => (parse(term)?, rest),
            None => (0, text),
        };
        let (stamp, node) = rest.split_once('-').ok_or(ParseVersionError)?;
        Ok(Self {
            term,
            stamp: parse(stamp)?,
            node: parse(node)?,
        })
    }
}

impl fmt::Display for ParseVersionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a version looks like 19a2b3c4d5e60000-0123456789abcdef")
    }
}

impl core::error::Error for ParseVersionError {}

/// The clock that makes versions: never behind one that it has seen.
#[derive(Debug)]
pub(crate) struct Clock {
    latest: u64,
    node: u64,
    /// How far the wall clock is ahead of those of others, where that is too
    /// much for them, in milliseconds.
    ahead_ms: u64,
    /// When that was measured.
    measured: Option<Now>,
    /// A version that another voter has taken, in milliseconds, and when.
    trusted: Option<(u64, Instant)>,
}

impl Clock {
    /// A clock for the node `id`.
    pub(crate) fn new(id: &NodeId) -> Self {
        let node = id
            .as_bytes()
            .first_chunk()
            .map_or(0, |head| u64::from_be_bytes(*head) & !1);
        Self {
            latest: 0,
            node,
            ahead_ms: 0,
            measured: None,
            trusted: None,
        }
    }

    /// Makes versions, from now on, that are no others' of this node, whatever the
    /// clock says: it may have started anew, with a wall clock that was set back.
    pub(crate) const fn vary(&mut self, variant: u64) {
        self.node = (self.node & !VARIANT) | ((variant << 1) & VARIANT);
    }

    /// The time by this clock, in milliseconds since the Unix epoch: that of the
    /// wall clock, unless it saw a later one.
    pub(crate) fn unix_ms(&self, unix_ms: u64) -> u64 {
        let unix_ms = unix_ms.saturating_sub(self.ahead_ms);
        unix_ms.max(self.latest >> 16)
    }

    /// A version newer than all that this clock made or saw.
    pub(crate) fn tick(&mut self, unix_ms: u64) -> Version {
        let unix_ms = unix_ms.saturating_sub(self.ahead_ms);
        self.latest = (unix_ms << 16).max(self.latest.saturating_add(1));
        Version {
            term: 0,
            stamp: self.latest,
            node: self.node,
        }
    }

    /// Takes note that a version was refused for being too far ahead of
    /// another's wall clock: from here on this clock follows that one.
    pub(crate) fn turn_back(&mut self, now: Now, theirs: u64) {
        self.ahead_ms = now.unix_ms.saturating_sub(theirs);
        self.measured = Some(now);
        self.latest = self.latest.min(theirs << 16);
        // Stamps come once more that were given to other writes, perhaps.
        self.vary((self.node >> 1).wrapping_add(1));
    }

    /// A wall clock that was ahead may have been set right: then it went less far than
    /// time did, and nobody's version need say so.
    pub(crate) fn follow(&mut self, now: Now) {
        let Some(measured) = self.measured else {
            return;
        };
        let passed = now.mono.since(measured.mono).as_millis();
        let passed = u64::try_from(passed).unwrap_or(u64::MAX);
        let expected = measured.unix_ms.saturating_add(passed);
        let set_back = expected.saturating_sub(now.unix_ms);
        self.ahead_ms = self.ahead_ms.saturating_sub(set_back);
        self.measured = (self.ahead_ms > 0).then_some(now);
    }

    /// Another voter has taken a version: by its clock, too, it is not too far
    /// ahead.
    pub(crate) fn trust(&mut self, version: Version, now: Instant) {
        if !self.is_trusted(version, now) {
            self.trusted = Some((version.unix_ms(), now));
        }
    }

    /// Whether others believe a version, as far as can be known from what they
    /// took before: no later by the wall clock than by the time that has passed.
    pub(crate) fn is_trusted(&self, version: Version, now: Instant) -> bool {
        self.trusted.is_some_and(|(unix_ms, since)| {
            let passed = u64::try_from(now.since(since).as_millis()).unwrap_or(u64::MAX);
            let latest = unix_ms.saturating_add(passed);
            version.unix_ms() <= latest.saturating_add(TRUST_MS)
        })
    }

    /// Takes note of a version made elsewhere.
    ///
    /// Returns whether it is to be believed: one more than
    /// [`CLOCK_AHEAD_MS_MAX`] ahead of the local wall clock is not.
    pub(crate) fn observe(&mut self, version: Version, unix_ms: u64) -> bool {
        if !version.is_believed(unix_ms) {
            return false;
        }
        self.latest = self.latest.max(version.stamp);
        // A wall clock that was ahead may have been set right since.
        let ahead_ms = unix_ms.saturating_sub(version.unix_ms());
        self.ahead_ms = self.ahead_ms.min(ahead_ms);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kvs::fixture::at;
    use alloc::string::ToString;

    #[test]
    fn ticks_rise_even_when_the_wall_clock_falls() {
        let mut clock = Clock::new(&NodeId::from_bytes([1; 32]));
        let first = clock.tick(1_000);
        let second = clock.tick(10);
        assert!(second > first);
        assert!(clock.tick(2_000).unix_ms() == 2_000);
    }

    #[test]
    fn a_clock_passes_what_it_saw_but_not_what_is_absurd() {
        let mut clock = Clock::new(&NodeId::from_bytes([1; 32]));
        let mut fast = Clock::new(&NodeId::from_bytes([2; 32]));
        let seen = fast.tick(5_000);
        assert!(clock.observe(seen, 1_000));
        assert!(clock.tick(1_000) > seen);
        let absurd = fast.tick(1_000 + CLOCK_AHEAD_MS_MAX + 1);
        assert!(!clock.observe(absurd, 1_000));
        assert!(clock.tick(1_000) < absurd);
    }

    #[test]
    fn a_clock_that_is_refused_turns_back() {
        let mut clock = Clock::new(&NodeId::from_bytes([1; 32]));
        let hour = 60 * 60 * 1000;
        clock.tick(2 * hour);
        clock.turn_back(at(2 * hour), hour);
        let version = clock.tick(2 * hour + 5);
        assert_eq!(version.unix_ms(), hour + 5);
        // The wall clock is set right: what others write says so.
        let theirs = Clock::new(&NodeId::from_bytes([2; 32])).tick(hour + 10);
        assert!(clock.observe(theirs, hour + 11));
        assert_eq!(clock.unix_ms(hour + 20), hour + 19);
    }

    #[test]
    fn a_clock_follows_when_its_wall_clock_is_set_right_though_nobody_writes() {
        let mut clock = Clock::new(&NodeId::from_bytes([1; 32]));
        let hour = 60 * 60 * 1000;
        clock.turn_back(at(2 * hour), hour);
        let mut now = at(2 * hour);
        for _ in 0..10 {
            now.mono += core::time::Duration::from_micros(1_700);
            now.unix_ms += 1;
            clock.follow(now);
        }
        assert_eq!(clock.unix_ms(now.unix_ms), hour + 10);
        now.mono += core::time::Duration::from_secs(5);
        now.unix_ms = hour + 5_010;
        clock.follow(now);
        assert_eq!(clock.unix_ms(now.unix_ms), hour + 5_010);
        // By less, and it is ahead still.
        clock.turn_back(at(2 * hour), hour);
        let mut now = at(2 * hour);
        now.unix_ms -= 1_000;
        clock.follow(now);
        assert_eq!(clock.unix_ms(now.unix_ms + 7_000), hour + 7_000);
    }

    #[test]
    fn a_clock_that_turns_back_makes_no_version_twice() {
        let mut clock = Clock::new(&NodeId::from_bytes([1; 32]));
        let mut made = alloc::collections::BTreeSet::new();
        // Voters whose clocks differ refuse it by turns.
        for theirs in [1000, 900, 1000, 900, 1000] {
            clock.turn_back(at(5000), theirs);
            for later in 0..200 {
                assert!(made.insert(clock.tick(5000 + later)));
            }
        }
        assert!(made.iter().all(|version| version.node & 1 == 0));
    }

    #[test]
    fn text_round_trips() {
        let version = Clock::new(&NodeId::from_bytes([0xab; 32])).tick(1_763_856_000_000);
        assert_eq!(version.to_string().parse(), Ok(version));
        let marked = version.marked(10);
        assert_eq!(marked.to_string(), alloc::format!("a.{version}"));
        assert_eq!(marked.to_string().parse(), Ok(marked));
        assert!(marked > Version::ZERO.marked(9) && marked > version);
        assert!("1763".parse::<Version>().is_err());
        assert!("zz-1".parse::<Version>().is_err());
    }
}
