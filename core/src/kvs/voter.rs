//! A voter's side of reads and writes.

use super::Kvs;
use super::entry::Entry;
use super::key::{Key, Slot, VALUE_LEN_MAX};
use super::list::{Held, List, ListVote};
use super::message::{Message, Vote, VoteError};
use super::storage::{Pending, Then};
use super::version::Version;
use crate::event::Lane;
use crate::id::NodeId;
use crate::time::Now;

impl Kvs {
    pub(super) fn on_vote(&mut self, from: NodeId, vote: Vote, now: Now) {
        match vote {
            Vote::Write {
                id,
                view,
                key,
                entry,
            } => {
                self.on_write(from, (id, view), key, &entry, now);
            }
            Vote::Wrote { id, view } if self.registers.has(id) => {
                self.on_register_wrote(from, (id, view), now);
            }
            Vote::Wrote { id, view } => self.on_wrote(from, id, view, now),
            Vote::Read {
                id,
                view,
                key,
                have,
            } => self.on_read(from, (id, view), &key, have),
            Vote::ReadDone { id, view, newer } => self.on_read_done(from, (id, view), newer, now),
            Vote::List(ListVote::Ask { id, view, list }) => {
                self.on_list_asked(from, (id, view), &list);
            }
            Vote::List(ListVote::Told { id, view, held }) => {
                self.on_list_told(from, (id, view), held, now);
            }
            Vote::Prepare(asked) => self.on_prepare(from, asked, now),
            Vote::Promised {
                id,
                view,
                version,
                newer,
            } => self.on_promised(from, (id, view), version, newer, now),
            Vote::Release { key, ballot } => self.on_release(from, &key, ballot),
            Vote::Refused { id, why } if self.registers.has(id) => {
                self.on_register_refused(from, id, why, now);
            }
            Vote::Refused { id, why } => self.on_refused(from, id, why, now),
        }
    }

    fn on_write(
        &mut self,
        from: NodeId,
        (id, view): (u64, u64),
        key: Key,
        entry: &Entry,
        now: Now,
    ) {
        if let Some(why) = self.objection(&key, view) {
            return self.refuse(from, id, why);
        }
        let fits = entry
            .value
            .as_ref()
            .is_none_or(|value| value.len() <= VALUE_LEN_MAX);
        if !fits {
            return self.counters.add("kvs_malformed");
        }
        if !self.clock.observe(entry.version, now.unix_ms) || !entry.is_agreed(now) {
            let unix_ms = now.unix_ms;
            self.on_unbelieved(key.slot(), now);
            return self.refuse(from, id, VoteError::Ahead { unix_ms });
        }
        let (held, promised) = (self.index.version(&key), self.promised(&key));
        if held > entry.version {
            return self.refuse(from, id, VoteError::Newer(held));
        }
        if promised > entry.version {
            return self.refuse(from, id, VoteError::Promised(promised));
        }
        if let Some(fence) = self.fence_of(&key, entry) {
            return self.refuse(from, id, VoteError::Newer(fence));
        }
        self.keep(key, entry, Then::Vote { to: from, id, view }, now);
    }

    fn on_read(&mut self, from: NodeId, (id, view): (u64, u64), key: &Key, have: Version) {
        if let Some(why) = self.objection(key, view) {
            return self.refuse(from, id, why);
        }
        if self.index.version(key) > have {
            self.read(key, Pending::VoteRead { to: from, id, view });
        } else {
            let newer = None;
            let vote = Vote::ReadDone { id, view, newer };
            self.send(from, Lane::Kv, Message::Vote(vote));
        }
    }

    fn on_list_asked(&mut self, from: NodeId, (id, view): (u64, u64), list: &List) {
        if let Some(why) = self.objection(list.key(), view) {
            return self.refuse(from, id, why);
        }
        let held = Held::gather(list, self.index.bucket(list));
        let vote = Vote::List(ListVote::Told { id, view, held });
        self.send(from, Lane::Kv, Message::Vote(vote));
    }

    /// What it refuses for its clock this voter lacks, perhaps, though its fellows
    /// may have taken it: until it has compared again, they do not take it for level,
    /// and it does not go on without them.
    fn on_unbelieved(&mut self, slot: Slot, now: Now) {
        let fellows = self.views.get(slot).view.voters.clone();
        for fellow in fellows {
            if self.peers.has_agreed(&fellow) {
                self.peers.set_agreed(&fellow, false);
                self.pull_again(&fellow, now);
            }
        }
    }

    /// Why this node does not vote on a key in this view, if it does not.
    pub(super) fn objection(&self, key: &Key, view: u64) -> Option<VoteError> {
        let slot = key.slot();
        if self.votes_in(slot, view) {
            return None;
        }
        if self.views.get(slot).view.number == view {
            return Some(VoteError::NotReady);
        }
        Some(VoteError::View(self.views.known_of(slot)))
    }

    pub(super) fn refuse(&mut self, to: NodeId, id: u64, why: VoteError) {
        self.counters.add("votes_refused");
        let vote = Vote::Refused { id, why };
        self.send(to, Lane::Kv, Message::Vote(vote));
    }

    /// Keeps an entry from elsewhere if it is newer than what is held.
    pub(super) fn take_copy(&mut self, key: Key, entry: &Entry, now: Now) {
        let newer = entry.version > self.index.version(&key);
        if newer && self.fence_of(&key, entry).is_none() && self.admits(&key, entry.version) {
            self.keep(key, entry, Then::Rest, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kvs::fixture::{at, id, voter};
    use crate::kvs::version::CLOCK_AHEAD_MS_MAX;

    #[test]
    fn who_refuses_what_its_clock_does_not_believe_agrees_with_nobody() {
        let mut kvs = voter();
        for (ahead_ms, agrees) in [(0, true), (CLOCK_AHEAD_MS_MAX + 1, false)] {
            kvs.peers.set_agreed(&id(2), true);
            kvs.peers.set_agreed(&id(3), true);
            let entry = Entry {
                version: Version::end_of(at(10).unix_ms + ahead_ms),
                value: None,
                expires: None,
            };
            let (id_of_vote, view) = (7, 3);
            let write = Vote::Write {
                id: id_of_vote,
                view,
                key: Key::new("a/0").unwrap(),
                entry,
            };
            kvs.on_message(id(2), Message::Vote(write), at(10));
            for fellow in [2, 3] {
                let has_agreed = kvs.peers.has_agreed(&id(fellow));
                assert_eq!(has_agreed, agrees, "{fellow} {ahead_ms}");
            }
        }
    }

    #[test]
    fn who_was_frozen_agrees_with_nobody() {
        let mut kvs = voter();
        kvs.peers.set_agreed(&id(2), true);
        kvs.on_thaw(at(5000));
        assert!(!kvs.peers.has_agreed(&id(2)));
    }
}
