//! What should change about views: who votes on a slot, and who should.
//!
//! The voters of a slot should be the first three durable members clockwise
//! of its start. One changes at a time: views grow to three, a voter that is
//! away for long is replaced, and votes move to a nearer member that came.

use alloc::vec::Vec;
use core::time::Duration;

use super::Kvs;
use super::key::Slot;
use super::slots::SlotSet;
use super::view::{SlotState, VOTER_COUNT_MAX, View};
use crate::flat::FlatSet;
use crate::id::NodeId;
use crate::time::Instant;

/// How long a voter is away before another takes its place: a process that is
/// started again is back sooner.
const REPLACE_AFTER: Duration = Duration::from_secs(4);
/// How long a member lives before votes move to it. Whoever comes and goes
/// moves none.
const MOVE_AFTER: Duration = Duration::from_secs(10);
/// How long a voter waits for the end of a change that another leads.
pub(super) const FINISH_AFTER: Duration = Duration::from_secs(3);
/// When to look again at slots that lack copies: first they are made whole.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A change of the view of some slots.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) slots: SlotSet,
    /// What the slots have in common.
    pub(super) state: SlotState,
    pub(super) next: View,
    /// The member that is to vote, and has to learn before.
    pub(super) candidate: Option<NodeId>,
}

/// What should become of one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goal {
    /// Nothing, as things are.
    Stay,
    /// Something, but not before then.
    Later(Instant),
    /// Another voter.
    Add(NodeId),
    /// One voter for another.
    Swap { old: NodeId, new: NodeId },
    /// One voter fewer: only one that was given up.
    Remove(NodeId),
}

impl Kvs {
    /// The first change to lead among the slots whose first live voter this
    /// node is. Without one: when to look again.
    pub(super) fn plan(&mut self, now: Instant) -> Result<Plan, Option<Instant>> {
        let runs = self.views.runs().filter(|(_, _, state)| self.leads(state));
        let runs: Vec<(u16, u16, SlotState)> = runs
            .map(|(first, last, state)| (first, last, state.clone()))
            .collect();
        let voters = runs.iter().flat_map(|(_, _, state)| &state.view.voters);
        self.peers.note_absent(voters, now);
        let sealed_at = match self.plan_unfinished(now) {
            Ok(plan) => return Ok(plan),
            Err(look_at) => look_at,
        };
        let ends_at = self.changes.passed_over.ends_at(now);
        let mut look_at = sealed_at.into_iter().chain(ends_at).min();
        for (first, last, state) in runs {
            if !self.views.serves(&state) {
                continue;
            }
            for slot in self.turns(first, last) {
                match self.goal(slot, &state.view, now) {
                    Goal::Stay => {}
                    Goal::Later(at) => {
                        look_at = Some(look_at.map_or(at, |before| before.min(at)));
                    }
                    goal @ (Goal::Add(_) | Goal::Swap { .. } | Goal::Remove(_)) => {
                        return Ok(self.plan_for(goal, state, now));
                    }
                }
            }
        }
        Err(look_at)
    }

    /// A change that was accepted here, and whose end is not known: whoever led
    /// it may be gone, or have given it up. Its leader finishes it at once, any
    /// other voter after a while: the first live voter may know nothing of it.
    fn plan_unfinished(&mut self, now: Instant) -> Result<Plan, Option<Instant>> {
        let sealed = self.views.runs().find(|(_, _, state)| {
            self.views.votes(state) && state.accepted.is_some() && self.has_quorum(&state.view)
        });
        let Some((_, _, state)) = sealed else {
            self.changes.sealed_at = None;
            return Err(None);
        };
        let state = state.clone();
        let sealed_at = *self.changes.sealed_at.get_or_insert(now);
        match &state.accepted {
            Some((_, next)) if self.leads(&state) || sealed_at + FINISH_AFTER <= now => Ok(Plan {
                slots: self.views.slots_where(|other| *other == state),
                next: next.clone(),
                candidate: None,
                state,
            }),
            _ => Err(Some(sealed_at + FINISH_AFTER)),
        }
    }

    /// Whether enough voters of a view live to choose the next one.
    pub(super) fn has_quorum(&self, view: &View) -> bool {
        let lives = |voter: &&NodeId| **voter == self.own || self.peers.is_alive(voter);
        view.voters.iter().filter(lives).count() >= self.quorum(view)
    }

    /// The slots of a run at which the order of members clockwise may change:
    /// its first, and those after a member's own. Between two of them every
    /// slot has the same goal.
    fn turns(&self, first: u16, last: u16) -> FlatSet<Slot> {
        let members = self.peers.alive().chain([self.own]);
        let after = members.map(|id| Slot::of(&id).next());
        let within = after.filter(|slot| (first..=last).contains(&slot.number()));
        within.chain(Slot::new(first)).collect()
    }

    /// Whether this node is the first live voter of a view.
    pub(super) fn leads(&self, state: &SlotState) -> bool {
        let mut voters = state.view.voters.iter();
        voters.find(|voter| **voter == self.own || self.peers.is_alive(voter)) == Some(&self.own)
    }

