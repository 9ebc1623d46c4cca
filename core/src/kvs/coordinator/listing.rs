//! Lists that this node coordinates: a majority says what it holds of the page.

use super::{CoordinationId, Held, Kvs, Mode, Op, Outcome, Question, State};
use crate::id::NodeId;
use crate::time::Now;

impl Kvs {
    /// This node's own part is looked up when that of the others is here.
    pub(super) fn on_own_list(&mut self, id: CoordinationId, now: Now) {
        if let Some(one) = self.coordinations.active.get_mut(&id) {
            one.voted.insert(self.own);
            self.finish_list(id, now);
        }
    }

    /// A voter said what it holds.
    pub(in crate::kvs) fn on_list_told(
        &mut self,
        from: NodeId,
        (id, view): (u64, u64),
        held: Held,
        now: Now,
    ) {
        let id = CoordinationId(id);
        let Some(one) = self.coordinations.active.get_mut(&id) else {
            return;
        };
        let State::List { list, told } = &mut one.state else {
            return;
        };
        if one.view != view || !one.voters.contains(&from) {
            return;
        }
        if !held.is_of(list) {
            return self.counters.add("kvs_malformed");
        }
        *told = Some(match told.take() {
            Some(others) => others.merge(held),
            None => held,
        });
        one.voted.insert(from);
        if let Some(answer) = one.asked.take(&from, now.mono) {
            self.peers.on_answered(Question::ListVote, from, answer);
        }
        self.finish_list(id, now);
    }

    pub(super) fn finish_list(&mut self, id: CoordinationId, now: Now) {
        let Some(one) = self.coordinations.active.get_mut(&id) else {
            return;
        };
        let State::List { list, told } = &mut one.state else {
            return;
        };
        if one.voted.len() < one.need {
            return;
        }
        let (slot, view, is_vote) = (one.slot, one.view, one.op.mode() == Mode::Quorum);
        let (list, told) = (list.clone(), told.take());
        if is_vote && !self.votes_in(slot, view) {
            return self.restart(id, now);
        }
        let held = Held::gather(&list, self.index.bucket(&list));
        let held = match told {
            Some(others) => held.merge(others),
            None => held,
        };
        let page = held.page(&list);
        let Some(one) = self.coordinations.active.remove(&id) else {
            return;
        };
        let outcome = match one.op {
            Op::Watch(watch) => self.first_news(watch, page),
            _ => Outcome::Listed(page),
        };
        if let Some(origin) = one.origin {
            self.conclude(origin, outcome, now);
        }
    }
}
