//! The proposer's side of linearizable reads and writes.
//!
//! ```text
//! write: Prepare (ballot) -> Promised: the newest of a majority is what the
//!        condition is about -> Write -> Wrote by a majority: acknowledged
//! read:  Prepare (no ballot) -> Promised: if a majority holds the same version,
//!        that is the value; else it is written to a majority before. What is of an
//!        earlier view is written under a ballot of this one
//! ```
//!
//! The version that the caller's node gave a write is its ballot, and its name:
//! however often it is tried, at whatever coordinator, one ballot of one view
//! carries one value. Requests for one key take turns, so that coordinators
//! outrun one another only while two of them believe to be the first voter.

mod running;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

pub(super) use self::running::Registers;
use self::running::{Phase, Running, Task, is_early};
use super::Kvs;
use super::coordinator::Origin;
use super::entry::Entry;
use super::key::Key;
use super::message::{Message, Op, Outcome, Prepare, Vote, VoteError};
use super::request::{Copies, RequestError};
use super::version::Version;
use super::view::View;
use crate::event::Lane;
use crate::flat::{FlatMap, FlatSet};
use crate::id::NodeId;
use crate::time::Now;

/// How long a coordinator tries, from when a request's turn has come.
const DEADLINE: Duration = Duration::from_secs(4);
/// How often voters are asked again at least.
const LOOK: Duration = Duration::from_millis(500);
/// The pause before another ballot, doubled each time.
const PAUSE: Duration = Duration::from_millis(4);
/// Reads that found two versions, and could not write the newer one, take a
/// ballot after so many tries; at once where what they found is of an earlier view.
const TRIES_WITHOUT_BALLOT: u32 = 3;
/// Requests that wait for their turn at one key; a further one is refused.
const QUEUE_LEN_MAX: usize = 1024;

impl Kvs {
    /// Coordinates a linearizable request: at once, or after those before it.
    ///
    /// A version that this node's own clock does not believe is refused at once: a
    /// voter whose clock is wrong in the same way would promise it, and take nothing
    /// else until its time has come.
    pub(super) fn begin_register(&mut self, origin: Origin, op: Op, now: Now) {
        if let Op::Put { version, .. } = &op
            && !self.clock.observe(*version, now.unix_ms)
        {
            let unix_ms = now.unix_ms;
            return self.conclude(origin, Outcome::Ahead { unix_ms }, now);
        }
        let key = op.key().clone();
        if let Some(running) = self.registers.active.get_mut(&key) {
            if running.waiting.len() < QUEUE_LEN_MAX {
                return running.waiting.push_back((origin, op));
            }
            let busy = Outcome::Failed(RequestError::Busy);
            return self.conclude(origin, busy, now);
        }
        self.run_register(&key, Task::Request(origin, op), VecDeque::new(), now);
    }

    /// Ends what somebody began with a key, and left.
    pub(super) fn complete(&mut self, key: Key, now: Now) {
        if !self.registers.active.contains_key(&key) {
            self.run_register(&key, Task::Complete(None), VecDeque::new(), now);
        }
    }

    fn run_register(&mut self, key: &Key, task: Task, waiting: VecDeque<(Origin, Op)>, now: Now) {
        let running = Running {
            task,
            vote: 0,
            view: View::default(),
            phase: Phase::Pausing,
            refused: FlatSet::new(),
            sent: false,
            touched: false,
            keeps_last: false,
            tries: 0,
            asked: 0,
            resend_at: now.mono,
            deadline: now.mono + DEADLINE,
            waiting,
        };
        self.registers.active.insert(key.clone(), Box::new(running));
        self.try_register(key, now);
    }

