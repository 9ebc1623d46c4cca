//! The rounds in which horizons are raised.

use alloc::vec::Vec;
use core::time::Duration;

#[cfg(planted_bugs)]
use super::super::Key;
use super::super::message::Message;
use super::super::storage::{Pending, entry_removal};
use super::super::version::CLOCK_AHEAD_MS_MAX;
use super::super::{Kvs, Slot};
use super::{HorizonMessage, Horizons, SlotSet};
use crate::event::Lane;
use crate::flat::{FlatMap, FlatSet};
use crate::id::NodeId;
use crate::store::Write;
use crate::time::{Instant, Now};

/// How often the first voter looks whether there is anything to collect.
const REVIEW: Duration = Duration::from_secs(60);
/// The least pause between two looks.
pub(super) const PAUSE_MIN: Duration = Duration::from_millis(100);
/// How often voters are asked again, and told again that all agreed.
const AGAIN: Duration = Duration::from_millis(500);
/// How often they are asked in one round.
const ASK_COUNT_MAX: u32 = 5;
/// Slots of one round.
const SLOT_COUNT_MAX: usize = 256;
/// Tombstones collected in one slot with one round.
const COLLECT_COUNT_MAX: usize = 4096;

/// A view's number, and its voters.
type Voting = (u64, Vec<NodeId>);
/// Slots, and the sum of each.
type Sums = Vec<(u16, u64)>;

/// A round of this node's own.
#[derive(Debug)]
pub(super) struct Round {
    id: u64,
    view: u64,
    others: Vec<NodeId>,
    at: u64,
    /// The sums up to that time.
    slots: FlatMap<u16, u64>,
    agreed: FlatMap<NodeId, FlatSet<u16>>,
    asked: u32,
    ask_at: Instant,
}

impl Horizons {
    pub(in crate::kvs) fn poll_timeout(&self) -> Option<Instant> {
        let round = self.round.as_ref().map(|round| round.ask_at);
        round.into_iter().chain(self.review_at).min()
    }

    pub(super) fn pause(&self) -> Duration {
        (self.grace / 8).clamp(PAUSE_MIN, REVIEW)
    }

    fn grace_ms(&self) -> u64 {
        u64::try_from(self.grace.as_millis()).unwrap_or(u64::MAX)
    }

    fn set_fence(&mut self, slots: &SlotSet, at: u64) {
        self.slots
            .update(slots, |own| own.fence = own.fence.max(at));
    }

    fn raise(&mut self, slots: &SlotSet, at: u64, marked: bool) {
        self.slots.update(slots, |own| {
            own.fence = own.fence.max(at);
            own.at = own.at.max(at);
            if marked {
                own.marks = own.at;
            }
        });
    }
}

impl Kvs {
    pub(in crate::kvs) fn on_horizon(&mut self, from: NodeId, message: HorizonMessage, now: Now) {
        let slots = match &message {
            HorizonMessage::Ask { slots, .. } | HorizonMessage::Raise { slots, .. } => slots.len(),
            HorizonMessage::Agree { slots, .. }
            | HorizonMessage::Raised { slots, .. }
            | HorizonMessage::Settled { slots, .. } => slots.len(),
        };
        if slots > SLOT_COUNT_MAX {
            return self.counters.add("kvs_malformed");
        }
        match message {
            HorizonMessage::Ask {
                id,
                view,
                at,
                slots,
            } => self.on_horizon_asked(from, (id, view, at), &slots, now),
            HorizonMessage::Agree { id, slots } => self.on_agreed(from, id, slots, now),
            HorizonMessage::Raise { view, at, slots } => {
                self.on_raise(from, (view, at), &slots, now);
            }
            HorizonMessage::Raised { at, slots } => self.on_raised(from, at, &slots),
            HorizonMessage::Settled { view, at, slots } => {
                self.on_settled(from, (view, at), &slots);
            }
        }
    }

    pub(in crate::kvs) fn on_horizon_timeout(&mut self, now: Now) {
        let is_due = |round: &Round| round.ask_at <= now.mono;
        if self.horizons.round.as_ref().is_some_and(is_due) {
            self.ask_round(now);
        }
        if self.horizons.review_at.is_none_or(|at| at > now.mono) {
            return;
        }
        let pause = self.horizons.pause();
        let unsettled = self.settle_horizons();
        let collects = self.index.tombstones().next().is_some();
        let again = match unsettled {
            true => Some(AGAIN.min(pause)),
            false => collects.then_some(pause),
        };
        self.horizons.review_at = again.map(|pause| now.mono + pause);
        if self.horizons.round.is_none() {
            self.begin_round(now);
        }
    }

