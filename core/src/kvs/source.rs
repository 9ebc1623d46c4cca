//! The source's side of a pull: it answers, and remembers nothing between
//! two questions.

use alloc::vec::Vec;

use super::Kvs;
use super::branch::Branch;
use super::entry::Entry;
use super::key::{Key, Slot};
use super::message::{Message, Pull, Split};
use super::slots::SlotSet;
use super::storage::Pending;
use crate::event::Lane;
use crate::flat::FlatMap;
use crate::id::NodeId;
use crate::store::StoreError;
use crate::time::{Instant, Now};

/// Keys in one listing.
const LISTING_COUNT_MAX: usize = 512;
/// Branches asked about with one question.
pub(super) const BRANCH_COUNT_MAX: usize = 256;
/// Bytes of keys in one listing.
const LISTING_BYTES_MAX: usize = 32 * 1024;
/// Bytes of entries in one answer; a longer one travels alone.
const ENTRIES_BYTES_MAX: u64 = 256 * 1024;
/// Fetches answered at once; further ones are dropped, and asked again.
const FETCH_COUNT_MAX: usize = 64;

/// Fetches that wait for storage.
#[derive(Debug, Default)]
pub(super) struct Fetches {
    active: FlatMap<u64, Fetch>,
}

#[derive(Debug)]
struct Fetch {
    to: NodeId,
    id: u64,
    question: u32,
    missing: usize,
    entries: Vec<(Key, Entry)>,
}

impl Kvs {
    pub(super) fn on_compare(
        &mut self,
        from: NodeId,
        (id, view): (u64, u64),
        (slots, sums): (&SlotSet, Vec<(u16, u64)>),
        now: Now,
    ) {
        if !slots.is_valid() {
            return self.counters.add("kvs_malformed");
        }
        let theirs: FlatMap<u16, u64> = sums.into_iter().collect();
        let own = self.index.sums(slots);
        let differs = |(slot, sum): &(&u16, &u64)| theirs.get(*slot) != Some(*sum);
        let differing: Vec<u16> = own.iter().filter(differs).map(|(slot, _)| *slot).collect();
        if view == 0 && *slots == self.views.shared_with(&from) {
            self.note_comparing(&from, !differing.is_empty(), now.mono);
        }
        self.note_lesson(from, slots, id, now);
        let collected = |slot: &u16| Slot::new(*slot).is_some_and(|slot| self.has_collected(slot));
        let gone = |slot: &&u16| !own.contains_key(*slot) && collected(slot);
        let gone = theirs.keys().filter(gone).map(|slot| (*slot, 0));
        let differing = differing.into_iter();
        let differing = differing.map(|slot| (slot, self.count_in(slot)));
        let message = Pull::Differ {
            id,
            slots: differing.chain(gone).collect(),
            sealed: self.views.is_past(slots, view),
            collected: self.horizons.collected(slots),
        };
        self.send(from, Lane::Repair, Message::Pull(message));
    }

    /// A fellow voter whose copies differ has not caught up, whatever it said before:
    /// it says so again when it has.
    fn note_comparing(&mut self, fellow: &NodeId, differs: bool, now: Instant) {
        if differs && self.peers.has_caught_up(fellow) {
            self.peers.set_behind(fellow);
            self.pulls.review(now);
        }
        self.peers.set_comparing(fellow);
    }

