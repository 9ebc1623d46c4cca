//! Handing over: copy, acknowledge, drop.
//!
//! A node may hold entries of slots in which it has no part any more: views
//! moved on, or others are nearer as mirrors now. It offers them to the first
//! live voter, who pulls what it lacks, and says so when all voters of those
//! slots hold everything; only then are they dropped. One who does not answer, since
//! there may be no way to it, has the next asked in turn.
//!
//! ```text
//! holder                      first live voter           other voters
//!   |--- Offer -------------->|                               |
//!   |<-- a pull ------------->|<------- pulls --------------->|
//!   |<-- Taken ---------------|
//!   | drops
//! ```

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::Kvs;
use super::key::{Key, Slot};
use super::message::Message;
use super::slots::SlotSet;
use super::storage::{Pending, entry_removal};
use crate::event::Lane;
use crate::flat::FlatMap;
use crate::id::NodeId;
use crate::store::{StoreOp, Write};
use crate::time::{Instant, Now};

/// How long after a change things may settle before entries are offered, and
/// how often they are offered again.
const SETTLE: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_secs(5);
/// The same for a node that is about to leave.
const HURRY: Duration = Duration::from_millis(200);
/// For how long what was learnt is kept, in case that this node becomes a
/// voter: as long as a change may take.
const LEARNING: Duration = Duration::from_secs(20);
/// How often the same is offered to a voter before it is another's turn: there may be
/// no way to the first.
const OFFER_COUNT_MAX: u32 = 5;
/// Entries dropped with one commit.
const DROP_COUNT_MAX: usize = 256;

/// Between a holder and the first live voter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum HandOver {
    /// The sender has no part in these slots, but entries.
    Offer { id: u64, slots: SlotSet },
    /// All voters of the slots of that offer hold them.
    Taken { id: u64 },
}

/// What this node offers and drops.
#[derive(Debug, Default)]
pub(super) struct HandOvers {
    /// The last offer to each voter.
    offers: FlatMap<NodeId, Offer>,
    /// Whose turn it is among the live voters.
    turn: usize,
    /// Slots that were taken, to be emptied one after another.
    dropping: VecDeque<Slot>,
    is_dropping: bool,
    review_at: Option<Instant>,
    /// Slots in which this node may soon have a part, until when: it learns
    /// them from these voters.
    learning: FlatMap<NodeId, (SlotSet, Instant)>,
}

#[derive(Debug)]
struct Offer {
    id: u64,
    slots: SlotSet,
    /// What was held then: what came since was not taken.
    sums: FlatMap<u16, u64>,
    count: u32,
}

impl HandOvers {
    pub(super) const fn poll_timeout(&self) -> Option<Instant> {
        self.review_at
    }

    /// Views or mirrors changed.
    pub(super) fn review(&mut self, now: Instant) {
        self.review_at = Some(now + SETTLE);
    }

    /// A voter has this node learn slots, of which it may become a voter.
    pub(super) fn learn(&mut self, from: NodeId, slots: SlotSet, now: Instant) {
        self.learning.insert(from, (slots, now + LEARNING));
        self.review_at.get_or_insert(now + LEARNING);
    }
}

impl HandOvers {
    fn is_learning(&self, slot: Slot) -> bool {
        let mut learning = self.learning.values();
        learning.any(|(slots, _)| slots.contains(slot))
    }
}

impl Kvs {
    pub(super) fn on_hand_over_timeout(&mut self, now: Now) {
        if self.hand_overs.review_at.is_none_or(|at| at > now.mono) {
            return;
        }
        let learning = &mut self.hand_overs.learning;
        learning.retain(|_, (_, until)| *until > now.mono);
        let mut by_voter: FlatMap<NodeId, SlotSet> = FlatMap::new();
        let superfluous: Vec<Slot> = self
            .index
            .held()
            .filter(|slot| !self.holds(*slot))
            .collect();
        let pause = if self.retirements.is_own() {
            HURRY
        } else {
            RETRY
        };
        let again = (!superfluous.is_empty()).then(|| now.mono + pause);
        let learnt = self.hand_overs.learning.values().map(|(_, until)| *until);
        self.hand_overs.review_at = again.into_iter().chain(learnt).min();
        for slot in superfluous {
            let voters = self.views.get(slot).view.voters.iter();
            let alive = voters.filter(|voter| self.peers.is_alive(voter));
            let alive: Vec<&NodeId> = alive.collect();
            let turn = self.hand_overs.turn.checked_rem(alive.len());
            if let Some(voter) = turn.and_then(|turn| alive.get(turn)) {
                let number = slot.number();
                by_voter.entry(**voter).or_default().push(number, number);
            }
        }
        // What another voter was offered before stays: its answer may be on its way.
        let peers = &self.peers;
        let waits = |voter: &NodeId| !by_voter.is_empty() && peers.is_alive(voter);
        self.hand_overs.offers.retain(|voter, _| waits(voter));
        let mut in_vain = false;
        for (voter, slots) in by_voter {
            in_vain |= self.offer(voter, slots) >= OFFER_COUNT_MAX;
        }
        self.hand_overs.turn += usize::from(in_vain);
    }

