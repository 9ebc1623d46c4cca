//! Changing views: the proposer's side of the Paxos instance that chooses the
//! next one.
//!
//! ```text
//! leader (first live voter)         candidate          other voters
//!   |--- Learn -------------------->|                       |
//!   |<-- Learned -------------------|                       |
//!   |--- Prepare, Accept ---------------------------------->|   sealed
//!   |<-- Promise, Accepted ---------------------------------|
//!   |--- Chosen ------------------->| fetches the last difference, serves
//! ```
//!
//! One voter changes at a time. Views grow to three.

use alloc::vec::Vec;
use core::time::Duration;

use super::Kvs;
use super::lesson::{Lesson, PassedOver};
use super::message::{Message, Proposal, ViewMessage};
use super::plan::{FINISH_AFTER, Plan};
use super::slots::SlotSet;
use super::view::{Ballot, SlotView, View};
use crate::event::Lane;
use crate::flat::{FlatMap, FlatSet};
use crate::id::NodeId;
use crate::time::{Instant, Now};

/// How long a change may take; then it is given up and looked at again.
const DEADLINE: Duration = Duration::from_secs(20);
/// How often unanswered questions are repeated.
const RESEND: Duration = Duration::from_millis(500);
/// The pause after a change that failed.
const PAUSE: Duration = Duration::from_millis(500);

/// The change that this node leads, one at a time.
#[derive(Debug, Default)]
pub(super) struct Changes {
    active: Option<Change>,
    /// When to look for something to change.
    pub(super) review_at: Option<Instant>,
    /// Since when a view was accepted here whose end is not known.
    pub(super) sealed_at: Option<Instant>,
    pub(super) passed_over: PassedOver,
    round: u32,
}

#[derive(Debug)]
struct Change {
    id: u64,
    slots: SlotSet,
    view: View,
    next: View,
    ballot: Ballot,
    phase: Phase,
    resend_at: Instant,
    deadline: Instant,
}

#[derive(Debug)]
enum Phase {
    Learning {
        candidate: NodeId,
        lesson: Lesson,
    },
    Preparing {
        promised: FlatSet<NodeId>,
        accepted: Option<(Ballot, View, SlotSet)>,
    },
    Accepting(FlatSet<NodeId>),
}

impl Changes {
    fn active(&mut self, id: u64) -> Option<&mut Change> {
        self.active.as_mut().filter(|change| change.id == id)
    }

    /// What a change may have waited for has come.
    pub(super) fn hurry(&mut self, now: Instant) {
        if let Some(at) = &mut self.review_at {
            *at = now.min(*at);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let active = self.active.as_ref();
        let active = active.map(|change| change.resend_at.min(change.deadline));
        let review = self.review_at.filter(|_| self.active.is_none());
        active.into_iter().chain(review).min()
    }
}

impl Kvs {
    pub(super) fn on_change_timeout(&mut self, now: Now) {
        let changes = &mut self.changes;
        if let Some(change) = &changes.active {
            if change.deadline <= now.mono {
                self.counters.add("view_changes_failed");
                self.end_change(PAUSE, now);
            } else if change.resend_at <= now.mono {
                self.ask_change(now);
            }
        } else if changes.review_at.is_some_and(|at| at <= now.mono) {
            changes.review_at = None;
            self.confirm_views();
            match self.plan(now.mono) {
                Ok(plan) => self.begin_change(plan, now),
                Err(look_at) => self.changes.review_at = look_at,
            }
        }
    }

    fn begin_change(&mut self, plan: Plan, now: Now) {
        let Plan {
            slots,
            state,
            next,
            candidate,
        } = plan;
        let known = self.changes.round.max(state.promised.round);
        self.changes.round = known.saturating_add(1);
        let ballot = Ballot {
            round: self.changes.round,
            node: self.own,
        };
        let phase = candidate.map_or_else(Phase::preparing, Phase::learning);
        let change = Change {
            id: self.new_id(),
            slots,
            view: state.view,
            next,
            ballot,
            phase,
            resend_at: now.mono,
            deadline: now.mono + DEADLINE,
        };
        self.changes.active = Some(change);
        self.ask_change(now);
    }