    /// Entries that this node holds in a slot.
    pub(super) fn count_in(&self, slot: u16) -> u32 {
        let count = Slot::new(slot).map_or(0, |slot| self.index.slot_count(slot));
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Says which parts of some branches differ from the puller's.
    pub(super) fn on_sums(
        &mut self,
        from: NodeId,
        (id, question): (u64, u32),
        branches: &[Branch],
        theirs: &[u64],
    ) {
        let asked = branches.len() <= BRANCH_COUNT_MAX;
        let own = asked.then(|| self.index.branch_sums(branches)).flatten();
        let Some(own) = own.filter(|own| own.len() == theirs.len()) else {
            return self.counters.add("kvs_malformed");
        };
        let parts = branches.iter().flat_map(|branch| branch.parts());
        let parts = parts.zip(own.iter().zip(theirs));
        // Where nothing is held there is nothing to be pulled, but perhaps to be
        // dropped.
        let parts = parts.filter(|(part, (own, theirs))| {
            let collected = part.slot().is_some_and(|slot| self.has_collected(slot));
            own != theirs && (**own != 0 || collected)
        });
        let split = Split::Differ {
            id,
            question,
            parts: parts.map(|(part, _)| part).collect(),
        };
        self.send(from, Lane::Repair, Message::Pull(Pull::Split(split)));
    }

    pub(super) fn on_list(
        &mut self,
        from: NodeId,
        (id, question): (u64, u32),
        branches: &[Branch],
        after: Option<&Key>,
    ) {
        let limit = LISTING_COUNT_MAX + 1;
        let asked = branches.len() <= BRANCH_COUNT_MAX;
        let lists = asked.then(|| self.index.list_branches(branches, after, limit));
        let Some(lists) = lists.flatten() else {
            return self.counters.add("kvs_malformed");
        };
        let (mut entries, mut bytes, mut done) = (Vec::new(), 0, 0);
        'all: for listed in lists {
            for (key, version) in listed {
                if entries.len() >= LISTING_COUNT_MAX || bytes >= LISTING_BYTES_MAX {
                    break 'all;
                }
                bytes += key.as_str().len() + 24;
                entries.push((key.clone(), version));
            }
            done += 1;
        }
        let message = Pull::Listing {
            id,
            question,
            entries,
            done,
        };
        self.send(from, Lane::Repair, Message::Pull(message));
    }

    pub(super) fn on_fetch(&mut self, from: NodeId, (id, question): (u64, u32), keys: &[Key]) {
        if self.fetches.active.len() >= FETCH_COUNT_MAX {
            return self.counters.add("fetches_dropped");
        }
        let mut bytes = 0;
        let mut chosen: Vec<Key> = Vec::new();
        for key in keys {
            let Some(meta) = self.index.get(key) else {
                continue;
            };
            bytes += meta.bytes();
            if bytes > ENTRIES_BYTES_MAX && !chosen.is_empty() {
                break;
            }
            chosen.push(key.clone());
        }
        let fetch = Fetch {
            to: from,
            id,
            question,
            missing: chosen.len(),
            entries: Vec::new(),
        };
        if chosen.is_empty() {
            return self.answer_fetch(fetch);
        }
        let number = self.new_id();
        self.fetches.active.insert(number, fetch);
        for key in chosen {
            let fetch = number;
            let pending = Pending::Fetched {
                fetch,
                key: key.clone(),
            };
            self.read(&key, pending);
        }
    }

    /// Storage gave one of the entries. One that it cannot read must not pass for
    /// one that is there no more: nothing is answered, and it is asked again.
    pub(super) fn on_fetched(
        &mut self,
        number: u64,
        key: Key,
        entry: Result<Option<Entry>, StoreError>,
    ) {
        let Ok(entry) = entry else {
            self.fetches.active.remove(&number);
            return self.counters.add("fetches_dropped");
        };
        let Some(fetch) = self.fetches.active.get_mut(&number) else {
            return;
        };
        fetch.missing = fetch.missing.saturating_sub(1);
        fetch.entries.extend(entry.map(|entry| (key, entry)));
        if fetch.missing == 0
            && let Some(fetch) = self.fetches.active.remove(&number)
        {
            self.answer_fetch(fetch);
        }
    }

    fn answer_fetch(&mut self, fetch: Fetch) {
        let Fetch {
            to,
            id,
            question,
            entries,
            ..
        } = fetch;
        let message = Pull::Entries {
            id,
            question,
            entries,
        };
        self.send(to, Lane::Repair, Message::Pull(message));
    }
}
