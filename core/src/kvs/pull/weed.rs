//! Weeding: what the source of a pull has left behind its horizon goes here, too.
//!
//! The source's horizon says that up to it what it lists is all there is. Who
//! raises its own to that drops whatever else it holds so old, and asks in the end
//! whether both now hold the same up to there.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::super::branch::Branch;
use super::super::horizon::{Collected, Horizon};
use super::super::key::{Key, SLOT_COUNT, Slot};
use super::super::message::{Message, Pull};
use super::super::pulling::{Pulling, Purpose, Step};
use super::super::slots::{SlotMap, SlotSet};
use super::super::storage::{Pending, Placed, entry_removal};
use super::super::version::Version;
use super::Kvs;
use crate::event::Lane;
use crate::flat::{FlatMap, FlatSet};
use crate::id::NodeId;
use crate::store::{StoreOp, Write};
use crate::time::Now;

/// Entries dropped with one listing; the rest follows with the next pull.
const WEED_COUNT_MAX: usize = 1024;

/// The last step of a pull.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Weed {
    /// Are these the sums of what you hold, of slots up to a time each?
    Sums {
        id: u64,
        question: u32,
        slots: Vec<(u16, u64, u64)>,
    },
    /// Of these they are.
    Same {
        id: u64,
        question: u32,
        slots: Vec<u16>,
    },
}

/// What the source's horizon means to the puller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heed {
    /// Who does not vote goes by one who does, or did.
    Follow,
    /// Two voters, or two who are none: the higher one counts.
    Level,
    /// A voter goes by nobody else: what it left behind is not taken.
    Ignore,
}

impl Kvs {
    fn heed(&self, pulling: &Pulling, slot: Slot) -> Heed {
        let state = self.views.get(slot);
        let view = &state.view;
        let own = self.views.votes(state) && state.filled;
        let fills = matches!(pulling.purpose, Purpose::Fill { .. });
        let theirs = view.voters.contains(&pulling.source)
            || (fills && view.previous.contains(&pulling.source));
        match (own, theirs) {
            (false, true) => Heed::Follow,
            (true, false) => Heed::Ignore,
            (true, true) | (false, false) => Heed::Level,
        }
    }

    /// The horizon of the source, if it is to be this node's.
    fn rises_to(&self, pulling: &Pulling, slot: Slot) -> Option<Horizon> {
        let (own, theirs) = (self.horizons.get(slot), *pulling.collected.get(slot));
        let rises = match self.heed(pulling, slot) {
            Heed::Follow => own.at != theirs.at,
            Heed::Level => own.at < theirs.at,
            Heed::Ignore => false,
        };
        rises.then_some(theirs)
    }

    /// Whether what the source names was deleted since, as far as this node knows.
    pub(super) fn is_dead(&self, pulling: &Pulling, key: &Key, version: Version) -> bool {
        let (own, theirs) = (
            self.horizons.get(key.slot()),
            pulling.collected.get(key.slot()),
        );
        let is_past = match self.heed(pulling, key.slot()) {
            Heed::Follow => false,
            Heed::Level => own.at > theirs.at && own.is_past(version),
            Heed::Ignore => own.fences(version),
        };
        // What is held may have expired since.
        is_past && self.index.version(key).expired() != version
    }

    /// The source says what it has collected.
    pub(super) fn note_collected(&mut self, id: u64, collected: &[Collected]) {
        let mut map = SlotMap::new(Horizon::default());
        for run in collected.iter().take(usize::from(SLOT_COUNT)) {
            let slots = (run.first..=run.last.min(SLOT_COUNT - 1)).filter_map(Slot::new);
            map.update(&SlotSet::from_slots(slots), |own| *own = run.horizon());
        }
        if let Some(pulling) = self.pulls.active.get_mut(&id) {
            pulling.collected = map;
        }
    }

    /// What is held of the listed part of these branches, behind the source's
    /// horizon, and not listed.
    pub(super) fn weeds(
        &self,
        pulling: &Pulling,
        (branches, after): (&[Branch], Option<&Key>),
        entries: &[(Key, Version)],
        done: usize,
    ) -> FlatSet<Key> {
        let mut rising = branches.iter().filter_map(Branch::slot);
        if !rising.any(|slot| self.rises_to(pulling, slot).is_some()) {
            return FlatSet::new();
        }
        let listed: FlatMap<&Key, Version> = entries
            .iter()
            .map(|(key, version)| (key, *version))
            .collect();
        let last = entries.last().map(|(key, _)| key);
        let own = self.index.list_branches(branches, after, usize::MAX);
        let own = own
            .unwrap_or_default()
            .into_iter()
            .zip(branches)
            .enumerate();
        let covered = own.flat_map(|(place, (held, branch))| {
            let cut = last.filter(|last| place == done && branch.holds(last));
            let is_listed = move |key: &Key| place < done || cut.is_some_and(|last| key <= last);
            held.into_iter().filter(move |(key, _)| is_listed(key))
        });
        let is_weed = |key: &Key, version: Version| {
            let behind = self.rises_to(pulling, key.slot());
            let kept = listed
                .get(key)
                .is_some_and(|theirs| *theirs >= version || theirs.expired() == version);
            !kept && behind.is_some_and(|theirs| theirs.is_past(version))
        };
        let weeds = covered.filter(|(key, version)| is_weed(key, *version));
        let weeds = weeds.map(|(key, _)| key.clone());
        weeds.take(WEED_COUNT_MAX).collect()
    }

