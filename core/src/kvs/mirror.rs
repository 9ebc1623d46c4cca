//! Mirrors are kept level by the first live voter of their slots: further
//! copies are not answered one by one, they are numbered.
//!
//! A mirror notes up to which number no copy is missing; one that comes twice
//! changes nothing. A while after the last copies the sender tells their
//! number, until the mirror has answered it. Where the mirror's is another,
//! copies were lost on the way, and it pulls. A sender also spends numbers on
//! copies that it never sent, where it learnt of entries otherwise: so the
//! mirror pulls those.

use alloc::vec::Vec;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::Kvs;
use super::entry::Entry;
use super::key::{Key, Slot};
use super::message::Message;
use crate::event::Lane;
use crate::flat::{FlatMap, FlatSet};
use crate::id::NodeId;
use crate::rng::Rng;
use crate::status::Class;
use crate::time::{Instant, Now};

/// How long after copies their count is told, and told again.
const TELL: Duration = Duration::from_millis(1000);

/// Between one who writes and a mirror. A count is of one epoch of each end:
/// whoever starts again is told another, and pulls in any case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum MirrorMessage {
    /// A further copy; not answered.
    Copy { count: u64, key: Key, entry: Entry },
    /// All copies sent to you so far are numbered up to this.
    Sent { count: u64 },
    /// All up to this are here, or are being pulled.
    Level { count: u64 },
}

/// The last copy that went to each peer, and that came from it after all
/// before.
#[derive(Debug, Default)]
pub(super) struct CopyCounts {
    sent: FlatMap<NodeId, Sent>,
    received: FlatMap<NodeId, u64>,
    tell_at: Option<Instant>,
}

#[derive(Debug)]
struct Sent {
    count: u64,
    /// What the peer answered last.
    level: u64,
}

impl CopyCounts {
    pub(super) const fn poll_timeout(&self) -> Option<Instant> {
        self.tell_at
    }

    pub(super) fn on_gone(&mut self, peer: &NodeId) {
        self.sent.remove(peer);
        self.received.remove(peer);
    }

    /// Counts begin anywhere, so that one that began again is surely another.
    fn next(&mut self, peer: NodeId, rng: &mut Rng, now: Instant) -> u64 {
        let begin = || Sent {
            count: rng.next_u64() >> 1,
            level: 0,
        };
        self.tell_at.get_or_insert(now + TELL);
        let sent = self.sent.entry(peer).or_insert_with(begin);
        sent.count += 1;
        sent.count
    }

    /// A peer answered. Its answer may be to a count that was forgotten when it
    /// was held for dead: that one lies anywhere, perhaps beyond what was sent
    /// since, and nothing would ever be told again.
    fn leveled(&mut self, peer: &NodeId, count: u64) {
        let sent = self.sent.get_mut(peer);
        if let Some(sent) = sent.filter(|sent| count <= sent.count) {
            sent.level = sent.level.max(count);
        }
    }

    /// A copy came: once more, next, or after one that is missing.
    fn came(&mut self, peer: NodeId, count: u64) {
        let received = self.received.entry(peer).or_default();
        if received.checked_add(1) == Some(count) {
            *received = count;
        }
    }
}

impl Kvs {
    /// Sends a new entry to the mirrors of its slot, if that is this node's
    /// task: it is the first live voter's, whoever coordinates. Without one
    /// it is that of the page that took the write.
    pub(super) fn copy_to_mirrors(&mut self, key: &Key, entry: &Entry, now: Now) {
        let voters = self.views.get(key.slot()).view.voters.iter();
        let mut alive = voters.filter(|id| **id == self.own || self.peers.is_alive(id));
        if alive.next().is_some_and(|first| *first != self.own) {
            return;
        }
        for mirror in self.mirrors(key.slot()).iter() {
            if mirror != self.own {
                let count = self.copy_counts.next(mirror, &mut self.rng, now.mono);
                let (key, entry) = (key.clone(), entry.clone());
                let message = Message::Mirror(MirrorMessage::Copy { count, key, entry });
                self.send(mirror, Lane::Kv, message);
            }
        }
    }