    /// Sends the question of the phase to all who have not answered.
    fn ask_change(&mut self, now: Now) {
        let Some(change) = &mut self.changes.active else {
            return;
        };
        if let Phase::Learning { candidate, lesson } = &mut change.phase
            && !lesson.ask()
        {
            let candidate = *candidate;
            return self.pass_over(candidate, now);
        }
        change.resend_at = now.mono + RESEND;
        let proposal = Proposal {
            change: change.id,
            slots: change.slots.clone(),
            number: change.view.number,
            ballot: change.ballot,
        };
        let voters = change.view.voters.iter().copied();
        let (targets, message): (Vec<NodeId>, ViewMessage) = match &change.phase {
            Phase::Learning { candidate, .. } => {
                let (change, slots) = (proposal.change, proposal.slots);
                ([*candidate].into(), ViewMessage::Learn { change, slots })
            }
            Phase::Preparing { promised, .. } => {
                let targets = voters.filter(|voter| !promised.contains(voter));
                (targets.collect(), ViewMessage::Prepare(proposal))
            }
            Phase::Accepting(accepted) => {
                let targets = voters.filter(|voter| !accepted.contains(voter));
                let next = change.next.clone();
                (targets.collect(), ViewMessage::Accept { proposal, next })
            }
        };
        for target in targets {
            self.send(target, Lane::Control, Message::View(message.clone()));
        }
    }

    pub(super) fn on_view(&mut self, from: NodeId, message: ViewMessage, now: Now) {
        match message {
            ViewMessage::Learn { change, slots } => self.learn_slots(from, change, slots, now),
            ViewMessage::Learned { change } => self.on_learned(from, change, now),
            ViewMessage::Prepare(proposal) => {
                let (change, ballot) = (proposal.change, proposal.ballot);
                let answer = match self.views.prepare(&proposal) {
                    Ok(accepted) => ViewMessage::Promise {
                        change,
                        ballot,
                        accepted,
                    },
                    Err(promised) => ViewMessage::Rejected { change, promised },
                };
                self.save_views([(from, answer)].into());
            }
            ViewMessage::Promise {
                change,
                ballot,
                accepted,
            } => {
                self.on_promise(from, (change, ballot), accepted, now);
            }
            ViewMessage::Accept { proposal, next } => {
                let (change, ballot) = (proposal.change, proposal.ballot);
                let answer = match self.views.accept(&proposal, &next) {
                    Ok(()) => ViewMessage::Accepted { change, ballot },
                    Err(promised) => ViewMessage::Rejected { change, promised },
                };
                self.save_views([(from, answer)].into());
                let look_at = now.mono + FINISH_AFTER;
                let before = self.changes.review_at.unwrap_or(look_at);
                self.changes.review_at = Some(before.min(look_at));
            }
            ViewMessage::Accepted { change, ballot } => {
                self.on_accepted(from, (change, ballot), now);
            }
            ViewMessage::Rejected { change, promised } => {
                self.changes.round = self.changes.round.max(promised.round);
                if self.changes.active(change).is_some() {
                    self.exchange_views(from);
                    self.end_change(PAUSE, now);
                }
            }
            ViewMessage::Known { views, answer } => {
                let news = self.learn_views(&views, now);
                if news {
                    self.on_new_views(now);
                }
                if answer {
                    let (views, answer) = (self.views.known(), false);
                    let message = ViewMessage::Known { views, answer };
                    self.send(from, Lane::Control, Message::View(message));
                } else if self.views.confirm(&from) && !news {
                    self.review(now);
                }
            }
            ViewMessage::Retire => self.on_retire(from, now),
            ViewMessage::Evict { id } => self.on_evict(id, now),
            ViewMessage::Chosen { views } => {
                if self.learn_views(&views, now) {
                    self.on_new_views(now);
                }
            }
        }
    }

    /// Others vote now than was known: who waits for a voter goes on, and a
    /// page brings what it took meanwhile.
    fn on_new_views(&mut self, now: Now) {
        self.clients.hurry(now.mono);
        self.owe_all(now);
        self.review(now);
    }

    fn on_learned(&mut self, from: NodeId, id: u64, now: Now) {
        let Some(change) = self.changes.active(id) else {
            return;
        };
        if change.phase.teaches(&from) {
            change.phase = Phase::preparing();
            self.ask_change(now);
        }
    }

    /// The candidate compares what it holds of the slots that it learns.
    pub(super) fn note_lesson(&mut self, from: NodeId, slots: &SlotSet, pull: u64, now: Now) {
        let Some(change) = &mut self.changes.active else {
            return;
        };
        let Phase::Learning { candidate, lesson } = &mut change.phase else {
            return;
        };
        if *candidate == from && change.slots == *slots && !lesson.note(pull) {
            self.pass_over(from, now);
        }
    }

    fn pass_over(&mut self, candidate: NodeId, now: Now) {
        self.counters.add("lessons_in_vain");
        self.changes.passed_over.add(candidate, now.mono);
        self.end_change(PAUSE, now);
    }

