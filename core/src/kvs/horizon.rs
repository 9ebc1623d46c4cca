//! Horizons: up to which time a slot's tombstones were collected.
//!
//! A tombstone has to outlive every copy of what it stands for. How long that is
//! no clock can say: a member may be away for a year. So each slot has a horizon,
//! kept with its entries. Up to it the entries held are all there are: whatever
//! else comes up, older than that, was deleted, and is not taken. Tombstones up to
//! the horizon need not be kept.
//!
//! The first voter raises it, by a round among all voters of the view:
//!
//! ```text
//! leader                               each other voter
//!   |--- Ask (time, sums up to it) ----->|  the same entries up to that time?
//!   |<-- Agree --------------------------|  then it takes none so old any more
//!   | all agreed, and it still holds the same: raises its own
//!   |--- Raise ------------------------->|  still the same: raises its own
//!   |<-- Raised -------------------------|
//!   |--- Settled ----------------------->|  all voters have
//! ```
//!
//! Who agreed has a **fence**: it refuses writes as old as that, so that nobody
//! can acknowledge one behind the back of those who collected. A voter that missed
//! its `Raise`, a new voter and a mirror get the horizon with a pull (`weed.rs`).
//!
//! A linearizable write marks its key, and its tombstone keeps the mark. While some
//! voter may hold a marked tombstone that another has collected, plain writes of
//! keys that are not held run as consensus writes: as plain ones they would be
//! acknowledged by those who collected, and lose to the mark where it is left.

mod round;

use alloc::vec::Vec;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use self::round::{PAUSE_MIN, Round};
use super::Kvs;
use super::entry::{Entry, Meta};
use super::key::{Key, SLOT_COUNT, Slot};
use super::slots::{SlotMap, SlotSet};
use super::storage::{HORIZONS_KEY, Pending};
use super::version::{CLOCK_AHEAD_MS_MAX, Version};
use crate::flat::FlatMap;
use crate::id::NodeId;
use crate::store::{StoreOp, Write};
use crate::time::Instant;
use crate::wire;

/// How much longer than others a marked tombstone is kept: what it stands for may
/// have a version that much later, since a mark counts before a clock.
const MARKED_MS: u64 = 2 * CLOCK_AHEAD_MS_MAX;

/// Between the first voter of slots and the others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum HorizonMessage {
    /// Do you hold the same up to this time, by these sums of slots? Then take
    /// nothing so old any more.
    Ask {
        id: u64,
        view: u64,
        at: u64,
        slots: Vec<(u16, u64)>,
    },
    /// In these slots.
    Agree { id: u64, slots: Vec<u16> },
    /// All voters agreed.
    Raise {
        view: u64,
        at: u64,
        slots: Vec<(u16, u64)>,
    },
    /// The sender's horizon of these slots is at least that.
    Raised { at: u64, slots: Vec<u16> },
    /// Those of all voters of these slots are.
    Settled { view: u64, at: u64, slots: Vec<u16> },
}

/// One slot's, in milliseconds since the Unix epoch; zero: never raised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Horizon {
    /// Nothing as old as this is taken for a write any more.
    fence: u64,
    /// Up to here tombstones were collected, and what is not held is dead.
    pub(super) at: u64,
    /// What it was raised to last when it passed a marked tombstone.
    marks: u64,
}

/// What a source says of its own, by runs of slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Collected {
    pub(super) first: u16,
    pub(super) last: u16,
    at: u64,
    marks: u64,
}

/// The horizons of all slots.
#[derive(Debug)]
pub(super) struct Horizons {
    slots: SlotMap<Horizon>,
    /// What fellow voters are known to have raised theirs to, since they came.
    known: FlatMap<NodeId, SlotMap<u64>>,
    round: Option<Round>,
    /// When the next round is due.
    review_at: Option<Instant>,
    /// The slot with which the next one begins.
    next: u16,
    /// For how long tombstones are kept.
    grace: Duration,
}

impl Horizons {
    pub(super) fn new(grace: Duration) -> Self {
        Self {
            slots: SlotMap::new(Horizon::default()),
            known: FlatMap::new(),
            round: None,
            review_at: None,
            next: 0,
            grace,
        }
    }

    pub(super) fn get(&self, slot: Slot) -> Horizon {
        *self.slots.get(slot)
    }

    /// Those of a set of slots that were ever raised.
    pub(super) fn collected(&self, slots: &SlotSet) -> Vec<Collected> {
        let raised = self.slots.runs().filter(|(_, _, own)| own.at > 0);
        let mut collected = Vec::new();
        for (first, last, own) in raised {
            let within = (first..=last).filter_map(Slot::new);
            let within = SlotSet::from_slots(within.filter(|slot| slots.contains(*slot)));
            collected.extend(within.runs(|first, last| Collected {
                first,
                last,
                at: own.at,
                marks: own.marks,
            }));
        }
        collected
    }

    /// A peer went, and may come back with another disk, or stays, but votes with
    /// this node on nothing any more.
    pub(super) fn forget(&mut self, gone: impl Fn(&NodeId) -> bool) {
        self.known.retain(|peer, _| !gone(peer));
    }