    /// Begins a round, in the view of now.
    fn try_register(&mut self, key: &Key, now: Now) {
        let slot = key.slot();
        let vote = self.new_id();
        if self.views.serving(slot).is_none() {
            return self.leave_register(key, now);
        }
        let view = self.views.get(slot).view.clone();
        let fresh = self.clock.tick(now.unix_ms).marked(view.number);
        let Some(running) = self.registers.active.get_mut(key) else {
            return;
        };
        let ballot = match &running.task {
            Task::Request(_, Op::Put { version, .. }) => Some(version.marked(view.number)),
            Task::Request(_, Op::Get { .. }) if running.tries < TRIES_WITHOUT_BALLOT => None,
            _ => Some(fresh),
        };
        self.registers.by_vote.remove(&running.vote);
        self.registers.by_vote.insert(vote, key.clone());
        running.vote = vote;
        running.view = view;
        running.asked = 0;
        running.refused.clear();
        running.tries = running.tries.saturating_add(1);
        running.keeps_last = ballot.is_some_and(|ballot| {
            running.view.voters.len() > 1 && !self.clock.is_trusted(ballot, now.mono)
        });
        running.phase = Phase::Preparing {
            ballot,
            told: FlatMap::new(),
            best: None,
        };
        self.ask_register(key, now);
    }

    /// Sends the question of the phase to the voters that did not answer.
    fn ask_register(&mut self, key: &Key, now: Now) {
        let held = self.index.version(key);
        let own = self.own;
        let Some(running) = self.registers.active.get_mut(key) else {
            return;
        };
        let (id, view) = (running.vote, running.view.number);
        let need = running.view.majority();
        let voters = running.view.voters.iter().copied();
        let key = key.clone();
        let (targets, vote): (Vec<NodeId>, Vote) = match &running.phase {
            Phase::Pausing => return,
            Phase::Preparing { ballot, told, .. } => {
                let (ballot, have) = (*ballot, held);
                let vote = Vote::Prepare(Prepare {
                    id,
                    view,
                    key,
                    ballot,
                    have,
                });
                let early = running.keeps_last && told.len() + 1 < need;
                let waits = |id: &NodeId| told.contains_key(id) || (early && *id == own);
                (voters.filter(|id| !waits(id)).collect(), vote)
            }
            Phase::Writing { entry, wrote } => {
                let vote = Vote::Write {
                    id,
                    view,
                    key,
                    entry: entry.clone(),
                };
                // Of a clock that is wrong nothing is left here, if it is alone.
                let early = is_early(entry, wrote, need);
                let waits = |id: &NodeId| wrote.contains(id) || (early && *id == own);
                (voters.filter(|id| !waits(id)).collect(), vote)
            }
        };
        let slowest = targets.iter().map(|target| self.peers.timeout(target));
        let slowest = slowest.max().unwrap_or(LOOK);
        let factor = 2_u32.saturating_pow(running.asked.min(8));
        running.asked = running.asked.saturating_add(1);
        running.resend_at = now.mono + slowest * factor;
        for target in targets {
            let mut vote = vote.clone();
            // This node's own entry is wanted whole.
            if let Vote::Prepare(asked) = &mut vote
                && target == own
            {
                asked.have = Version::ZERO;
            }
            self.send(target, Lane::Kv, Message::Vote(vote));
        }
    }

    pub(super) fn on_promised(
        &mut self,
        from: NodeId,
        (id, view): (u64, u64),
        version: Version,
        newer: Option<Entry>,
        now: Now,
    ) {
        let own = self.own;
        let Some((key, running)) = self.registers.running(id) else {
            return;
        };
        if running.view.number != view || !running.view.voters.contains(&from) {
            return;
        }
        let need = running.view.majority();
        let Phase::Preparing { ballot, told, best } = &mut running.phase else {
            return;
        };
        told.insert(from, version);
        if let Some(ballot) = ballot.filter(|_| from != own) {
            self.clock.trust(ballot, now.mono);
        }
        let known = best.as_ref().map(|entry| entry.version);
        if let Some(entry) = newer.filter(|entry| Some(entry.version) > known) {
            *best = Some(entry);
        }
        if told.len() >= need && told.contains_key(&own) {
            return self.decide(&key, now);
        }
        let was_early = running.keeps_last && told.len() < need;
        if was_early && told.len() + 1 >= need {
            self.ask_register(&key, now);
        }
    }

