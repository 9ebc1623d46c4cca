//! What has become durable here in buckets that are watched, and the questions
//! that wait for more.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use super::{Change, News, Place, Token, Watch};
use crate::flat::{FlatMap, FlatSet};
use crate::kvs::coordinator::Origin;
use crate::kvs::entry::Index;
use crate::kvs::key::Key;
use crate::kvs::list::{PAGE_BYTES_MAX, PAGE_KEY_COUNT_MAX};
use crate::kvs::version::Version;
use crate::time::Instant;

/// Changes remembered, of all buckets together; then the oldest is forgotten,
/// and whoever has not been told of it is reset.
const LOG_COUNT_MAX: usize = 8192;
/// Bytes of their keys.
const LOG_BYTES_MAX: usize = 1 << 20;
/// How long changes of a bucket are remembered after it was asked for last.
const LEASE: Duration = Duration::from_secs(30);
/// Buckets watched at once; a watch of a further one is refused as busy.
const LEASE_COUNT_MAX: usize = 1024;
/// Questions held at once; a further one is refused as busy.
const HELD_COUNT_MAX: usize = 4096;
/// Keys of which others hold something newer than this node; a list that finds
/// more is left to another voter.
const AHEAD_COUNT_MAX: usize = 4096;
/// How often leases and questions are looked at.
const REVIEW: Duration = Duration::from_secs(1);

/// The log of one voter, since it started.
#[derive(Debug)]
pub(in crate::kvs) struct Feed {
    /// Random, so that no other log has it.
    log: u64,
    /// The last number that was given to a change.
    seq: u64,
    /// The newest change that was forgotten.
    forgotten: u64,
    changes: VecDeque<(u64, Change)>,
    bytes: usize,
    leases: FlatMap<Key, Lease>,
    /// What was listed, and is not here yet: nothing older is told after it.
    ahead: FlatMap<Key, Version>,
    review_at: Option<Instant>,
}

/// A bucket that is watched.
#[derive(Debug)]
struct Lease {
    /// Changes after this one are in the log.
    since: u64,
    until: Instant,
    held: FlatMap<Origin, Held>,
}

#[derive(Debug)]
struct Held {
    watch: Watch,
    until: Instant,
}

impl Feed {
    /// A log of this name.
    pub(in crate::kvs) const fn new(log: u64) -> Self {
        Self {
            log,
            seq: 0,
            forgotten: 0,
            changes: VecDeque::new(),
            bytes: 0,
            leases: FlatMap::new(),
            ahead: FlatMap::new(),
            review_at: None,
        }
    }

    pub(in crate::kvs) const fn poll_timeout(&self) -> Option<Instant> {
        self.review_at
    }

    /// Remembers the changes of the bucket from now on. Returns from where a
    /// watch goes on; nothing if too many buckets are watched.
    pub(super) fn lease(&mut self, watch: &Watch, now: Instant) -> Option<Token> {
        let bucket = watch.list.key();
        if !self.leases.contains_key(bucket) && self.leases.len() >= LEASE_COUNT_MAX {
            return None;
        }
        let seq = &mut self.seq;
        let lease = self.leases.entry(bucket.clone()).or_insert_with(|| {
            // No token of an earlier lease is as new.
            *seq += 1;
            Lease {
                since: *seq,
                until: now,
                held: FlatMap::new(),
            }
        });
        lease.until = now + LEASE;
        self.review_at.get_or_insert(now + REVIEW);
        let known = lease.since.max(self.forgotten);
        let token = watch
            .token
            .as_ref()
            .filter(|token| token.log == self.log && (known..=self.seq).contains(&token.seq));
        let reset = || Token {
            log: self.log,
            seq: self.seq,
            place: Place::Reset,
        };
        #[cfg(planted_bugs)]
        let reset = || Token {
            place: match watch.token {
                Some(_) if crate::planted::is("watch_goes_on") => Place::Following,
                _ => Place::Reset,
            },
            ..reset()
        };
        Some(token.cloned().unwrap_or_else(reset))
    }

    /// Whether the changes of a bucket are remembered.
    pub(super) fn is_watched(&self, bucket: &str) -> bool {
        self.leases.contains_key(bucket)
    }

    /// Others hold something newer. Returns whether that can be remembered.
    pub(super) fn set_ahead(&mut self, key: &Key, version: Version) -> bool {
        if self.ahead.len() >= AHEAD_COUNT_MAX && !self.ahead.contains_key(key) {
            return false;
        }
        let ahead = self.ahead.entry(key.clone()).or_insert(version);
        *ahead = version.max(*ahead);
        true
    }