    /// Entries came otherwise than by a write: mirrors shall pull them.
    pub(super) fn owe_mirrors(&mut self, slots: impl Iterator<Item = Slot>, now: Now) {
        let mut owed = FlatSet::new();
        for slot in slots {
            owed.extend(self.mirrors(slot).iter());
        }
        for mirror in owed.into_iter().filter(|mirror| *mirror != self.own) {
            self.copy_counts.next(mirror, &mut self.rng, now.mono);
        }
    }

    /// Members came or went: a page may have known before this node that it
    /// is a mirror, and pulled what was there then; and it may have taken
    /// writes while it held all voters for dead.
    pub(super) fn owe_all(&mut self, now: Now) {
        for (peer, _) in self.mirrored() {
            self.copy_counts.next(peer, &mut self.rng, now.mono);
        }
    }

    pub(super) fn on_mirror(&mut self, from: NodeId, message: MirrorMessage, now: Now) {
        match message {
            MirrorMessage::Copy { count, key, entry } => {
                // One that is not believed is missing, and pulled when it is.
                if self.clock.observe(entry.version, now.unix_ms) {
                    self.copy_counts.came(from, count);
                    self.take_copy(key, &entry, now);
                }
            }
            MirrorMessage::Sent { count } => {
                let received = self.copy_counts.received.insert(from, count);
                if received != Some(count) {
                    self.counters.add("copies_missed");
                    self.pull_again(&from, now);
                }
                let message = Message::Mirror(MirrorMessage::Level { count });
                self.send(from, Lane::Repair, message);
            }
            MirrorMessage::Level { count } => {
                self.copy_counts.leveled(&from, count);
            }
        }
    }

    /// A page pulls from whoever leads its slots, a voter from the page.
    pub(super) fn pull_again(&mut self, from: &NodeId, now: Now) {
        if self.class == Class::Transient {
            self.pulls.forget_all();
        } else {
            self.pulls.forget(from);
        }
        self.schedule_pulls(now.mono);
    }

    pub(super) fn on_mirror_timeout(&mut self, now: Now) {
        if self.copy_counts.tell_at.is_none_or(|at| at > now.mono) {
            return;
        }
        let behind = self.copy_counts.sent.iter();
        let behind =
            behind.filter(|(peer, sent)| sent.level < sent.count && self.peers.is_alive(peer));
        let behind: Vec<(NodeId, u64)> = behind.map(|(peer, sent)| (*peer, sent.count)).collect();
        self.copy_counts.tell_at = (!behind.is_empty()).then(|| now.mono + TELL);
        for (peer, count) in behind {
            let message = Message::Mirror(MirrorMessage::Sent { count });
            self.send(peer, Lane::Repair, message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kvs::fixture::{at, id, voter};
    use crate::kvs::version::{CLOCK_AHEAD_MS_MAX, Version};

    #[test]
    fn an_answer_to_a_forgotten_count_ends_no_telling() {
        let peer = NodeId::from_bytes([7; 32]);
        let mut rng = Rng::from_seed([5; 32]);
        let mut counts = CopyCounts::default();
        let mut is_level = |late: fn(u64) -> u64| {
            counts.on_gone(&peer);
            let count = counts.next(peer, &mut rng, Instant::default());
            counts.leveled(&peer, late(count));
            counts.sent.get(&peer).unwrap().level >= count
        };
        assert!(!is_level(|count| count + 1), "greater by chance");
        assert!(!is_level(|count| count - 1));
        assert!(is_level(|count| count));
    }

    #[test]
    fn a_copy_that_is_not_believed_is_missing() {
        let from = id(4);
        for (unix_ms, is_missing) in [(5, false), (CLOCK_AHEAD_MS_MAX + 100, true)] {
            let mut kvs = voter();
            let key = Key::new("a/0").unwrap();
            let entry = Entry {
                version: Version::end_of(unix_ms),
                value: None,
                expires: None,
            };
            let sent = |count| Message::Mirror(MirrorMessage::Sent { count });
            kvs.on_message(from, sent(6), at(10));
            let copy = MirrorMessage::Copy {
                count: 7,
                key,
                entry,
            };
            kvs.on_message(from, Message::Mirror(copy), at(10));
            let missed = kvs.copy_counts.received.get(&from) != Some(&7);
            assert_eq!(missed, is_missing);
        }
    }
}