    /// A majority has told what it holds.
    fn decide(&mut self, key: &Key, now: Now) {
        let Some(running) = self.registers.active.get_mut(key) else {
            return;
        };
        let Phase::Preparing { ballot, told, best } = &mut running.phase else {
            return;
        };
        let newest = told.values().copied().max().unwrap_or(Version::ZERO);
        let alike = told.values().filter(|version| **version == newest).count();
        // What an earlier view left behind may be one of two that were under way then:
        // promises end with their view, so that only a ballot of this one decides.
        let is_settled = newest.is_settled_in(running.view.number);
        let is_chosen = is_settled && alike >= running.view.majority();
        let best = best.take().filter(|entry| entry.version == newest);
        if best.is_none() && newest > Version::ZERO {
            return self.pause_register(key, now);
        }
        let value = best.as_ref().and_then(|entry| entry.value.clone());
        let expires = best.as_ref().and_then(|entry| entry.expires);
        let is_past = best.as_ref();
        let is_past = is_past.is_some_and(|entry| entry.is_past(&self.clock, now));
        let ballot = *ballot;
        match running.task.clone() {
            Task::Request(_, Op::Get { .. }) if is_chosen && !is_past => {
                let outcome = best.map_or(Outcome::Missing, found);
                self.end_register(key, outcome, now);
            }
            Task::Request(_, Op::Get { .. }) if ballot.is_none() && !is_settled => {
                running.tries = TRIES_WITHOUT_BALLOT;
                self.try_register(key, now);
            }
            Task::Request(_, Op::Get { .. }) | Task::Complete(_) => {
                let successor = if is_past { newest.expired() } else { newest };
                let entry = Entry {
                    version: ballot.unwrap_or(successor),
                    value: value.filter(|_| !is_past),
                    expires,
                };
                self.write_newest(key, (newest, entry), now);
            }
            Task::Request(origin, op) => {
                let Op::Put {
                    version, condition, ..
                } = &op
                else {
                    return;
                };
                let is_done = newest.is_marked() && newest.write() == version.write();
                if !is_done && newest.write() > version.write() {
                    return self.outrun(key, newest, now);
                }
                let current = best.filter(|entry| entry.value.is_some());
                let current = current.map(|entry| entry.version);
                let holds = condition.is_none_or(|condition| condition.holds(current) && !is_past);
                if is_done || holds {
                    return self.put_register(key, ballot, &op, now);
                }
                if is_chosen && !is_past {
                    let failed = RequestError::ConditionFailed { current };
                    return self.end_register(key, Outcome::Failed(failed), now);
                }
                running.task = Task::Complete(Some((origin, op)));
                self.pause_register(key, now);
            }
        }
    }

    /// Writes what is there, by its own name or under a ballot.
    ///
    /// A write is known again, when it is tried again, by its own version, or by a
    /// later one: an earlier name, of a clock that is behind, would hide it.
    fn write_newest(&mut self, key: &Key, (newest, entry): (Version, Entry), now: Now) {
        self.clock.observe(newest, now.unix_ms);
        if entry.version.write() < newest.write() {
            self.pause_register(key, now);
        } else {
            self.write_register(key, entry, now);
        }
    }

    fn put_register(&mut self, key: &Key, ballot: Option<Version>, op: &Op, now: Now) {
        let (Some(entry), Some(version)) = (op.entry(), ballot) else {
            return;
        };
        if let Some(running) = self.registers.active.get_mut(key) {
            running.sent = true;
        }
        self.write_register(key, Entry { version, ..entry }, now);
    }

    fn write_register(&mut self, key: &Key, entry: Entry, now: Now) {
        if let Some(running) = self.registers.active.get_mut(key) {
            let wrote = FlatSet::new();
            running.phase = Phase::Writing { entry, wrote };
            running.touched = true;
            running.asked = 0;
            running.refused.clear();
            self.ask_register(key, now);
        }
    }

