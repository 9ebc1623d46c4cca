//! Views: who votes on a slot, and how the next view is chosen.
//!
//! Each slot has a numbered view (consistent quorums: Arad et al., *CATS*,
//! 2013; Glendenning et al., *Scatter*, 2011). View n + 1 is chosen by one
//! Paxos instance (Lamport 2001) among the voters of view n. A voter that
//! accepts it serves view n no more, so that what was acknowledged in view n
//! is complete before view n + 1 begins. Only genesis makes a first view.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::flat::{FlatMap, FlatSet};
use crate::id::NodeId;
use crate::kvs::key::{SLOT_COUNT, Slot};
use crate::kvs::message::Proposal;
use crate::kvs::slots::{SlotMap, SlotSet};

/// The most voters of a view.
pub(crate) const VOTER_COUNT_MAX: usize = 3;

/// Who votes on a slot. Number zero: not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct View {
    pub(crate) number: u64,
    pub(crate) voters: Vec<NodeId>,
    /// The voters of the view before, from whom a new voter is filled.
    pub(crate) previous: Vec<NodeId>,
}

impl View {
    /// How many voters a decision takes.
    pub(crate) const fn majority(&self) -> usize {
        self.voters.len() / 2 + 1
    }

    fn is_valid(&self) -> bool {
        let distinct: FlatSet<&NodeId> = self.voters.iter().collect();
        self.number > 0
            && (1..=VOTER_COUNT_MAX).contains(&self.voters.len())
            && self.previous.len() <= VOTER_COUNT_MAX
            && distinct.len() == self.voters.len()
    }
}

/// The view of a run of slots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SlotView {
    pub(crate) first: u16,
    pub(crate) last: u16,
    pub(crate) view: View,
}

/// A Paxos ballot; the default is below all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Ballot {
    pub(crate) round: u32,
    pub(crate) node: NodeId,
}

impl Default for Ballot {
    fn default() -> Self {
        Self {
            round: 0,
            node: NodeId::from_bytes([0; 32]),
        }
    }
}

/// What this node knows of a slot, and has promised about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SlotState {
    pub(crate) view: View,
    pub(crate) promised: Ballot,
    /// The next view that this node accepted: it is sealed.
    pub(crate) accepted: Option<(Ballot, View)>,
    /// Whether this node, as a voter, holds all that was acknowledged.
    pub(crate) filled: bool,
    /// Whether this node, a voter, remembered no view at all: it may have
    /// voted before, and lost its disk.
    pub(crate) lost: bool,
    /// Whether it is known that this was the last view when the node started.
    confirmed: bool,
}

impl SlotState {
    /// From whom a voter that is not filled has to fetch, and from how many of
    /// them: a majority of the view before, or all others if it lost its disk.
    /// One that voted in the view before, but did not know it, asks as many of
    /// the others as surely hold every acknowledged write between them.
    /// Voters that are given up count in none of this.
    pub(crate) fn fill_from(
        &self,
        own: &NodeId,
        given_up: impl Fn(&NodeId) -> bool,
    ) -> (Vec<NodeId>, usize) {
        let counted = |voters: &[NodeId]| -> Vec<NodeId> {
            let counted = voters.iter().filter(|voter| !given_up(voter));
            counted.copied().collect()
        };
        let (voters, previous) = (counted(&self.view.voters), counted(&self.view.previous));
        let others = |voters: &[NodeId]| -> Vec<NodeId> {
            let others = voters.iter().filter(|voter| *voter != own);
            others.copied().collect()
        };
        if self.lost {
            let from = others(&voters);
            let need = from.len();
            return (from, need);
        }
        let from = others(&previous);
        let majority = previous.len() / 2 + 1;
        let need = if previous.contains(own) {
            (from.len() + 1).saturating_sub(majority).max(1)
        } else {
            majority
        };
        (from, need)
    }
}

/// The views of all slots.
#[derive(Debug)]
pub(crate) struct Views {
    own: NodeId,
    slots: SlotMap<SlotState>,
    /// Voters that showed, since the start of this node, no newer view.
    confirming: FlatSet<NodeId>,
}

impl Views {
    pub(crate) fn new(own: NodeId) -> Self {
        Self {
            own,
            slots: SlotMap::new(SlotState::default()),
            confirming: FlatSet::new(),
        }
    }

    /// The first view of all slots: this node alone.
    pub(crate) fn genesis(&mut self) {
        let state = SlotState {
            view: View {
                number: 1,
                voters: [self.own].into(),
                previous: Vec::new(),
            },
            filled: true,
            confirmed: true,
            ..SlotState::default()
        };
        self.slots = SlotMap::new(state);
    }

    pub(crate) fn get(&self, slot: Slot) -> &SlotState {
        self.slots.get(slot)
    }