    /// A change is durable. Returns the questions that it answers.
    pub(super) fn note(&mut self, change: Change) -> Vec<(Origin, Watch)> {
        let ahead = self.ahead.get(&change.key);
        if ahead.is_some_and(|ahead| *ahead > change.version) {
            return Vec::new();
        }
        self.ahead.remove(&change.key);
        let Some(lease) = self.leases.get_mut(change.key.bucket()) else {
            return Vec::new();
        };
        let answered = |_: &Origin, held: &mut Held| held.watch.contains(&change.key);
        let answered = lease.held.extract(answered);
        let answered = answered
            .into_iter()
            .map(|(origin, held)| (origin, held.watch))
            .collect();
        self.seq += 1;
        self.bytes += change.key.as_str().len();
        self.changes.push_back((self.seq, change));
        while self.changes.len() > LOG_COUNT_MAX || self.bytes > LOG_BYTES_MAX {
            let Some((seq, change)) = self.changes.pop_front() else {
                break;
            };
            self.forgotten = seq;
            self.bytes -= change.key.as_str().len();
        }
        answered
    }

    /// What became of each key since a watch's token, and how far that is. Of one
    /// that has something newer, which is not durable yet, that will be told.
    pub(super) fn news(&self, watch: &Watch, index: &Index) -> News {
        let since = watch.token.as_ref().map_or(self.seq, |token| token.seq);
        let mut newest: FlatMap<&Key, &Change> = FlatMap::new();
        let (mut seq, mut bytes) = (self.seq, 0);
        let first = self.changes.partition_point(|(seq, _)| *seq <= since);
        let later = self.changes.range(first..);
        let is_told = |(_, change): &&(u64, Change)| {
            let Change { key, version, .. } = change;
            let ahead = self.ahead.get(key).is_some_and(|ahead| ahead > version);
            let held = index.version(key);
            // A tombstone may have been collected since.
            let is_newest = held == *version || (held == Version::ZERO && change.deleted);
            watch.contains(key) && is_newest && !ahead
        };
        for (at, change) in later.filter(is_told) {
            let full = newest.len() >= PAGE_KEY_COUNT_MAX || bytes >= PAGE_BYTES_MAX;
            if full && !newest.contains_key(&change.key) {
                seq = at.saturating_sub(1);
                break;
            }
            bytes += change.key.as_str().len();
            newest.insert(&change.key, change);
        }
        let (log, place) = (self.log, Place::Following);
        News {
            reset: false,
            changes: newest.into_values().cloned().collect(),
            token: Token { log, seq, place },
        }
    }

    /// Keeps a question until it can be answered. Returns whether there is room.
    pub(super) fn hold(&mut self, origin: Origin, watch: Watch, until: Instant) -> bool {
        let held: usize = self.leases.values().map(|lease| lease.held.len()).sum();
        let lease = self.leases.get_mut(watch.list.key());
        let Some(lease) = lease.filter(|_| held < HELD_COUNT_MAX) else {
            return false;
        };
        lease.held.insert(origin, Held { watch, until });
        true
    }

    /// The buckets that are watched, if it is time to review them.
    pub(super) fn due(&self, now: Instant) -> impl Iterator<Item = &Key> {
        let is_time = self.review_at.is_some_and(|at| at <= now);
        self.leases.keys().filter(move |_| is_time)
    }

