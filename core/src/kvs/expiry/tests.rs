//! What expired is gone for all, or for nobody.

use alloc::collections::VecDeque;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::time::Duration;

use super::*;
use crate::id::NodeId;
use crate::kvs::fixture::{drain_with, id, voter_of};
use crate::kvs::message::Message;
use crate::kvs::{Condition, Key, Kvs, Mode, Reply, RequestError, RequestId, Terms};
use crate::store::MemoryStore;
use crate::time::Instant;

const HOUR: u64 = 60 * 60 * 1000;
const MINUTE: u64 = 60 * 1000;

/// Three voters with disks, between which messages take no time.
struct Three {
    nodes: [(Kvs, MemoryStore); 3],
    /// How far each wall clock is ahead, in milliseconds.
    ahead: [u64; 3],
    millis: u64,
    requests: u64,
    /// One that hears nothing.
    deaf: Option<usize>,
}

impl Three {
    fn new(ahead: [u64; 3]) -> Self {
        Self {
            nodes: [1, 2, 3].map(|own| (voter_of(own), MemoryStore::default())),
            ahead,
            millis: HOUR,
            requests: 0,
            deaf: None,
        }
    }

    fn now(&self, index: usize) -> Now {
        Now {
            mono: Instant::default() + Duration::from_millis(self.millis),
            unix_ms: self.millis + self.ahead[index],
        }
    }

    /// Hands messages on until nothing more is said; returns the replies.
    fn settle(&mut self) -> Vec<Reply> {
        let mut replies = Vec::new();
        let mut mail: VecDeque<(usize, NodeId, Message)> = VecDeque::new();
        loop {
            for index in 0..3 {
                let now = self.now(index);
                let (kvs, disk) = &mut self.nodes[index];
                let said = drain_with(kvs, now, |op| Ok(disk.submit(op)));
                replies.extend(said.replies);
                let sent = said.messages.into_iter();
                mail.extend(sent.map(|(to, message)| (index, to, message)));
            }
            let Some((from, to, message)) = mail.pop_front() else {
                return replies;
            };
            let ids = [1, 2, 3].map(id);
            let to = ids.iter().position(|id| *id == to);
            if let Some(to) = to.filter(|to| self.deaf != Some(*to)) {
                let now = self.now(to);
                self.nodes[to].0.on_message(ids[from], message, now);
            }
        }
    }

    /// Lets time pass, in which timers run, in small steps.
    fn pass(&mut self, millis: u64) -> Vec<Reply> {
        let until = self.millis + millis;
        let mut replies = Vec::new();
        while self.millis < until {
            self.millis = (self.millis + 10).min(until);
            for index in 0..3 {
                let now = self.now(index);
                self.nodes[index].0.on_timeout(now);
            }
            replies.extend(self.settle());
        }
        replies
    }

    fn ended(&mut self) -> Reply {
        let mut replies = self.settle();
        for _ in 0..600 {
            if let Some(reply) = replies.pop() {
                return reply;
            }
            replies = self.pass(10);
        }
        panic!("no reply");
    }

    fn put(&mut self, index: usize, value: &str, terms: Terms) -> Reply {
        self.requests += 1;
        let (request, now) = (RequestId(self.requests), self.now(index));
        let value = Some(value.into());
        self.nodes[index].0.put(request, key(), value, terms, now);
        self.ended()
    }

    fn get(&mut self, index: usize, mode: Mode) -> Option<Vec<u8>> {
        self.requests += 1;
        let (request, now) = (RequestId(self.requests), self.now(index));
        self.nodes[index].0.get(request, key(), mode, now);
        match self.ended() {
            Reply::Found { value, .. } => Some(value),
            Reply::Missing => None,
            other => panic!("{other:?}"),
        }
    }

    /// The version that is held, and whether it is a tombstone's.
    fn held(&self, index: usize) -> (Version, bool) {
        let meta = self.nodes[index].0.index.get(&key());
        meta.map_or((Version::ZERO, true), |meta| (meta.version, meta.deleted))
    }
}

fn key() -> Key {
    Key::new("a/0").unwrap()
}

fn lasting(mode: Mode, seconds: u32) -> Terms {
    Terms {
        ttl: Some(seconds.try_into().unwrap()),
        ..mode.into()
    }
}

fn version(reply: Reply) -> Version {
    match reply {
        Reply::Written { version, .. } => version,
        other => panic!("{other:?}"),
    }
}

const MODES: [Mode; 2] = [Mode::Quorum, Mode::Linearizable];

fn pairs_of_modes() -> Vec<(Mode, Mode)> {
    let pairs = MODES.map(|write| MODES.map(|read| (write, read)));
    pairs.concat()
}