    /// Offers slots to a voter, and returns how often it was offered the same.
    fn offer(&mut self, voter: NodeId, slots: SlotSet) -> u32 {
        let sums = self.index.sums(&slots);
        let same = self.hand_overs.offers.remove(&voter);
        let same = same.filter(|offer| (&offer.slots, &offer.sums) == (&slots, &sums));
        // The same offer keeps its number.
        let (id, count) = match same {
            Some(offer) => (offer.id, offer.count),
            None => (self.new_id(), 0),
        };
        let count = count + 1;
        let message = HandOver::Offer {
            id,
            slots: slots.clone(),
        };
        let offer = Offer {
            id,
            slots,
            sums,
            count,
        };
        self.hand_overs.offers.insert(voter, offer);
        self.send(voter, Lane::Repair, Message::HandOver(message));
        count
    }

    #[cfg(planted_bugs)]
    pub(super) fn drop_before_taken(&mut self) {
        if crate::planted::is("drop_before_taken") {
            let superfluous = self.index.held().filter(|slot| !self.holds(*slot));
            let superfluous: Vec<Slot> = superfluous.collect();
            self.hand_overs.dropping.extend(superfluous);
            self.drop_next();
        }
    }

    pub(super) fn on_hand_over(&mut self, from: NodeId, message: HandOver, now: Now) {
        match message {
            HandOver::Offer { id, slots } => {
                if !slots.is_valid() {
                    self.counters.add("kvs_malformed");
                } else if slots.iter().all(|slot| self.views.serving(slot).is_some()) {
                    self.take_over(from, id, slots, now.mono);
                } else {
                    self.exchange_views(from);
                }
            }
            HandOver::Taken { id } => {
                let offer = self.hand_overs.offers.get(&from);
                if offer.is_some_and(|offer| offer.id == id)
                    && let Some(offer) = self.hand_overs.offers.remove(&from)
                {
                    let sums = self.index.sums(&offer.slots);
                    let same = |slot: &Slot| {
                        let number = slot.number();
                        sums.contains_key(&number) && sums.get(&number) == offer.sums.get(&number)
                    };
                    let taken = offer.slots.iter().filter(same);
                    self.hand_overs.dropping.extend(taken);
                    self.drop_next();
                }
            }
        }
    }

    /// All that was offered was pulled: says so, if the other voters hold it. A
    /// voter that is still being filled refuses writes that it had not seen when
    /// it caught up: as long as one waits for it, the next offer is awaited.
    pub(super) fn on_taken_over(&mut self, from: NodeId, id: u64, slots: &SlotSet) {
        let mut views = slots.iter().map(|slot| self.views.get(slot));
        let level = views.all(|state| self.views.serves(state) && self.is_level(&state.view));
        let overdue = self
            .coordinations
            .overdue()
            .any(|slot| slots.contains(slot));
        if level && !overdue {
            let message = Message::HandOver(HandOver::Taken { id });
            self.send(from, Lane::Repair, message);
        }
    }

    /// A batch was dropped, or could not be: what storage still has is offered
    /// again after the next start.
    pub(super) fn on_dropped(&mut self) {
        self.hand_overs.is_dropping = false;
        self.drop_next();
    }

    fn drop_next(&mut self) {
        if self.hand_overs.is_dropping {
            return;
        }
        while let Some(slot) = self.hand_overs.dropping.front().copied() {
            let held: Vec<Key> = if self.holds(slot) {
                Vec::new()
            } else {
                let held = self.index.list(slot, None).take(DROP_COUNT_MAX);
                held.map(|(key, _)| key.clone()).collect()
            };
            if held.is_empty() {
                self.hand_overs.dropping.pop_front();
                if !self.holds(slot) && self.horizons.clear(slot) {
                    self.save_horizons(Vec::new(), Pending::Rest);
                }
                continue;
            }
            let writes: Vec<Write> = held.iter().map(entry_removal).collect();
            for key in &held {
                self.index.set(key, None);
            }
            self.counters
                .add_many("entries_handed_over", held.len() as u64);
            self.hand_overs.is_dropping = true;
            return self.store(StoreOp::Commit(writes), Pending::Dropped);
        }
    }