    /// Takes the questions that have waited for long enough, or whose bucket is
    /// served here no more; ends leases.
    pub(super) fn review(&mut self, now: Instant, served: &FlatSet<Key>) -> Vec<(Origin, Watch)> {
        let mut due = Vec::new();
        if self.review_at.is_none_or(|at| at > now) {
            return due;
        }
        self.leases.retain(|bucket, lease| {
            let serves = served.contains(bucket);
            let ends = |_: &Origin, held: &mut Held| !serves || held.until <= now;
            let ended = lease.held.extract(ends);
            due.extend(ended.into_iter().map(|(origin, held)| (origin, held.watch)));
            lease.until > now
        });
        let leases = &self.leases;
        self.ahead
            .retain(|key, _| leases.contains_key(key.bucket()));
        if self.leases.is_empty() {
            self.changes.clear();
            self.bytes = 0;
            self.forgotten = self.seq;
        }
        self.review_at = (!self.leases.is_empty()).then(|| now + REVIEW);
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::NodeId;
    use crate::kvs::entry::{Entry, Meta};
    use crate::kvs::request::RequestId;
    use crate::kvs::version::Clock;
    use alloc::format;

    /// A voter's log, and its index.
    struct Voter {
        feed: Feed,
        index: Index,
        clock: Clock,
        now: Instant,
    }

    impl Voter {
        fn new() -> Self {
            Self {
                feed: Feed::new(7),
                index: Index::default(),
                clock: Clock::new(&NodeId::from_bytes([1; 32])),
                now: Instant::default(),
            }
        }

        /// Where a watch goes on that was told everything so far.
        fn told(&mut self, target: &str) -> Watch {
            let watch = Watch::new(target).unwrap();
            let token = self.feed.lease(&watch, self.now).unwrap();
            let place = Place::Following;
            watch.with_token(Token { place, ..token })
        }

        fn goes_on(&mut self, watch: &Watch) -> bool {
            let token = self.feed.lease(watch, self.now).unwrap();
            token.place == Place::Following
        }

        /// A write reaches the disk; the questions that it answers.
        fn write(&mut self, key: &str) -> (Version, usize) {
            let version = self.clock.tick(0);
            (version, self.write_at(key, version))
        }

        fn write_at(&mut self, key: &str, version: Version) -> usize {
            let key = Key::new(key).unwrap();
            let entry = Entry {
                version,
                value: Some(Vec::new()),
                expires: None,
            };
            self.index.set(&key, Some(Meta::of(&key, &entry)));
            let deleted = false;
            let change = Change {
                key,
                version,
                deleted,
            };
            self.feed.note(change).len()
        }

        fn news(&self, watch: &Watch) -> Vec<Version> {
            let news = self.feed.news(watch, &self.index);
            news.changes.iter().map(|change| change.version).collect()
        }
    }

    #[test]
    fn of_many_versions_the_newest_is_told() {
        let mut voter = Voter::new();
        let watch = voter.told("a/");
        let one = voter.told("a/2");
        voter.write("a/1");
        voter.write("b/1");
        let (second, _) = voter.write("a/2");
        let (newest, _) = voter.write("a/1");
        assert_eq!(voter.news(&watch), [newest, second]);
        assert_eq!(voter.news(&one), [second]);
        let token = voter.feed.news(&watch, &voter.index).token;
        let watch = watch.with_token(token);
        assert!(voter.goes_on(&watch));
        assert_eq!(voter.news(&watch), []);
    }

    #[test]
    fn what_was_listed_is_not_followed_by_something_older() {
        let mut voter = Voter::new();
        let watch = voter.told("a/");
        let (older, newer) = (voter.clock.tick(0), voter.clock.tick(0));
        let key = Key::new("a/1").unwrap();
        assert!(voter.feed.set_ahead(&key, newer));
        voter.write_at("a/1", older);
        assert_eq!(voter.news(&watch), []);
        voter.write_at("a/1", newer);
        assert_eq!(voter.news(&watch), [newer]);
    }

    #[test]
    fn a_question_waits_for_what_it_is_about() {
        let mut voter = Voter::new();
        let watch = voter.told("a/1");
        let origin = Origin::Own(RequestId(1));
        let until = voter.now + Duration::from_secs(5);
        assert!(voter.feed.hold(origin, watch, until));
        assert_eq!(voter.write("a/2").1, 0);
        assert_eq!(voter.write("b/1").1, 0);
        assert_eq!(voter.write("a/1").1, 1);
        assert_eq!(voter.write("a/1").1, 0, "it is answered");
    }

    #[test]
    fn a_question_ends_with_its_time_or_its_voter() {
        for (seconds, serves) in [(1, false), (5, true)] {
            let mut voter = Voter::new();
            let watch = voter.told("a/");
            let origin = Origin::Own(RequestId(1));
            let until = voter.now + Duration::from_secs(5);
            assert!(voter.feed.hold(origin, watch, until));
            let mut ended = Vec::new();
            let mut second = 0;
            while ended.is_empty() {
                second += 1;
                let now = voter.now + Duration::from_secs(second);
                let served = voter.feed.due(now).filter(|_| serves).cloned().collect();
                ended = voter.feed.review(now, &served);
            }
            assert_eq!((second, ended.len()), (seconds, 1));
        }
    }

    #[test]
    fn whoever_missed_what_is_forgotten_begins_again() {
        let mut voter = Voter::new();
        let watch = voter.told("a/");
        for _ in 0..LOG_COUNT_MAX {
            voter.write("a/1");
        }
        assert!(voter.goes_on(&watch));
        voter.write("a/1");
        assert!(!voter.goes_on(&watch), "one too many");

        let mut voter = Voter::new();
        let watch = voter.told("a/");
        let long = "k".repeat(1000);
        for number in 0..=1100 {
            voter.write(&format!("a/{number}{long}"));
        }
        assert!(!voter.goes_on(&watch), "too long in all");
        assert!(voter.feed.bytes <= LOG_BYTES_MAX);

        let mut voter = Voter::new();
        let watch = voter.told("a/");
        voter.now += LEASE;
        let served = voter.feed.due(voter.now).cloned().collect();
        voter.feed.review(voter.now, &served);
        assert!(!voter.feed.is_watched("a"));
        assert!(!voter.goes_on(&watch), "who knows what happened meanwhile");
        let other = Feed::new(8);
        voter.feed = other;
        assert!(!voter.goes_on(&watch), "another voter");
    }

    #[test]
    fn nothing_grows_without_limit() {
        let mut voter = Voter::new();
        for number in 0..LEASE_COUNT_MAX {
            voter.told(&format!("{number}/"));
        }
        let further = Watch::new("further/").unwrap();
        assert_eq!(voter.feed.lease(&further, voter.now), None);
        let watch = voter.told("1/");
        let mut hold = |number: usize| {
            let origin = Origin::Own(RequestId(number as u64));
            voter.feed.hold(origin, watch.clone(), voter.now)
        };
        assert!((0..HELD_COUNT_MAX).all(&mut hold));
        assert!(!hold(HELD_COUNT_MAX));
        let version = voter.clock.tick(0);
        let mut lacks = |number: usize| {
            let key = Key::new(format!("1/{number}")).unwrap();
            voter.feed.set_ahead(&key, version)
        };
        assert!((0..AHEAD_COUNT_MAX).all(&mut lacks));
        assert!(!lacks(AHEAD_COUNT_MAX));
    }
}