    /// Asks all voters about slots with tombstones that are old enough.
    fn begin_round(&mut self, now: Now) {
        let grace = self.horizons.grace_ms();
        let at = now.unix_ms.saturating_sub(grace);
        #[cfg(planted_bugs)]
        if crate::planted::is("tombstone_early") {
            return self.collect_early(at);
        }
        let Some((view, at, slots)) = self.round_slots(at) else {
            return;
        };
        let slots: Sums = self.sums_to(slots.into_iter().map(|slot| (slot, at)));
        let Some((first, _)) = slots.first() else {
            return;
        };
        // Those that cannot agree do not keep others from it.
        self.horizons.next = first + 1;
        let (view, voters) = view;
        let others: Vec<NodeId> = voters.into_iter().filter(|id| *id != self.own).collect();
        let id = self.new_id();
        let is_alone = others.is_empty();
        self.horizons.round = Some(Round {
            id,
            view,
            others,
            at,
            slots: slots.into_iter().collect(),
            agreed: FlatMap::new(),
            asked: 0,
            ask_at: now.mono,
        });
        if is_alone {
            self.finish_round(now);
        } else {
            self.ask_round(now);
        }
    }

    /// Asks those who have not agreed, if they were not asked too often.
    fn ask_round(&mut self, now: Now) {
        let round = self.horizons.round.as_mut();
        let Some(round) = round.filter(|round| round.asked < ASK_COUNT_MAX) else {
            self.horizons.round = None;
            return self.counters.add("horizons_failed");
        };
        round.asked += 1;
        round.ask_at = now.mono + AGAIN;
        let ask = HorizonMessage::Ask {
            id: round.id,
            view: round.view,
            at: round.at,
            slots: round
                .slots
                .iter()
                .map(|(slot, sum)| (*slot, *sum))
                .collect(),
        };
        let others = round.others.iter();
        let missing = others.filter(|other| !round.agreed.contains_key(*other));
        for other in missing.copied().collect::<Vec<_>>() {
            self.send(other, Lane::Repair, Message::Horizon(ask.clone()));
        }
    }

    /// The slots of the next round, all of one view, and up to which time: no more
    /// is collected at once than fits into a commit.
    fn round_slots(&self, at: u64) -> Option<(Voting, u64, Vec<Slot>)> {
        let (mut view, mut slots, mut at) = (None, Vec::new(), at);
        // No further than it takes: a clock that is wrong does no more harm.
        let mut latest = 0;
        let next = self.horizons.next;
        let (before, after): (Vec<Slot>, Vec<Slot>) = self
            .index
            .tombstones()
            .partition(|slot| slot.number() < next);
        for slot in after.into_iter().chain(before) {
            let state = self.views.get(slot);
            let ready = self.leads(state) && self.views.serves(state) && self.is_level(&state.view);
            if !ready || !self.others_of(slot).all(|id| self.pulls.has_pulled(&id)) {
                continue;
            }
            let mut times = self.index.collectable(slot, at);
            let Some((last, _)) = times.iter().max() else {
                continue;
            };
            latest = latest.max(*last);
            let own = (state.view.number, state.view.voters.clone());
            if *view.get_or_insert_with(|| own.clone()) != own || slots.len() >= SLOT_COUNT_MAX {
                continue;
            }
            if times.len() > COLLECT_COUNT_MAX {
                times.sort_unstable_by_key(|(time, _)| *time);
                at = times.get(COLLECT_COUNT_MAX).map_or(at, |(time, _)| *time);
            }
            slots.push(slot);
        }
        Some((view?, at.min(latest), slots))
    }

    fn on_horizon_asked(
        &mut self,
        from: NodeId,
        (id, view, at): (u64, u64, u64),
        slots: &[(u16, u64)],
        now: Now,
    ) {
        // Whoever's clock is ahead must not have others refuse what is new.
        let grace = self.horizons.grace_ms();
        let latest = now.unix_ms.saturating_sub(grace);
        if at > latest.saturating_add(CLOCK_AHEAD_MS_MAX.min(grace / 2)) {
            return self.counters.add("horizons_refused");
        }
        let agreed = self.alike(from, (view, at), slots);
        self.horizons.set_fence(&set_of(&agreed), at);
        let slots = agreed.into_iter().map(|(slot, _)| slot).collect();
        let agree = HorizonMessage::Agree { id, slots };
        self.save_horizons(Vec::new(), Pending::Horizon(from, agree));
    }