    /// One change for all slots that are alike and should become alike.
    fn plan_for(&self, goal: Goal, state: SlotState, now: Instant) -> Plan {
        let alike = self.views.slots_where(|other| *other == state);
        let slots = alike
            .iter()
            .filter(|slot| self.goal(*slot, &state.view, now) == goal);
        let mut voters = state.view.voters.clone();
        let candidate = match goal {
            Goal::Swap { old, new } => {
                for voter in voters.iter_mut().filter(|voter| **voter == old) {
                    *voter = new;
                }
                Some(new)
            }
            Goal::Add(new) => {
                voters.push(new);
                Some(new)
            }
            Goal::Remove(old) => {
                voters.retain(|voter| *voter != old);
                None
            }
            Goal::Stay | Goal::Later(_) => None,
        };
        Plan {
            slots: SlotSet::from_slots(slots),
            next: View {
                number: state.view.number.saturating_add(1),
                voters,
                previous: state.view.voters.clone(),
            },
            candidate,
            state,
        }
    }

    fn goal(&self, slot: Slot, view: &View, now: Instant) -> Goal {
        let start = slot.start();
        let mut others = view.voters.clone();
        others.extend(self.retirements.others());
        let candidate = self.candidate(&start, others, now);
        if !self.has_quorum(view) {
            return Goal::Stay;
        }
        let lives = |voter: &&NodeId| **voter == self.own || self.peers.is_alive(voter);
        let mut given_up = view.voters.iter();
        if let Some(old) = given_up.find(|voter| self.evictions.has_given_up(voter)) {
            let swap = |new| Goal::Swap { old: *old, new };
            return candidate.map_or(Goal::Remove(*old), swap);
        }
        let Some(candidate) = candidate else {
            return Goal::Stay;
        };
        let retires = |voter: &&NodeId| {
            let own = **voter == self.own && self.retirements.is_own();
            own || self.retirements.contains(voter)
        };
        if let Some(old) = view.voters.iter().find(retires) {
            let (old, new) = (*old, candidate);
            return Goal::Swap { old, new };
        }
        if view.voters.len() < VOTER_COUNT_MAX {
            return Goal::Add(candidate);
        }
        let due = |at: Instant, old: NodeId| {
            let new = candidate;
            if at <= now {
                Goal::Swap { old, new }
            } else {
                Goal::Later(at)
            }
        };
        if let Some(away) = view.voters.iter().find(|voter| !lives(voter)) {
            return due(self.peers.absent_since(away, now) + REPLACE_AFTER, *away);
        }
        let distance = |id: &NodeId| start.distance_to(id);
        let farthest = view.voters.iter().max_by_key(|id| distance(id));
        match farthest.filter(|farthest| distance(&candidate) < distance(farthest)) {
            Some(_) if !self.is_level(view) => Goal::Later(now + LOOK_AGAIN),
            Some(farthest) => due(self.peers.came_at(&candidate, now) + MOVE_AFTER, *farthest),
            None => Goal::Stay,
        }
    }

    /// Whose turn it is to vote besides those: one that learned in vain only if
    /// there is nobody else.
    fn candidate(&self, start: &NodeId, voters: Vec<NodeId>, now: Instant) -> Option<NodeId> {
        let mut others = voters.clone();
        others.extend(self.changes.passed_over.list(now));
        let preferred = self.peers.next_durable(start, &others);
        preferred.or_else(|| self.peers.next_durable(start, &voters))
    }

    /// Whether all other voters of a view hold what this node holds.
    pub(super) fn is_level(&self, view: &View) -> bool {
        let mut others = view.voters.iter().filter(|voter| **voter != self.own);
        others.all(|voter| self.peers.is_alive(voter) && self.peers.has_caught_up(voter))
    }
}

#[cfg(test)]
mod spread;

#[cfg(test)]
mod tests {

    use super::*;
    use crate::config::TOMBSTONE_GRACE;
    use crate::flat::FlatMap;
    use crate::identity::{Facts, Identity};
    use crate::kvs::key::SLOT_COUNT;
    use crate::kvs::peers::Living;
    use crate::rng::Rng;
    use crate::status::Class;
    use crate::time::Now;

    #[test]
    fn members_come_in_one_order_between_two_turns() {
        let facts = Facts {
            epoch: 1,
            class: Class::Durable,
            name: alloc::string::String::new(),
        };
        let id = |seed: u8| Identity::from_seed(&[seed; 32]).id();
        let mut kvs = Kvs::new(
            id(0),
            Class::Durable,
            TOMBSTONE_GRACE,
            Rng::from_seed([5; 32]),
        );
        let alive: FlatMap<NodeId, Living> =
            (1..20).map(|seed| (id(seed), Living::of(&facts))).collect();
        let now = Now {
            mono: Instant::from_micros(0),
            unix_ms: 0,
        };
        kvs.set_members(alive, now);
        let turns = kvs.turns(0, SLOT_COUNT - 1);
        assert!(turns.len() <= 21);
        let order = |slot: Slot| {
            let mut members: Vec<NodeId> = kvs.peers.alive().chain([kvs.own]).collect();
            members.sort_by_key(|id| slot.start().distance_to(id));
            members
        };
        let mut last = None;
        for slot in (0..SLOT_COUNT).filter_map(Slot::new) {
            if turns.contains(&slot) {
                last = Some(order(slot));
            }
            assert_eq!(last, Some(order(slot)), "{slot:?}");
        }
    }
}