    pub(super) fn on_register_wrote(&mut self, from: NodeId, (id, view): (u64, u64), now: Now) {
        let Some((key, running)) = self.registers.running(id) else {
            return;
        };
        if running.view.number != view || !running.view.voters.contains(&from) {
            return;
        }
        let need = running.view.majority();
        let Phase::Writing { entry, wrote } = &mut running.phase else {
            return;
        };
        let was_early = is_early(entry, wrote, need);
        wrote.insert(from);
        if wrote.len() < need {
            if was_early && !is_early(entry, wrote, need) {
                self.ask_register(&key, now);
            }
            return;
        }
        let (entry, wrote) = (entry.clone(), wrote.clone());
        let copies = Copies::counted(wrote.len(), running.view.voters.len());
        let version = entry.version;
        let outcome = match &running.task {
            Task::Request(_, Op::Put { .. }) => Outcome::Written { version, copies },
            // Lists and watches are never linearizable.
            Task::Request(_, Op::Get { .. } | Op::List(_) | Op::Watch(_)) => found(entry.clone()),
            Task::Complete(request) => match request.clone() {
                Some((origin, op)) => {
                    running.task = Task::Request(origin, op);
                    return self.pause_register(&key, now);
                }
                None => Outcome::Missing,
            },
        };
        let view = running.view.clone();
        self.registers.by_vote.remove(&id);
        self.end_register(&key, outcome, now);
        self.spread((id, key), view, (entry, wrote), now);
    }

    pub(super) fn on_register_refused(&mut self, from: NodeId, id: u64, why: VoteError, now: Now) {
        let Some((key, running)) = self.registers.running(id) else {
            return;
        };
        let is_put = matches!(running.task.op(), Some(Op::Put { .. }));
        // A later promise outruns this ballot, as what is held does.
        let why = match why {
            VoteError::Promised(version) => VoteError::Newer(version),
            why => why,
        };
        if let VoteError::Newer(version) = why {
            self.clock.observe(version, now.unix_ms);
        }
        let is_final = match why {
            VoteError::Newer(_) | VoteError::Full | VoteError::Failed => true,
            VoteError::Ahead { .. } => running.is_expiring(),
            VoteError::View(_) | VoteError::NotReady | VoteError::Promised(_) => false,
        };
        if is_final && running.can_do_without(from, self.own) {
            return;
        }
        match why {
            VoteError::Newer(version) if is_put => self.outrun(&key, version, now),
            VoteError::Ahead { unix_ms } if is_put && !running.sent => {
                self.end_register(&key, Outcome::Ahead { unix_ms }, now);
            }
            VoteError::Ahead { unix_ms } => {
                self.clock.turn_back(now, unix_ms);
                self.pause_register(&key, now);
            }
            VoteError::View(view) => {
                let newer = view.view.number > running.view.number;
                self.learn_views(&[view], now);
                if newer {
                    self.try_register(&key, now);
                } else {
                    self.exchange_views(from);
                }
            }
            VoteError::Full | VoteError::Failed if is_put => {
                let error = if running.sent {
                    RequestError::OutcomeUnknown
                } else {
                    RequestError::Full
                };
                self.end_register(&key, Outcome::Failed(error), now);
            }
            VoteError::Newer(_) | VoteError::Full | VoteError::Failed => {
                self.pause_register(&key, now);
            }
            VoteError::NotReady | VoteError::Promised(_) => {}
        }
    }

    /// A voter knows a later version than this write's. If no voter was sent
    /// its value, it was surely not applied.
    fn outrun(&mut self, key: &Key, version: Version, now: Now) {
        let Some(running) = self.registers.active.get(key) else {
            return;
        };
        let sent = running.sent;
        #[cfg(planted_bugs)]
        let sent = sent && !crate::planted::is("retry_applied_twice");
        let outcome = if sent {
            Outcome::Failed(RequestError::OutcomeUnknown)
        } else {
            Outcome::Newer(version)
        };
        self.end_register(key, outcome, now);
    }