    /// Drops what is dead.
    pub(super) fn weed(&mut self, pull: u64, keys: FlatSet<Key>) {
        self.counters.add_many("entries_weeded", keys.len() as u64);
        let writes: Vec<Write> = keys.iter().map(entry_removal).collect();
        let placed = keys.into_iter().map(|key| Placed {
            before: self.index.set(&key, None),
            version: Version::ZERO,
            key,
        });
        let placed = placed.collect();
        self.store(StoreOp::Commit(writes), Pending::Pulled { pull, placed });
    }

    /// Everything was pulled: what is to be asked before the horizon is raised, if
    /// it is.
    pub(super) fn levelling(&mut self, id: u64) -> Option<Step> {
        let pulling = self.pulls.active.get(&id)?;
        if pulling.is_levelled {
            return None;
        }
        let rising = pulling.slots.iter();
        let rising: Vec<(Slot, u64)> = rising
            .filter_map(|slot| Some((slot, self.rises_to(pulling, slot)?.at)))
            .collect();
        let (zero, rising): (Vec<_>, Vec<_>) = rising.into_iter().partition(|(_, at)| *at == 0);
        let times: FlatMap<u16, u64> = rising
            .iter()
            .map(|(slot, at)| (slot.number(), *at))
            .collect();
        let sums = self.sums_to(rising.iter().copied());
        // Whoever has collected nothing takes nothing amiss.
        let zero = SlotSet::from_slots(zero.into_iter().map(|(slot, _)| slot));
        if !zero.is_empty() {
            self.horizons.adopt(&zero, Horizon::default());
            self.save_horizons(Vec::new(), Pending::Rest);
        }
        let pulling = self.pulls.active.get_mut(&id)?;
        pulling.is_levelled = true;
        pulling.lacks |= sums.len() < rising.len();
        let slots = sums.into_iter();
        let slots = slots.filter_map(|(slot, sum)| Some((slot, *times.get(&slot)?, sum)));
        let slots: Vec<(u16, u64, u64)> = slots.collect();
        (!slots.is_empty()).then_some(Step::Levelling { slots })
    }

    pub(super) fn on_weed(&mut self, from: NodeId, message: Weed, now: Now) {
        match message {
            Weed::Sums {
                id,
                question,
                slots,
            } => self.on_weed_sums(from, (id, question), &slots),
            Weed::Same {
                id,
                question,
                slots,
            } => self.on_same(from, (id, question), slots, now),
        }
    }

    fn on_weed_sums(
        &mut self,
        from: NodeId,
        (id, question): (u64, u32),
        slots: &[(u16, u64, u64)],
    ) {
        if slots.len() > usize::from(SLOT_COUNT) {
            return self.counters.add("kvs_malformed");
        }
        let raised = slots.iter().filter_map(|(slot, at, _)| {
            let slot = Slot::new(*slot)?;
            (self.horizons.get(slot).at >= *at).then_some((slot, *at))
        });
        let own: FlatMap<u16, u64> = self.sums_to(raised).into_iter().collect();
        let same = slots.iter();
        let same = same.filter(|(slot, _, sum)| own.get(slot) == Some(sum));
        let same = Weed::Same {
            id,
            question,
            slots: same.map(|(slot, _, _)| *slot).collect(),
        };
        self.send(from, Lane::Repair, Message::Pull(Pull::Weed(same)));
    }

    /// The source holds the same up to its horizon, in these slots: unless something
    /// came meanwhile, so does this node, and may raise its own.
    fn on_same(&mut self, from: NodeId, (id, question): (u64, u32), slots: Vec<u16>, now: Now) {
        let active = self.pulls.active.get(&id);
        let Some(pulling) = active.filter(|pulling| pulling.is_asked(&from, question)) else {
            return;
        };
        let Step::Levelling { slots: asked } = &pulling.step else {
            return;
        };
        let named: FlatSet<u16> = slots.into_iter().collect();
        let times = asked.iter();
        let times = times.filter_map(|(slot, at, _)| Some((Slot::new(*slot)?, *at)));
        let now_held: FlatMap<u16, u64> = self.sums_to(times).into_iter().collect();
        let mut level: FlatMap<Horizon, Vec<Slot>> = FlatMap::new();
        for (number, _, sum) in asked {
            let Some(slot) = Slot::new(*number).filter(|_| named.contains(number)) else {
                continue;
            };
            let theirs = self.rises_to(pulling, slot);
            if let Some(theirs) = theirs.filter(|_| now_held.get(number) == Some(sum)) {
                level.entry(theirs).or_default().push(slot);
            }
        }
        let complete = level.values().map(Vec::len).sum::<usize>() == asked.len();
        for (theirs, slots) in level {
            let slots = SlotSet::from_slots(slots.into_iter());
            self.horizons.adopt(&slots, theirs);
            self.owe_mirrors(slots.iter(), now);
        }
        self.save_horizons(Vec::new(), Pending::Rest);
        if let Some(pulling) = self.pulls.active.get_mut(&id) {
            pulling.lacks |= !complete;
        }
        self.await_orders(id, now);
    }
}