    fn on_promise(
        &mut self,
        from: NodeId,
        (id, ballot): (u64, Ballot),
        known: Vec<(SlotSet, Ballot, View)>,
        now: Now,
    ) {
        let quorum = self.quorum_of_change();
        let Some(change) = self.changes.active(id) else {
            return;
        };
        let Phase::Preparing { promised, accepted } = &mut change.phase else {
            return;
        };
        if change.ballot != ballot || !change.view.voters.contains(&from) {
            return;
        }
        promised.insert(from);
        for (slots, ballot, view) in known {
            if accepted.as_ref().is_none_or(|(best, _, _)| ballot > *best) {
                *accepted = Some((ballot, view, slots));
            }
        }
        if promised.len() < quorum {
            return;
        }
        // What a voter accepted may have been chosen: it is proposed again,
        // for its slots alone. The others are looked at afterwards.
        if let Some((_, view, slots)) = accepted.take() {
            change.next = view;
            change.slots = slots;
        }
        change.phase = Phase::Accepting(FlatSet::new());
        self.ask_change(now);
    }

    fn on_accepted(&mut self, from: NodeId, (id, ballot): (u64, Ballot), now: Now) {
        let quorum = self.quorum_of_change();
        let Some(change) = self.changes.active(id) else {
            return;
        };
        let Phase::Accepting(accepted) = &mut change.phase else {
            return;
        };
        if change.ballot != ballot || !change.view.voters.contains(&from) {
            return;
        }
        accepted.insert(from);
        if accepted.len() < quorum {
            return;
        }
        let (next, slots) = (change.next.clone(), change.slots.clone());
        let views: Vec<SlotView> = slots.runs(|first, last| SlotView {
            first,
            last,
            view: next.clone(),
        });
        self.counters.add("view_changes");
        self.learn_views(&views, now);
        for member in self.peers.alive().collect::<Vec<_>>() {
            let views = views.clone();
            let message = Message::View(ViewMessage::Chosen { views });
            self.send(member, Lane::Control, message);
        }
        self.end_change(Duration::ZERO, now);
    }

    /// Members are gone, or about to leave: a change that cannot succeed without them is
    /// given up, and one that has them learn, too.
    pub(super) fn stop_change(&mut self, gone: &[NodeId], now: Now) {
        let Some(change) = &self.changes.active else {
            return;
        };
        let is_gone = |id: &NodeId| change.phase.teaches(id);
        if !self.has_quorum(&change.view) || gone.iter().any(is_gone) {
            self.counters.add("view_changes_failed");
            self.end_change(PAUSE, now);
        }
    }

    fn quorum_of_change(&self) -> usize {
        let active = self.changes.active.as_ref();
        active.map_or(usize::MAX, |change| self.quorum(&change.view))
    }

    fn end_change(&mut self, pause: Duration, now: Now) {
        self.changes.active = None;
        let pause = if pause.is_zero() {
            pause
        } else {
            self.rng.jitter(pause)
        };
        self.changes.review_at = Some(now.mono + pause);
    }

    /// Something changed that may call for a change of views or copies.
    pub(super) fn review(&mut self, now: Now) {
        self.changes.review_at = Some(now.mono);
        self.schedule_pulls(now.mono);
    }

    /// Takes in views from elsewhere, and keeps what is newer.
    pub(super) fn learn_views(&mut self, views: &[SlotView], now: Now) -> bool {
        let mut before = FlatMap::new();
        for peer in self.views.co_voters() {
            before.insert(peer, self.views.views_shared_with(&peer));
        }
        let mut news = false;
        for view in views {
            news |= self.views.learn(view);
        }
        if !news {
            return false;
        }
        // One that stays, too, may lack a write of the view before: whoever
        // coordinated that waits for its vote no longer.
        for peer in self.views.co_voters() {
            if before.get(&peer) != Some(&self.views.views_shared_with(&peer)) {
                self.peers.set_behind(&peer);
                self.peers.set_agreed(&peer, false);
                self.pulls.forget(&peer);
            }
        }
        let co_voters = self.views.co_voters();
        self.horizons.forget(|known| !co_voters.contains(known));
        self.horizons.review(now.mono);
        if self.retirements.is_own() {
            self.hurry_hand_over(now.mono);
        } else {
            self.hand_overs.review(now.mono);
        }
        #[cfg(planted_bugs)]
        self.drop_before_taken();
        self.save_views(Vec::new());
        true
    }