    pub(crate) fn runs(&self) -> impl Iterator<Item = (u16, u16, &SlotState)> {
        self.slots.runs()
    }

    /// The slots whose state satisfies a condition.
    pub(crate) fn slots_where(&self, condition: impl Fn(&SlotState) -> bool) -> SlotSet {
        self.slots.slots_where(condition)
    }

    /// The number of the view in which this node votes on a slot now.
    pub(crate) fn serving(&self, slot: Slot) -> Option<u64> {
        let state = self.slots.get(slot);
        self.serves(state).then_some(state.view.number)
    }

    pub(crate) fn serves(&self, state: &SlotState) -> bool {
        let filled = state.filled;
        #[cfg(planted_bugs)]
        let filled = filled || crate::planted::is("vote_before_refill");
        self.votes(state) && filled && state.confirmed && state.accepted.is_none()
    }

    /// Whether this node is a voter, serving or not.
    pub(crate) fn votes(&self, state: &SlotState) -> bool {
        state.view.voters.contains(&self.own)
    }

    /// Whether the voters of every slot are known.
    pub(crate) fn is_known_all(&self) -> bool {
        self.slots.runs().all(|(_, _, state)| state.view.number > 0)
    }

    /// Whether this node serves wherever it is a voter.
    pub(crate) fn is_serving_all(&self) -> bool {
        let mut own = self.slots.runs().filter(|(_, _, state)| self.votes(state));
        own.all(|(_, _, state)| self.serves(state))
    }

    /// The others with whom this node votes on anything.
    pub(crate) fn co_voters(&self) -> FlatSet<NodeId> {
        let own = self.slots.runs().filter(|(_, _, state)| self.votes(state));
        let voters = own.flat_map(|(_, _, state)| state.view.voters.iter().copied());
        voters.filter(|voter| *voter != self.own).collect()
    }

    /// The slots that this node and another vote on.
    pub(crate) fn shared_with(&self, peer: &NodeId) -> SlotSet {
        self.slots
            .slots_where(|state| self.votes(state) && state.view.voters.contains(peer))
    }

    /// The same, by the numbers of their views.
    pub(crate) fn views_shared_with(&self, peer: &NodeId) -> FlatMap<u64, SlotSet> {
        let mut shared: FlatMap<u64, SlotSet> = FlatMap::new();
        for (first, last, state) in self.slots.runs() {
            if self.votes(state) && state.view.voters.contains(peer) {
                let slots = shared.entry(state.view.number).or_default();
                slots.push(first, last);
            }
        }
        shared
    }

    /// Takes note of a view that was chosen. Returns whether it is newer than
    /// what was known.
    pub(crate) fn learn(&mut self, news: &SlotView) -> bool {
        if !news.view.is_valid() || news.first > news.last || news.last >= SLOT_COUNT {
            return false;
        }
        let slots = (news.first..=news.last).filter_map(Slot::new);
        let newer = slots.filter(|slot| self.slots.get(*slot).view.number < news.view.number);
        let newer = SlotSet::from_slots(newer);
        let own = self.own;
        self.slots.update(&newer, |state| {
            let stays = state.view.number.saturating_add(1) == news.view.number
                && state.view.voters.contains(&own)
                && state.filled;
            *state = SlotState {
                view: news.view.clone(),
                filled: stays && news.view.voters.contains(&own),
                lost: (state.view.number == 0 || state.lost) && news.view.voters.contains(&own),
                confirmed: true,
                ..SlotState::default()
            };
        });
        !newer.is_empty()
    }

    /// All views known, in runs.
    pub(crate) fn known(&self) -> Vec<SlotView> {
        let mut known: Vec<SlotView> = Vec::new();
        for (first, last, state) in self.slots.runs() {
            match known.last_mut() {
                Some(run) if run.view == state.view && run.last.checked_add(1) == Some(first) => {
                    run.last = last;
                }
                _ if state.view.number == 0 => {}
                _ => known.push(SlotView {
                    first,
                    last,
                    view: state.view.clone(),
                }),
            }
        }
        known
    }

    /// The view of one slot, as news for another node.
    pub(crate) fn known_of(&self, slot: Slot) -> SlotView {
        SlotView {
            first: slot.number(),
            last: slot.number(),
            view: self.slots.get(slot).view.clone(),
        }
    }

