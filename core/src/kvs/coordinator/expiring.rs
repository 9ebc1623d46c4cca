//! Reads that find a record expired: a majority keeps its tombstone before the
//! answer is that there is nothing.
//!
//! The others are asked first. This node keeps the tombstone only when with it
//! there are enough: of a clock that is wrong nothing is left behind. So it is with
//! a write, until others have shown by taking one that they believe this clock.

use alloc::boxed::Box;

use super::{Asked, CoordinationId, Kvs, Outcome, RequestError, State};
use super::{Coordination, Entry, Mode, Op, Then};
use crate::id::NodeId;
use crate::kvs::message::VoteError;
use crate::kvs::version::Version;
use crate::time::Now;

impl Coordination {
    /// Whether it asks voters to keep the tombstone of an expired record.
    pub(super) const fn is_expiring(&self) -> bool {
        matches!((&self.op, &self.state), (Op::Get { .. }, State::Write(_)))
    }

    /// Whether this node keeps it, or was to.
    pub(super) fn is_kept_here(&self, own: &NodeId) -> bool {
        !self.keeps_last || self.asked.place(own).is_some()
    }

    /// What there is to answer when enough voters have it.
    pub(super) fn written(&self, written: Outcome) -> Outcome {
        match self.op {
            Op::Get { .. } => Outcome::Missing,
            Op::Put { .. } | Op::List(_) | Op::Watch(_) => written,
        }
    }

    /// What there is to answer when voters were asked in vain to keep
    /// something.
    pub(super) fn unwritten(&self, error: RequestError) -> Outcome {
        let read = matches!(self.op, Op::Get { .. });
        Outcome::Failed(match error {
            RequestError::OutcomeUnknown if read => RequestError::Unavailable {
                missing: super::Vec::new(),
            },
            error => error,
        })
    }
}

impl Kvs {
    /// A read is done, and the newest entry has expired.
    pub(super) fn expire(&mut self, mut one: Coordination, dead: &Entry, now: Now) {
        if dead.version.is_marked() {
            return self.read_by_register(one, now);
        }
        one.state = State::Write(Entry {
            version: dead.version.expired(),
            value: None,
            expires: dead.expires,
        });
        one.voted.clear();
        one.full.clear();
        one.keeps_last = true;
        one.asked = Asked::default();
        one.rounds = 0;
        let id = CoordinationId(self.new_id());
        self.coordinations.active.insert(id, Box::new(one));
        self.ask_voters(id, now);
        self.keep_last(id, now);
    }

    /// Keeps an entry here, if it waits to be the last copy that is needed.
    pub(super) fn keep_last(&mut self, id: CoordinationId, now: Now) {
        let own = self.own;
        let Some(one) = self.coordinations.active.get_mut(&id) else {
            return;
        };
        let State::Write(entry) = &one.state else {
            return;
        };
        let is_asked = one.asked.place(&own).is_some() || one.voted.contains(&own);
        if !one.keeps_last || is_asked || one.voted.len() + 1 < one.need {
            return;
        }
        let (key, entry) = (one.op.key().clone(), entry.clone());
        one.asked.note(own, now.mono);
        let held = self.index.version(&key).max(self.promised(&key));
        if held > entry.version {
            return self.on_refused(own, id.0, VoteError::Newer(held), now);
        }
        // All voters may have taken it, and collected it, since it was asked for.
        if let Some(fence) = self.fence_of(&key, &entry) {
            return self.on_refused(own, id.0, VoteError::Newer(fence), now);
        }
        self.keep(key, &entry, Then::OwnVote(id), now);
    }

    /// A voter knows something newer than what has expired.
    pub(super) fn expire_again(&mut self, id: CoordinationId, newer: Version, now: Now) {
        if !newer.is_marked() {
            return self.restart(id, now);
        }
        if let Some(one) = self.coordinations.active.remove(&id) {
            self.read_by_register(*one, now);
        }
    }

    /// What a linearizable write has marked is the register's.
    fn read_by_register(&mut self, one: Coordination, now: Now) {
        let mode = Mode::Linearizable;
        if let (Some(origin), Op::Get { key, .. }) = (one.origin, one.op) {
            self.begin_register(origin, Op::Get { key, mode }, now);
        }
    }

    /// A voter's clock says that the record lives. If this one's is alone, it
    /// follows.
    pub(super) fn on_too_early(&mut self, id: CoordinationId, unix_ms: u64, now: Now) {
        let Some(one) = self.coordinations.active.get(&id) else {
            return;
        };
        if one.voters.len() - one.full.len() < one.need {
            self.clock.turn_back(now, unix_ms);
            self.restart(id, now);
        }
    }
}