    /// Tells a member all views, and asks for its own.
    pub(super) fn exchange_views(&mut self, peer: NodeId) {
        let (views, answer) = (self.views.known(), true);
        let message = Message::View(ViewMessage::Known { views, answer });
        self.send(peer, Lane::Control, message);
    }

    /// A restarted voter asks its fellows whether its views are the newest.
    pub(super) fn confirm_views(&mut self) {
        if self.views.is_unconfirmed() {
            for peer in self.views.co_voters() {
                if self.peers.is_alive(&peer) {
                    self.exchange_views(peer);
                }
            }
        }
    }
}

impl Phase {
    fn learning(candidate: NodeId) -> Self {
        let lesson = Lesson::default();
        Self::Learning { candidate, lesson }
    }

    fn teaches(&self, id: &NodeId) -> bool {
        matches!(self, Self::Learning { candidate, .. } if candidate == id)
    }

    fn preparing() -> Self {
        Self::Preparing {
            promised: FlatSet::new(),
            accepted: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kvs::fixture::{at, facts, id, voter};
    use crate::kvs::key::SLOT_COUNT;
    use crate::kvs::peers::Living;

    #[test]
    fn one_that_stays_for_the_next_view_has_to_compare_again() {
        let mut kvs = voter();
        assert!(kvs.peers.has_caught_up(&id(2)));
        let view = View {
            number: 4,
            voters: [id(1), id(2), id(4)].into(),
            previous: [id(1), id(2), id(3)].into(),
        };
        let (first, last) = (0, SLOT_COUNT - 1);
        assert!(kvs.learn_views(&[SlotView { first, last, view }], at(10)));
        assert!(!kvs.peers.has_caught_up(&id(2)));
    }
    #[test]
    fn one_that_begins_to_learn_again_and_again_is_passed_over() {
        let (mut kvs, learner) = teaching();
        assert!([id(4), id(5)].contains(&learner));
        let slots = kvs.changes.active.as_ref().unwrap().slots.clone();
        // However often it asks the same, it began once.
        for pull in [1, 2, 3, 4, 5, 5, 5] {
            kvs.note_lesson(learner, &slots, pull, at(4_020));
            assert_eq!(taught(&mut kvs), Some(learner), "{pull}");
        }
        kvs.note_lesson(learner, &slots, 6, at(4_020));
        assert_eq!(taught(&mut kvs), None);
        kvs.on_timeout(at(6_000));
        let other = taught(&mut kvs).expect("another candidate");
        assert_ne!(other, learner);
        // With nobody else there it is better than none.
        let living = [id(3), learner].map(|id| (id, Living::of(&facts())));
        kvs.set_members(living.into(), at(6_100));
        kvs.on_timeout(at(8_000));
        assert_eq!(taught(&mut kvs), Some(learner));
    }

    #[test]
    fn one_that_never_begins_to_learn_is_passed_over() {
        let (mut kvs, learner) = teaching();
        for millis in [4_510, 5_010, 5_510, 6_010, 6_510, 7_010, 7_510] {
            kvs.on_timeout(at(millis));
            assert_eq!(taught(&mut kvs), Some(learner), "{millis}");
        }
        kvs.on_timeout(at(8_010));
        assert_eq!(taught(&mut kvs), None);
        kvs.on_timeout(at(9_000));
        assert_ne!(taught(&mut kvs).expect("another"), learner);
    }

    #[test]
    fn one_that_is_about_to_leave_or_is_gone_is_not_waited_for() {
        let (mut kvs, learner) = teaching();
        kvs.on_retire(learner, at(4_020));
        kvs.on_timeout(at(5_000));
        let other = taught(&mut kvs).expect("another candidate");
        assert_ne!(other, learner);
        let living = [id(3), learner].map(|id| (id, Living::of(&facts())));
        kvs.set_members(living.into(), at(5_010));
        assert_ne!(taught(&mut kvs), Some(other));
    }

    /// One of three voters is gone, and the first of them has another learn.
    fn teaching() -> (Kvs, NodeId) {
        let mut kvs = voter();
        let living = [3, 4, 5].map(|seed| (id(seed), Living::of(&facts())));
        kvs.set_members(living.into(), at(10));
        kvs.on_timeout(at(10));
        kvs.on_timeout(at(4_010));
        let learner = taught(&mut kvs).expect("a candidate for the vote of who is gone");
        (kvs, learner)
    }

    fn taught(kvs: &mut Kvs) -> Option<NodeId> {
        match &kvs.changes.active.as_ref()?.phase {
            Phase::Learning { candidate, .. } => Some(*candidate),
            _ => None,
        }
    }
}
