//! Reads that this node coordinates: a majority says whether it holds anything
//! newer, and the newest is the answer.

use super::{CoordinationId, Entry, Kvs, Mode, Outcome, Question, State};
use crate::id::NodeId;
use crate::store::StoreError;
use crate::time::Now;

impl Kvs {
    /// Storage gave this node's own entry.
    pub(in crate::kvs) fn on_own_read(
        &mut self,
        id: CoordinationId,
        entry: Result<Option<Entry>, StoreError>,
        now: Now,
    ) {
        let Some(one) = self.coordinations.active.get_mut(&id) else {
            return;
        };
        let State::Read { own, .. } = &mut one.state else {
            return;
        };
        match entry {
            Ok(entry) => *own = Some(entry),
            // Another voter may be able to read.
            Err(_) => return self.give_back(id, now),
        }
        one.voted.insert(self.own);
        self.finish_read(id, now);
    }

    /// A voter said whether it holds anything newer.
    pub(in crate::kvs) fn on_read_done(
        &mut self,
        from: NodeId,
        (id, view): (u64, u64),
        entry: Option<Entry>,
        now: Now,
    ) {
        let id = CoordinationId(id);
        let Some(one) = self.coordinations.active.get_mut(&id) else {
            return;
        };
        if one.view != view || !one.voters.contains(&from) {
            return;
        }
        let key = one.op.key().clone();
        let State::Read { newer, .. } = &mut one.state else {
            return;
        };
        one.voted.insert(from);
        if let Some(answer) = one.asked.take(&from, now.mono) {
            self.peers.on_answered(Question::ReadVote, from, answer);
        }
        let best = newer.as_ref().map(|newer| newer.version);
        if let Some(entry) = entry.filter(|entry| Some(entry.version) > best) {
            *newer = Some(entry.clone());
            // Read repair: what this node lacked, it keeps.
            self.take_copy(key, &entry, now);
        }
        self.finish_read(id, now);
    }

    pub(super) fn finish_read(&mut self, id: CoordinationId, now: Now) {
        let Some(one) = self.coordinations.active.get(&id) else {
            return;
        };
        let State::Read { own: Some(_), .. } = &one.state else {
            return;
        };
        if one.voted.len() < one.need {
            return;
        }
        let Some(mut one) = self.coordinations.active.remove(&id) else {
            return;
        };
        let State::Read { own, newer, .. } = &mut one.state else {
            return;
        };
        let newest = [own.take().flatten(), newer.take()].into_iter().flatten();
        let newest = newest.max_by_key(|entry| entry.version);
        let expired = newest.as_ref();
        let expired = expired.filter(|entry| entry.is_past(&self.clock, now));
        let alone = one.op.mode() == Mode::One;
        #[cfg(planted_bugs)]
        let alone = alone || crate::planted::is("expires_by_local_clock");
        if let Some(dead) = expired.filter(|_| !alone) {
            return self.expire(*one, dead, now);
        }
        // By this node's clock alone: mode `one` promises no more.
        let outcome = match newest.filter(|entry| !entry.is_past(&self.clock, now)) {
            Some(Entry {
                version,
                value: Some(value),
                ..
            }) => Outcome::Found { value, version },
            Some(Entry { value: None, .. }) | None => Outcome::Missing,
        };
        if let Some(origin) = one.origin.take() {
            self.conclude(origin, outcome, now);
        }
    }
}