    /// The slots in which this node votes in a view, as `from` does, and holds the
    /// same up to a time.
    fn alike(&self, from: NodeId, (view, at): (u64, u64), slots: &[(u16, u64)]) -> Sums {
        let asked: FlatMap<u16, u64> = slots.iter().copied().collect();
        let own = asked.keys().filter_map(|slot| Slot::new(*slot));
        let own = own.filter(|slot| {
            self.votes_in(*slot, view) && self.views.get(*slot).view.voters.contains(&from)
        });
        let mut own = self.sums_to(own.map(|slot| (slot, at)));
        own.retain(|(slot, sum)| asked.get(slot) == Some(sum));
        own
    }

    fn on_agreed(&mut self, from: NodeId, id: u64, slots: Vec<u16>, now: Now) {
        let round = self.horizons.round.as_mut();
        let Some(round) = round.filter(|round| round.id == id && round.others.contains(&from))
        else {
            return;
        };
        round.agreed.insert(from, slots.into_iter().collect());
        if round.agreed.len() == round.others.len() {
            self.finish_round(now);
        }
    }

    /// All voters have answered.
    fn finish_round(&mut self, now: Now) {
        let Some(round) = self.horizons.round.take() else {
            return;
        };
        let (view, at) = (round.view, round.at);
        let is_agreed = |slot: &u16| round.agreed.values().all(|agreed| agreed.contains(slot));
        let slots = round.slots.into_iter();
        let slots: Sums = slots.filter(|(slot, _)| is_agreed(slot)).collect();
        let slots = self.alike(self.own, (view, at), &slots);
        if slots.is_empty() {
            return self.counters.add("horizons_failed");
        }
        let writes = self.collect(&slots, at);
        // There may be more, of other slots or views.
        self.horizons.review_at = Some(now.mono + PAUSE_MIN);
        self.save_horizons(writes, Pending::Rest);
        self.owe_mirrors(set_of(&slots).iter(), now);
        for other in round.others {
            let slots = slots.clone();
            let raise = HorizonMessage::Raise { view, at, slots };
            self.send(other, Lane::Repair, Message::Horizon(raise));
        }
    }

    /// Raises the horizon of slots, and lets their tombstones go.
    fn collect(&mut self, slots: &[(u16, u64)], at: u64) -> Vec<Write> {
        let mut writes = Vec::new();
        for slot in slots.iter().filter_map(|(slot, _)| Slot::new(*slot)) {
            let mut marked = false;
            for (_, key) in self.index.collectable(slot, at) {
                marked |= self.index.version(&key).is_marked();
                self.index.set(&key, None);
                writes.push(entry_removal(&key));
            }
            let one = SlotSet::from_slots([slot].into_iter());
            self.horizons.raise(&one, at, marked);
        }
        self.counters
            .add_many("tombstones_collected", writes.len() as u64);
        writes
    }

    /// What a store does that trusts in time alone.
    #[cfg(planted_bugs)]
    fn collect_early(&mut self, at: u64) {
        let slots: Vec<Slot> = self.index.tombstones().collect();
        let keys = slots
            .iter()
            .flat_map(|slot| self.index.collectable(*slot, at));
        let keys: Vec<Key> = keys.map(|(_, key)| key).collect();
        for key in &keys {
            self.index.set(key, None);
        }
        let writes = keys.iter().map(entry_removal).collect();
        self.save_horizons(writes, Pending::Rest);
    }

    // ---- those who agreed ----

    fn on_raise(&mut self, from: NodeId, (view, at): (u64, u64), slots: &[(u16, u64)], now: Now) {
        let (own, lower): (Sums, Sums) = slots
            .iter()
            .partition(|(slot, _)| self.horizon_of(*slot).at >= at);
        if !own.is_empty() {
            let slots = own.into_iter().map(|(slot, _)| slot).collect();
            let raised = HorizonMessage::Raised { at, slots };
            self.send(from, Lane::Repair, Message::Horizon(raised));
        }
        let mut due = self.alike(from, (view, at), &lower);
        due.retain(|(slot, _)| self.horizon_of(*slot).fence >= at);
        // Who does not serve yet is told again.
        let serves = |slot: &u16| Slot::new(*slot).is_some_and(|slot| self.votes_in(slot, view));
        let serving = lower.iter().filter(|(slot, _)| serves(slot)).count();
        if due.len() < serving {
            // Something came between, or was missed: it is pulled.
            self.pulls.forget(&from);
            self.schedule_pulls(now.mono);
        }
        if !due.is_empty() {
            let writes = self.collect(&due, at);
            let slots = due.into_iter().map(|(slot, _)| slot).collect();
            let raised = HorizonMessage::Raised { at, slots };
            self.save_horizons(writes, Pending::Horizon(from, raised));
        }
    }

