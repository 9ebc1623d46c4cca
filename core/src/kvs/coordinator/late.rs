//! Voters that do not answer in time.

use alloc::vec::Vec;

use super::{Coordination, CoordinationId, Kvs, Mode, Outcome, RequestError, State};
use crate::event::Lane;
use crate::flat::FlatSet;
use crate::id::NodeId;
use crate::kvs::message::{Message, Pull};
use crate::time::Now;

impl Kvs {
    pub(in crate::kvs) fn on_coordinator_timeout(&mut self, now: Now) {
        let active = self.coordinations.active.iter();
        let late = active.clone().filter(|(_, one)| one.deadline <= now.mono);
        let late: Vec<CoordinationId> = late.map(|(id, _)| *id).collect();
        let due = active.filter(|(_, one)| one.resend_at <= now.mono);
        let due: Vec<CoordinationId> = due.map(|(id, _)| *id).collect();
        for id in late {
            self.on_late(id, now);
        }
        for id in due {
            if let Some(one) = self.coordinations.active.get(&id) {
                self.counters.add("vote_retries");
                let silent = one
                    .voters
                    .iter()
                    .filter(|voter| **voter != self.own && !one.voted.contains(*voter));
                for voter in silent.copied().collect::<Vec<_>>() {
                    self.doubt(voter);
                }
                self.ask_voters(id, now);
                self.need_less(id, now);
            }
        }
    }

    /// Goes on with fewer votes, if the voter that is missing is gone and this
    /// one serves alone meanwhile.
    fn need_less(&mut self, id: CoordinationId, now: Now) {
        let Some(one) = self.coordinations.active.get(&id) else {
            return;
        };
        let view = &self.views.get(one.slot).view;
        if view.number != one.view || one.op.mode() != Mode::Quorum {
            return;
        }
        let need = self.votes_needed(view, Mode::Quorum, now.mono);
        let own = self.own;
        if let Some(one) = self.coordinations.active.get_mut(&id)
            && need < one.need
        {
            one.need = need;
            match one.state {
                State::Write(_) if one.voted.contains(&own) => self.on_voted(id, own, now),
                State::Write(_) => self.keep_last(id, now),
                State::Read { .. } => self.finish_read(id, now),
                State::List { .. } => self.finish_list(id, now),
            }
        }
    }

    /// Time is over: voters that live but did not vote lack a write now.
    pub(super) fn on_late(&mut self, id: CoordinationId, now: Now) {
        let Some(one) = self.coordinations.active.remove(&id) else {
            return;
        };
        let State::Write(_) = one.state else {
            if let Some(origin) = one.origin {
                let error = self.unavailable(one.slot);
                self.conclude(origin, Outcome::Failed(error), now);
            }
            return;
        };
        self.leave(&one, now);
        let outcome = one.unwritten(RequestError::OutcomeUnknown);
        if let Some(origin) = one.origin {
            self.conclude(origin, outcome, now);
        }
    }

    /// A write ends that some voters may not have taken.
    pub(super) fn leave(&mut self, one: &Coordination, now: Now) {
        if !one.is_expiring() || one.voted.contains(&self.own) {
            self.level(&one.voters, &one.voted, now);
        }
    }

    /// Some voters took a write, others perhaps not: those are behind, this node
    /// perhaps, too.
    pub(in crate::kvs) fn level(&mut self, voters: &[NodeId], wrote: &FlatSet<NodeId>, now: Now) {
        #[cfg(planted_bugs)]
        if crate::planted::is("hint_dropped") {
            return;
        }
        let own = self.own;
        let own_lacks = voters.contains(&own) && !wrote.contains(&own);
        for voter in voters.iter().filter(|voter| **voter != own) {
            if own_lacks {
                self.pulls.forget(voter);
                self.pulls.review(now.mono);
            }
            if !wrote.contains(voter) && self.peers.is_alive(voter) {
                // One that is behind already is asked with the next review.
                if self.peers.has_caught_up(voter) {
                    self.send(*voter, Lane::Repair, Message::Pull(Pull::Please));
                }
                self.peers.set_behind(voter);
                self.pulls.review(now.mono);
            }
        }
    }
}
