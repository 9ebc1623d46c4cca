//! How a request that this node coordinates begins.

use super::{
    Coordination, CoordinationId, Kvs, ListVote, Mode, Op, Outcome, RequestError, State, Vote,
};
use crate::id::NodeId;
use crate::kvs::version::Version;
use crate::time::Now;

impl Kvs {
    /// Why a request cannot be coordinated, if it cannot.
    pub(super) fn hindrance(
        &mut self,
        op: &Op,
        (need, perhaps): (usize, bool),
        now: Now,
    ) -> Option<Outcome> {
        let slot = op.key().slot();
        let voters = self.views.get(slot).view.voters.iter();
        let alive = |voter: &&NodeId| **voter == self.own || self.peers.is_alive(voter);
        if voters.filter(alive).count() < need && op.mode() == Mode::Quorum {
            return Some(Outcome::Failed(if perhaps {
                RequestError::OutcomeUnknown
            } else {
                self.unavailable(slot)
            }));
        }
        let Op::Put { key, version, .. } = op else {
            return None;
        };
        let held = self.index.version(key).max(self.promised(key));
        if !self.clock.observe(*version, now.unix_ms) {
            let unix_ms = now.unix_ms;
            return Some(Outcome::Ahead { unix_ms });
        }
        if held > *version {
            return Some(Outcome::Newer(held));
        }
        if let Some(fence) = self.fence(key, *version) {
            return Some(Outcome::Newer(fence));
        }
        let marked = op.mode() == Mode::Quorum && self.may_be_marked(key);
        marked.then_some(Outcome::Newer(Version::ZERO.marked(1)))
    }

    pub(super) fn first_state(&self, op: &Op) -> State {
        match (op, op.entry()) {
            (_, Some(entry)) => State::Write(entry),
            (Op::List(list), None) => State::List {
                list: list.clone(),
                told: None,
            },
            (Op::Watch(watch), None) => State::List {
                list: watch.page(),
                told: None,
            },
            (Op::Get { key, .. } | Op::Put { key, .. }, None) => State::Read {
                have: self.index.version(key),
                own: None,
                newer: None,
            },
        }
    }
}

impl Coordination {
    /// What voters are asked.
    pub(super) fn vote(&self, id: CoordinationId) -> Vote {
        let (id, view, key) = (id.0, self.view, self.op.key().clone());
        match &self.state {
            State::Write(entry) => Vote::Write {
                id,
                view,
                key,
                entry: entry.clone(),
            },
            State::Read { have, .. } => {
                let have = *have;
                Vote::Read {
                    id,
                    view,
                    key,
                    have,
                }
            }
            State::List { list, .. } => {
                let list = list.clone();
                Vote::List(ListVote::Ask { id, view, list })
            }
        }
    }
}