    fn horizon_of(&self, slot: u16) -> super::Horizon {
        Slot::new(slot).map_or_else(super::Horizon::default, |slot| self.horizons.get(slot))
    }

    fn on_raised(&mut self, from: NodeId, at: u64, slots: &[u16]) {
        self.horizons.note_known(from, &numbered(slots), at);
        let mut by_view: FlatMap<Voting, Vec<u16>> = FlatMap::new();
        for slot in numbered(slots).iter() {
            let view = &self.views.get(slot).view;
            let others: Vec<NodeId> = self.others_of(slot).collect();
            let settled = others.iter().all(|id| self.horizons.knows(id, slot, at));
            if settled && self.views.serving(slot).is_some() {
                let same = by_view.entry((view.number, others)).or_default();
                same.push(slot.number());
            }
        }
        for ((view, others), slots) in by_view {
            for other in others {
                let slots = slots.clone();
                let settled = HorizonMessage::Settled { view, at, slots };
                self.send(other, Lane::Repair, Message::Horizon(settled));
            }
        }
    }

    fn on_settled(&mut self, from: NodeId, (view, at): (u64, u64), slots: &[u16]) {
        for slot in numbered(slots).iter() {
            let own = &self.views.get(slot).view;
            if own.number != view || !own.voters.contains(&from) {
                continue;
            }
            let one = SlotSet::from_slots([slot].into_iter());
            for other in self.others_of(slot).collect::<Vec<_>>() {
                self.horizons.note_known(other, &one, at);
            }
        }
    }

    pub(super) fn others_of(&self, slot: Slot) -> impl Iterator<Item = NodeId> + '_ {
        let voters = self.views.get(slot).view.voters.iter();
        voters.copied().filter(|id| *id != self.own)
    }

    /// Tells voters again that all agreed, where it is not known that they heard it.
    /// Returns whether there are any.
    fn settle_horizons(&mut self) -> bool {
        let mut asked: FlatMap<(NodeId, u64, u64), Vec<Slot>> = FlatMap::new();
        for (first, last, own) in self.horizons.slots.runs() {
            if own.at == 0 {
                continue;
            }
            for slot in (first..=last).filter_map(Slot::new) {
                let state = self.views.get(slot);
                if !self.leads(state) || !self.views.serves(state) {
                    continue;
                }
                let lacks =
                    |id: &NodeId| self.peers.is_alive(id) && !self.horizons.knows(id, slot, own.at);
                for other in self.others_of(slot).filter(lacks) {
                    let same = asked.entry((other, state.view.number, own.at));
                    same.or_default().push(slot);
                }
            }
        }
        let unsettled = !asked.is_empty();
        for ((to, view, at), slots) in asked {
            for slots in slots.chunks(SLOT_COUNT_MAX) {
                let slots = self.sums_to(slots.iter().map(|slot| (*slot, at)));
                let raise = HorizonMessage::Raise { view, at, slots };
                self.send(to, Lane::Repair, Message::Horizon(raise));
            }
        }
        unsettled
    }

    /// The sums of what is held of slots up to a time each; without those where
    /// some of it is still on its way to storage, and may be refused.
    pub(in crate::kvs) fn sums_to(
        &self,
        slots: impl Iterator<Item = (Slot, u64)>,
    ) -> Vec<(u16, u64)> {
        let mut times: FlatMap<Slot, u64> = slots.collect();
        for placed in self.pending.values().flat_map(|pending| pending.placed()) {
            let slot = placed.key.slot();
            let is_old = |at: &u64| placed.version.unix_ms() <= *at;
            if times.get(&slot).is_some_and(is_old) {
                times.remove(&slot);
            }
        }
        let sums = times.into_iter();
        sums.map(|(slot, at)| (slot.number(), self.index.sum_to(slot, at)))
            .collect()
    }
}

/// The set of these slots, in whatever order they came.
fn numbered(slots: &[u16]) -> SlotSet {
    let slots: FlatSet<u16> = slots.iter().copied().collect();
    SlotSet::from_slots(slots.into_iter().filter_map(Slot::new))
}

fn set_of(slots: &[(u16, u64)]) -> SlotSet {
    let slots: Vec<u16> = slots.iter().map(|(slot, _)| *slot).collect();
    numbered(&slots)
}