    /// A digest of all view numbers: equal knowledge has equal ones.
    pub(crate) fn digest(&self) -> u64 {
        let known = self.known();
        let mix = |run: &SlotView| {
            let range = u64::from(run.first) << 16 | u64::from(run.last);
            (range ^ run.view.number.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        };
        known
            .iter()
            .map(mix)
            .fold(0, |sum, one| sum.rotate_left(5) ^ one)
    }

    // ---- the acceptor (Paxos phase 1b and 2b) ----

    /// Promises a ballot for all slots of a proposal, or for none. Returns
    /// what was accepted before.
    pub(crate) fn prepare(
        &mut self,
        proposal: &Proposal,
    ) -> Result<Vec<(SlotSet, Ballot, View)>, Ballot> {
        self.admit(proposal, |promised, ballot| promised < ballot)?;
        let ballot = proposal.ballot;
        self.slots
            .update(&proposal.slots, |state| state.promised = ballot);
        let mut accepted: Vec<(SlotSet, Ballot, View)> = Vec::new();
        for (_, _, state) in self.slots.runs() {
            let Some((ballot, view)) = &state.accepted else {
                continue;
            };
            if !accepted.iter().any(|(_, b, v)| (b, v) == (ballot, view)) {
                let same = self
                    .slots
                    .slots_where(|other| other.accepted == state.accepted);
                let same = same.iter().filter(|slot| proposal.slots.contains(*slot));
                accepted.push((SlotSet::from_slots(same), *ballot, view.clone()));
            }
        }
        accepted.retain(|(slots, _, _)| !slots.is_empty());
        Ok(accepted)
    }

    /// Accepts the next view for all slots of a proposal, or for none.
    pub(crate) fn accept(&mut self, proposal: &Proposal, next: &View) -> Result<(), Ballot> {
        self.admit(proposal, |promised, ballot| promised <= ballot)?;
        if !next.is_valid() || next.number != proposal.number.saturating_add(1) {
            return Err(proposal.ballot);
        }
        let ballot = proposal.ballot;
        self.slots.update(&proposal.slots, |state| {
            state.promised = ballot;
            state.accepted = Some((ballot, next.clone()));
        });
        Ok(())
    }

    fn admit(
        &self,
        proposal: &Proposal,
        admits: impl Fn(Ballot, Ballot) -> bool,
    ) -> Result<(), Ballot> {
        if !proposal.slots.is_valid() || proposal.slots.is_empty() {
            return Err(Ballot::default());
        }
        for slot in proposal.slots.iter() {
            let state = self.slots.get(slot);
            let own = self.votes(state) && state.view.number == proposal.number;
            let admitted = admits(state.promised, proposal.ballot);
            #[cfg(planted_bugs)]
            let admitted = admitted || crate::planted::is("two_change_a_view");
            if !own || !admitted {
                return Err(state.promised);
            }
        }
        Ok(())
    }

    /// Whether none of these slots will be voted on in a view before `number`.
    pub(crate) fn is_past(&self, slots: &SlotSet, number: u64) -> bool {
        slots.iter().all(|slot| {
            let state = self.slots.get(slot);
            let sealed = state.accepted.is_some() && state.view.number.saturating_add(1) == number;
            sealed || state.view.number >= number
        })
    }

    // ---- filling and confirming ----

    /// Slots that this node votes on but is not filled for, by state.
    pub(crate) fn unfilled(&self) -> Vec<(SlotSet, SlotState)> {
        let mut unfilled: Vec<(SlotSet, SlotState)> = Vec::new();
        for (_, _, state) in self.slots.runs() {
            let wanted = self.votes(state) && !state.filled;
            if wanted && !unfilled.iter().any(|(_, other)| other == state) {
                unfilled.push((
                    self.slots.slots_where(|other| other == state),
                    state.clone(),
                ));
            }
        }
        unfilled
    }

    pub(crate) fn set_filled(&mut self, slots: &SlotSet, number: u64) {
        let own = self.own;
        self.slots.update(slots, |state| {
            if state.view.number == number && state.view.voters.contains(&own) {
                state.filled = true;
                state.lost = false;
            }
        });
    }

    /// A voter showed that it knows no newer views than this node. Returns
    /// whether that confirmed something.
    pub(crate) fn confirm(&mut self, peer: &NodeId) -> bool {
        self.confirming.insert(*peer);
        self.settle_confirmed()
    }

    fn settle_confirmed(&mut self) -> bool {
        let own = self.own;
        let confirming = &self.confirming;
        let is_due = |state: &SlotState| {
            let agreeing = |voter: &&NodeId| **voter == own || confirming.contains(*voter);
            let count = state.view.voters.iter().filter(agreeing).count();
            !state.confirmed && state.view.voters.contains(&own) && count >= state.view.majority()
        };
        let due = self.slots.slots_where(is_due);
        self.slots.update(&due, |state| state.confirmed = true);
        !due.is_empty()
    }

    /// Whether this node waits for voters to confirm its views.
    pub(crate) fn is_unconfirmed(&self) -> bool {
        let mut runs = self.slots.runs();
        runs.any(|(_, _, state)| self.votes(state) && !state.confirmed)
    }

    // ---- storage ----

    /// What has to be kept: all runs with their promises.
    pub(crate) fn save(&self) -> Vec<(u16, u16, SlotState)> {
        let known = self
            .slots
            .runs()
            .filter(|(_, _, state)| state.view.number > 0);
        known
            .map(|(first, last, state)| (first, last, state.clone()))
            .collect()
    }

    /// Takes back what was kept. A restarted voter votes again when a
    /// majority of its last view is back, or a newer view is shown to it.
    pub(crate) fn load(&mut self, saved: &[(u16, u16, SlotState)]) {
        for (first, last, state) in saved {
            let slots = SlotSet::from_slots((*first..=*last).filter_map(Slot::new));
            self.slots.update(&slots, |own| {
                *own = SlotState {
                    confirmed: false,
                    ..state.clone()
                };
            });
        }
        self.settle_confirmed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(first: u8) -> NodeId {
        NodeId::from_bytes([first; 32])
    }

    fn view(number: u64, voters: &[u8], previous: &[u8]) -> View {
        View {
            number,
            voters: voters.iter().map(|n| id(*n)).collect(),
            previous: previous.iter().map(|n| id(*n)).collect(),
        }
    }

    fn everywhere(view: View) -> SlotView {
        SlotView {
            first: 0,
            last: SLOT_COUNT - 1,
            view,
        }
    }

    fn proposal(number: u64, round: u32) -> Proposal {
        Proposal {
            change: 1,
            slots: SlotSet::all(),
            number,
            ballot: Ballot { round, node: id(1) },
        }
    }

    #[test]
    fn who_accepts_the_next_view_serves_this_one_no_more() {
        let slot = Slot::new(7).unwrap();
        let mut views = Views::new(id(1));
        views.genesis();
        assert_eq!(views.serving(slot), Some(1));
        assert_eq!(views.prepare(&proposal(1, 1)), Ok(Vec::new()));
        let next = view(2, &[1, 2], &[1]);
        assert!(
            views.accept(&proposal(1, 0), &next).is_err(),
            "an old ballot"
        );
        assert!(
            views.accept(&proposal(2, 1), &next).is_err(),
            "another view"
        );
        assert_eq!(views.accept(&proposal(1, 1), &next), Ok(()));
        assert_eq!(views.serving(slot), None, "sealed");
        assert!(views.is_past(&SlotSet::all(), 2));
        let known = views.prepare(&proposal(1, 2)).unwrap();
        assert_eq!(
            known,
            [(SlotSet::all(), proposal(1, 1).ballot, next.clone())]
        );
        assert!(views.learn(&everywhere(next)));
        assert_eq!(views.serving(slot), Some(2), "an old voter stays filled");
    }

    #[test]
    fn a_new_voter_serves_only_when_filled() {
        let slot = Slot::new(0).unwrap();
        let mut views = Views::new(id(2));
        assert!(views.learn(&everywhere(view(2, &[1, 2], &[1]))));
        assert_eq!(views.serving(slot), None);
        assert_eq!(views.unfilled().len(), 1);
        views.set_filled(&SlotSet::all(), 1);
        assert_eq!(views.serving(slot), None, "that was another view");
        views.set_filled(&SlotSet::all(), 2);
        assert_eq!(views.serving(slot), Some(2));
        assert!(
            !views.learn(&everywhere(view(2, &[1, 3], &[1]))),
            "no newer"
        );
        assert!(!views.learn(&everywhere(view(3, &[1, 1], &[1]))), "invalid");
    }

    #[test]
    fn nothing_is_told_of_slots_between_two_known_ones() {
        let mut views = Views::new(id(9));
        for (first, last) in [(0, 10), (21, 30)] {
            let view = view(2, &[1, 2], &[1]);
            views.learn(&SlotView { first, last, view });
        }
        let known = views.known();
        let ranges: Vec<_> = known.iter().map(|run| (run.first, run.last)).collect();
        assert_eq!(ranges, [(0, 10), (21, 30)]);
    }

    #[test]
    fn a_restarted_voter_waits_for_a_majority() {
        let slot = Slot::new(0).unwrap();
        let mut before = Views::new(id(1));
        before.learn(&everywhere(view(3, &[1, 2, 3], &[1, 2])));
        before.set_filled(&SlotSet::all(), 3);
        let mut views = Views::new(id(1));
        views.load(&before.save());
        assert_eq!(views.serving(slot), None);
        assert!(views.is_unconfirmed());
        views.confirm(&id(9));
        assert_eq!(views.serving(slot), None, "no voter");
        assert!(views.confirm(&id(3)));
        assert_eq!(views.serving(slot), Some(3));

        let mut alone = Views::new(id(1));
        alone.genesis();
        let mut views = Views::new(id(1));
        views.load(&alone.save());
        assert_eq!(views.serving(slot), Some(1), "its own majority");
    }
}