    /// Entries of a slot were dropped: what is held is no longer all there is.
    pub(super) fn clear(&mut self, slot: Slot) -> bool {
        let is_raised = self.get(slot).at > 0;
        if is_raised {
            let one = SlotSet::from_slots([slot].into_iter());
            self.slots.update(&one, |own| (own.at, own.marks) = (0, 0));
        }
        is_raised
    }

    /// Takes what a source said of its own.
    pub(super) fn adopt(&mut self, slots: &SlotSet, theirs: Horizon) {
        self.slots.update(slots, |own| {
            (own.at, own.marks) = (theirs.at, theirs.marks);
            own.fence = own.fence.max(theirs.at);
        });
    }

    /// Members or views changed: whoever came is to be told.
    pub(super) fn review(&mut self, now: Instant) {
        if self.slots.runs().any(|(_, _, own)| own.at > 0) {
            self.review_at = Some(now + PAUSE_MIN);
        }
    }

    fn knows(&self, peer: &NodeId, slot: Slot, at: u64) -> bool {
        let known = self.known.get(peer);
        known.is_some_and(|known| *known.get(slot) >= at)
    }

    fn note_known(&mut self, peer: NodeId, slots: &SlotSet, at: u64) {
        let known = self.known.entry(peer);
        let known = known.or_insert_with(|| SlotMap::new(0));
        known.update(slots, |known| *known = at.max(*known));
    }

    /// Takes back what was kept. Returns whether it makes sense.
    pub(super) fn load(&mut self, bytes: &[u8]) -> bool {
        let Ok(saved) = wire::decode::<Vec<(u16, u16, Horizon)>>(bytes) else {
            return false;
        };
        for (first, last, horizon) in saved {
            if first > last || last >= SLOT_COUNT {
                return false;
            }
            let slots = SlotSet::from_slots((first..=last).filter_map(Slot::new));
            self.slots.update(&slots, |own| *own = horizon);
        }
        true
    }
}

impl Collected {
    pub(super) const fn horizon(self) -> Horizon {
        Horizon {
            fence: self.at,
            at: self.at,
            marks: self.marks,
        }
    }
}

impl Horizon {
    #[cfg(test)]
    pub(super) const fn raised_to(at: u64) -> Self {
        Self {
            fence: at,
            at,
            marks: 0,
        }
    }

    /// Whether no tombstone is left of what a peer may still hold.
    pub(super) const fn is_past(self, version: Version) -> bool {
        self.at > 0 && version.unix_ms() <= self.at
    }

    /// Whether nothing so old is taken any more.
    pub(super) const fn fences(self, version: Version) -> bool {
        self.fence > 0 && version.unix_ms() <= self.fence
    }
}

impl Meta {
    /// Which horizon leaves it behind, if it is a tombstone.
    pub(super) fn collected_at(self) -> Option<u64> {
        let margin = match self.version.is_marked() {
            true => MARKED_MS,
            false => 0,
        };
        let at = self.version.unix_ms().saturating_add(margin);
        self.deleted.then_some(at)
    }
}

impl Kvs {
    /// What outruns a write that is too old to be taken: nobody would know whether
    /// it was deleted since.
    pub(super) fn fence(&self, key: &Key, version: Version) -> Option<Version> {
        let own = self.horizons.get(key.slot());
        // One that is asked for again is no new one.
        let is_held = self.index.version(key) == version;
        (own.fences(version) && !is_held).then(|| Version::end_of(own.fence))
    }

    /// Whether a plain write of a key might meet a mark that is not to be seen here.
    pub(super) fn may_be_marked(&self, key: &Key) -> bool {
        let slot = key.slot();
        let marks = self.horizons.get(slot).marks;
        marks > 0
            && self.index.get(key).is_none()
            && !self
                .others_of(slot)
                .all(|voter| self.horizons.knows(&voter, slot, marks))
    }

    /// What outruns an entry that comes from elsewhere. What a tombstone of an
    /// expired record stands for is held, however old that is.
    pub(super) fn fence_of(&self, key: &Key, entry: &Entry) -> Option<Version> {
        let fence = self.fence(key, entry.version);
        fence.filter(|_| !entry.is_of_expired())
    }

    /// Whether what is not held of a slot may be dead.
    pub(super) fn has_collected(&self, slot: Slot) -> bool {
        self.horizons.get(slot).at > 0
    }

    /// A tombstone came.
    pub(super) fn note_tombstone(&mut self, now: Instant) {
        let review = now + self.horizons.pause();
        self.horizons.review_at.get_or_insert(review);
    }

    /// Keeps the horizons, and with them what else is to be written.
    pub(super) fn save_horizons(&mut self, mut writes: Vec<Write>, pending: Pending) {
        let runs = self.horizons.slots.runs();
        let raised = runs.filter(|(_, _, own)| **own != Horizon::default());
        let saved: Vec<_> = raised.map(|(a, b, own)| (a, b, *own)).collect();
        writes.push(Write {
            key: HORIZONS_KEY.to_vec(),
            value: Some(wire::encode(&saved)),
        });
        self.store(StoreOp::Commit(writes), pending);
    }

    /// Takes back the horizons that were kept. Returns whether they make sense.
    pub(crate) fn load_horizons(&mut self, bytes: &[u8]) -> bool {
        self.horizons.load(bytes)
    }
}

#[cfg(test)]
mod tests;