    /// This node is about to leave: entries are offered at once.
    pub(super) fn hurry_hand_over(&mut self, now: Instant) {
        self.hand_overs.review_at = Some(now + HURRY);
    }

    /// An entry came: it may have come late, for one who has no part in its
    /// slot any more.
    pub(super) fn review_slot(&mut self, slot: Slot, now: Instant) {
        if self.hand_overs.review_at.is_none() && !self.holds(slot) {
            self.hand_overs.review(now);
        }
    }

    /// Whether all that this node still holds was taken.
    pub(super) fn has_given_all(&self) -> bool {
        let dropping = &self.hand_overs.dropping;
        self.index.held().all(|slot| dropping.contains(&slot))
    }

    /// Whether this node has a part in a slot, or may soon have one, as far as
    /// it knows.
    fn holds(&self, slot: Slot) -> bool {
        let view = &self.views.get(slot).view;
        view.number == 0
            || view.voters.contains(&self.own)
            || self.mirrors(slot).contains(&self.own)
            || (self.hand_overs.is_learning(slot) && !self.retirements.is_own())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kvs::fixture::{Said, at, drain, facts, id, voter};
    use crate::kvs::key::SLOT_COUNT;
    use crate::kvs::message::Vote;
    use crate::kvs::peers::Living;
    use crate::kvs::view::{SlotView, View};
    use crate::kvs::{Mode, RequestId};
    use crate::store::Stored;

    #[test]
    fn a_voter_who_does_not_answer_has_the_next_asked() {
        let mut kvs = voter();
        let done = || Ok(Stored::Done);
        let key = Key::new("a/0").unwrap();
        let value = Some(b"value".to_vec());
        kvs.put(RequestId(1), key, value, Mode::One.into(), at(0));
        drain(&mut kvs, at(0), done());
        let view = View {
            number: 4,
            voters: [id(2), id(3), id(4)].into(),
            previous: [id(1), id(2), id(3)].into(),
        };
        let (first, last) = (0, SLOT_COUNT - 1);
        kvs.learn_views(&[SlotView { first, last, view }], at(10));
        let living = [2, 3].map(|seed| (id(seed), Living::of(&facts())));
        kvs.set_members(living.into(), at(10));
        let mut asked = Vec::new();
        for seconds in (3..70).step_by(5) {
            kvs.on_timeout(at(seconds * 1000));
            for (to, message) in drain(&mut kvs, at(seconds * 1000), done()).messages {
                if matches!(message, Message::HandOver(HandOver::Offer { .. })) {
                    asked.push(to);
                }
            }
        }
        let (one, other) = (id(2), id(3));
        let turns = [one, one, one, one, one, other, other, other, other];
        assert_eq!(asked.get(..9), Some(&turns[..]), "{asked:?}");
    }

    fn is_taken(said: &Said) -> bool {
        let taken = |(_, message): &(NodeId, Message)| {
            matches!(message, Message::HandOver(HandOver::Taken { .. }))
        };
        said.messages.iter().any(taken)
    }

    #[test]
    fn nothing_is_taken_while_a_voter_refuses_writes() {
        let mut kvs = voter();
        let done = || Ok(Stored::Done);
        let key = Key::new("a/0").unwrap();
        let slots = SlotSet::from_slots([key.slot()].into_iter());
        let value = Some(b"value".to_vec());
        kvs.put(RequestId(1), key, value, Mode::Quorum.into(), at(0));
        let write = drain(&mut kvs, at(0), done()).write();
        let vote = || Message::Vote(Vote::Wrote { id: write, view: 3 });
        kvs.on_message(id(2), vote(), at(10));
        kvs.on_timeout(at(3000));
        drain(&mut kvs, at(3000), done());
        kvs.on_taken_over(id(4), 7, &slots);
        let said = drain(&mut kvs, at(3000), done());
        assert!(!is_taken(&said), "the third voter lacks it");
        kvs.on_message(id(3), vote(), at(3010));
        kvs.on_taken_over(id(4), 7, &slots);
        let said = drain(&mut kvs, at(3010), done());
        assert!(is_taken(&said), "all three hold it");
    }
}