#[test]
fn what_was_missing_once_stays_missing_for_clocks_that_are_behind() {
    for (write, read) in pairs_of_modes() {
        // The third is four minutes ahead.
        let mut three = Three::new([0, 0, 4 * MINUTE]);
        let written = version(three.put(0, "value", lasting(write, 60)));
        assert_eq!(three.get(1, read), Some("value".into()), "{write:?}");
        assert_eq!(three.get(2, read), None, "{write:?} {read:?}");
        for index in 0..2 {
            assert_eq!(three.get(index, read), None, "{write:?} {read:?} {index}");
            assert_eq!(three.held(index), (written.expired(), true));
        }
    }
}

#[test]
fn a_clock_that_is_wrong_expires_nothing() {
    for (write, read) in pairs_of_modes() {
        let mut three = Three::new([0, 0, 2 * HOUR]);
        let written = version(three.put(0, "value", lasting(write, 3600)));
        for index in [2, 0, 1] {
            let found = three.get(index, read);
            assert_eq!(found, Some("value".into()), "{write:?} {read:?} {index}");
            assert_eq!(three.held(index).0, written);
        }
        assert_eq!(three.pass(10_000), []);
        assert_eq!(three.get(1, read), Some("value".into()));
        // Its hour over, it is gone, though one clock is wrong.
        three.millis += HOUR;
        assert_eq!(three.get(1, read), None);
        assert_eq!(three.get(2, read), None);
    }
}

#[test]
fn one_whose_clock_is_far_behind_does_not_keep_others_from_expiring() {
    for read in MODES {
        let mut three = Three::new([HOUR, HOUR, HOUR]);
        version(three.put(0, "value", lasting(Mode::Quorum, 60)));
        three.ahead[2] = 0;
        three.millis += 2 * MINUTE;
        assert_eq!(three.get(0, read), None);
        assert_eq!(three.get(2, read), None, "a majority says so");
    }
}

#[test]
fn mode_one_goes_by_the_clock_of_whoever_answers() {
    let mut three = Three::new([0, 0, 4 * MINUTE]);
    let written = version(three.put(0, "value", lasting(Mode::One, 60)));
    assert_eq!(three.get(2, Mode::One), None);
    assert_eq!(three.get(0, Mode::One), Some("value".into()));
    let kept = (written, false);
    assert_eq!(three.held(2), kept, "nothing is dropped for that");
}

#[test]
fn conditions_take_what_expired_for_missing() {
    let mut three = Three::new([0, 0, 0]);
    let absent = || Terms {
        condition: Some(Condition::Absent),
        ..lasting(Mode::Linearizable, 10)
    };
    let first = version(three.put(0, "first", absent()));
    let missing = RequestError::ConditionFailed { current: None };
    let held = RequestError::ConditionFailed {
        current: Some(first),
    };
    assert_eq!(three.put(1, "second", absent()), Reply::Failed(held));
    three.millis += 11_000;
    let matches = Condition::Version(first).into();
    assert_eq!(three.put(1, "third", matches), Reply::Failed(missing));
    version(three.put(2, "fourth", absent()));
    assert_eq!(three.get(0, Mode::Linearizable), Some("fourth".into()));
    three.millis += 11_000;
    version(three.put(1, "fifth", absent()));
}

#[test]
fn a_voter_that_missed_a_tombstone_learns_of_it() {
    let mut three = Three::new([0, 0, 0]);
    version(three.put(0, "old", lasting(Mode::Quorum, 5)));
    three.deaf = Some(2);
    three.millis += 6_000;
    assert_eq!(three.get(0, Mode::Quorum), None, "two are enough");
    assert!(!three.held(2).1);
    three.deaf = None;
    assert_eq!(three.get(2, Mode::Quorum), None);
    version(three.put(2, "new", Mode::Quorum.into()));
    assert_eq!(three.get(1, Mode::Quorum), Some("new".into()));
}

#[test]
fn what_nobody_reads_is_swept() {
    for write in MODES {
        let mut three = Three::new([0, 0, 0]);
        version(three.put(1, "value", lasting(write, 5)));
        assert_eq!(three.pass(4_500), []);
        assert!((0..3).all(|index| !three.held(index).1));
        three.pass(2_000);
        assert!((0..3).all(|index| three.held(index).1), "{write:?}");
        three.pass(10_000);
        let rests = |(kvs, _): &(Kvs, MemoryStore)| kvs.sweeper.poll_timeout().is_none();
        assert!(three.nodes.iter().all(rests));
    }
}

#[test]
fn a_time_to_live_is_whole_seconds_within_limits() {
    for (text, is_one) in [
        ("1", true),
        ("60", true),
        ("315360000", true),
        ("0", false),
        ("315360001", false),
        ("4294967297", false),
        ("-1", false),
        ("+1", false),
        ("1.5", false),
        ("", false),
    ] {
        assert_eq!(text.parse::<Ttl>().is_ok(), is_one, "{text:?}");
    }
    assert!(TtlError.to_string().contains("315360000"));
}