    /// Tries again a little later.
    fn pause_register(&mut self, key: &Key, now: Now) {
        let Some(running) = self.registers.active.get_mut(key) else {
            return;
        };
        let factor = 2_u32.saturating_pow(running.tries.min(6));
        running.phase = Phase::Pausing;
        running.resend_at = now.mono + self.rng.jitter(PAUSE * factor);
    }

    /// This node does not serve the slot any more: others may finish it, and
    /// all that waits for its turn.
    fn leave_register(&mut self, key: &Key, now: Now) {
        let Some(running) = self.registers.active.get_mut(key) else {
            return;
        };
        let (perhaps, waiting) = (running.sent, core::mem::take(&mut running.waiting));
        self.end_register(key, Outcome::NotReady { perhaps }, now);
        for (origin, _) in waiting {
            self.conclude(origin, Outcome::NotReady { perhaps: false }, now);
        }
    }

    /// Answers, gives back what promises are of no use, and lets the next in.
    fn end_register(&mut self, key: &Key, outcome: Outcome, now: Now) {
        let Some(running) = self.registers.active.remove(key) else {
            return;
        };
        self.registers.by_vote.remove(&running.vote);
        let wrote = match &running.phase {
            Phase::Writing { wrote, .. } => wrote.clone(),
            Phase::Pausing | Phase::Preparing { .. } => FlatSet::new(),
        };
        if running.touched && wrote.len() < running.view.majority() {
            self.level(&running.view.voters, &wrote, now);
        }
        if let Phase::Preparing {
            ballot: Some(ballot),
            ..
        } = running.phase
            && !running.sent
        {
            for voter in running.view.voters {
                let key = key.clone();
                let vote = Vote::Release { key, ballot };
                self.send(voter, Lane::Kv, Message::Vote(vote));
            }
        }
        let (Task::Request(origin, _) | Task::Complete(Some((origin, _)))) = running.task else {
            return self.next_register(key, running.waiting, now);
        };
        self.conclude(origin, outcome, now);
        self.next_register(key, running.waiting, now);
    }

    fn next_register(&mut self, key: &Key, mut waiting: VecDeque<(Origin, Op)>, now: Now) {
        if self.registers.active.contains_key(key) {
            // A caller was quick to ask again: it waits behind the others.
            if let Some(running) = self.registers.active.get_mut(key) {
                waiting.append(&mut running.waiting);
                running.waiting = waiting;
            }
        } else if let Some((origin, op)) = waiting.pop_front() {
            self.run_register(key, Task::Request(origin, op), waiting, now);
        }
    }

    pub(super) fn on_register_timeout(&mut self, now: Now) {
        let due = self.registers.active.iter();
        let due = due.filter(|(_, one)| one.resend_at.min(one.deadline) <= now.mono);
        for key in due.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            let Some(running) = self.registers.active.get(&key) else {
                continue;
            };
            if running.deadline <= now.mono {
                let error = if running.sent {
                    RequestError::OutcomeUnknown
                } else {
                    self.unavailable(key.slot())
                };
                self.end_register(&key, Outcome::Failed(error), now);
            } else if matches!(running.phase, Phase::Pausing) {
                self.try_register(&key, now);
            } else {
                self.counters.add("vote_retries");
                let others = running.view.voters.iter().filter(|id| **id != self.own);
                for voter in others.copied().collect::<Vec<_>>() {
                    self.doubt(voter);
                }
                self.ask_register(&key, now);
            }
        }
    }
}

fn found(entry: Entry) -> Outcome {
    let version = entry.version;
    entry
        .value
        .map_or(Outcome::Missing, |value| Outcome::Found { value, version })
}

#[cfg(test)]
mod tests;
