//! Requests that this node coordinates.

mod beginning;
mod expiring;
mod late;
mod listing;
mod reading;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use super::Kvs;
use super::entry::Entry;
use super::key::{Key, Slot};
use super::list::{Held, List, ListVote};
use super::message::{Message, Op, Outcome, Vote, VoteError};
use super::request::{Copies, Mode, RequestError, RequestId};
use super::storage::{Pending, Then};
use super::version::Version;
use super::view::View;
use super::waits::{Asked, Question};
use crate::event::Lane;
use crate::flat::{FlatMap, FlatSet};
use crate::id::NodeId;
use crate::store::StoreError;
use crate::time::{Instant, Now};

/// How long a coordinator waits for votes.
const DEADLINE: Duration = Duration::from_secs(4);
/// How often it looks whether it can do without voters that are gone.
const LOOK: Duration = Duration::from_millis(500);
/// Requests coordinated at once. Beyond it writes that are acknowledged wait no
/// longer for the last voter, who pulls them instead; without one of those a
/// further request is refused as busy.
const COORDINATION_COUNT_MAX: usize = 8192;
/// Outcomes of writes remembered, in case they are asked for again; then the
/// oldest is forgotten.
const SERVED_COUNT_MAX: usize = 8192;

/// Names a request being coordinated; also the id of its votes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CoordinationId(pub(super) u64);

/// Who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    Own(RequestId),
    Peer {
        peer: NodeId,
        id: u64,
    },
    /// This node itself, which looks after expired records.
    Sweep,
}

/// All requests being coordinated, and what became of earlier ones.
#[derive(Debug, Default)]
pub(super) struct Coordinations {
    active: FlatMap<CoordinationId, Box<Coordination>>,
    /// Writes of other nodes: being coordinated, or done. A tree: it is full all the
    /// time where there is much to do, and every write adds one and removes one.
    served: BTreeMap<(NodeId, u64), Option<Outcome>>,
    served_order: VecDeque<(NodeId, u64)>,
}

#[derive(Debug)]
struct Coordination {
    origin: Option<Origin>,
    op: Op,
    slot: Slot,
    view: u64,
    voters: Vec<NodeId>,
    /// Voters that have voted, this node among them once it has.
    voted: FlatSet<NodeId>,
    /// Voters whose storage refused the write.
    full: FlatSet<NodeId>,
    /// Whether one of them, or an earlier try, may have kept it all the same.
    perhaps: bool,
    /// How many votes it takes.
    need: usize,
    /// Whether this node keeps it only when that is the last copy that is needed:
    /// of what the others refuse for their clocks nothing is left here.
    keeps_last: bool,
    state: State,
    /// How often the voters were asked, and who has not answered.
    rounds: u32,
    asked: Asked,
    resend_at: Instant,
    deadline: Instant,
}

#[derive(Debug)]
enum State {
    Write(Entry),
    Read {
        have: Version,
        /// This node's own entry, once storage gave it.
        own: Option<Option<Entry>>,
        newer: Option<Entry>,
    },
    List {
        list: List,
        /// What other voters hold together.
        told: Option<Held>,
    },
}

impl Coordinations {
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let times = self.active.values();
        times.map(|one| one.resend_at.min(one.deadline)).min()
    }

    /// The slots of writes that were acknowledged, and that a voter has not
    /// taken in time.
    pub(super) fn overdue(&self) -> impl Iterator<Item = Slot> {
        let writes = self.active.values().filter(|one| {
            one.origin.is_none() && one.rounds > 1 && matches!(one.state, State::Write(_))
        });
        writes.map(|one| one.slot)
    }

    /// Remembers how a write of another node ended.
    pub(super) fn served(&mut self, peer: NodeId, id: u64, outcome: &Outcome) {
        // Also that it was not applied: a question that comes twice must not
        // be carried out after its caller was told so.
        if let Some(entry) = self.served.get_mut(&(peer, id)) {
            *entry = Some(outcome.clone());
        }
    }

    fn begin_serving(&mut self, peer: NodeId, id: u64) {
        self.served.insert((peer, id), None);
        self.served_order.push_back((peer, id));
        if self.served_order.len() > SERVED_COUNT_MAX
            && let Some(oldest) = self.served_order.pop_front()
        {
            self.served.remove(&oldest);
        }
    }
}

impl Coordination {
    const fn question(&self) -> Question {
        match self.state {
            State::Write(_) => Question::WriteVote,
            State::Read { .. } => Question::ReadVote,
            State::List { .. } => Question::ListVote,
        }
    }

    /// Whether it is answered, and all voters that live have voted.
    fn is_done(&self, alive: impl Fn(&NodeId) -> bool) -> bool {
        let missing = |voter: &&NodeId| !self.voted.contains(*voter) && alive(voter);
        self.origin.is_none() && !self.voters.iter().any(|voter| missing(&voter))
    }
}

impl Kvs {
    /// Another node asks this one to coordinate.
    pub(super) fn on_ask(&mut self, peer: NodeId, id: u64, op: Op, now: Now) {
        let origin = Origin::Peer { peer, id };
        if op.is_write() {
            match self.coordinations.served.get(&(peer, id)) {
                Some(Some(outcome)) => {
                    let outcome = outcome.clone();
                    return self.send(peer, Lane::Kv, Message::Answer { id, outcome });
                }
                Some(None) => return,
                None => self.coordinations.begin_serving(peer, id),
            }
        }
        let slot = op.key().slot();
        let state = self.views.get(slot);
        let voter = state.view.voters.contains(&self.own);
        let mirror = op.mode() == Mode::One && self.mirrors(slot).contains(&self.own);
        let outcome = if self.views.serving(slot).is_some() || mirror {
            return self.coordinate(origin, op, now);
        } else if voter {
            Outcome::NotReady { perhaps: false }
        } else {
            Outcome::Moved(self.views.known_of(slot))
        };
        self.conclude(origin, outcome, now);
    }

    /// Coordinates a request; this node serves its slot, or mirrors it.
    pub(super) fn coordinate(&mut self, origin: Origin, op: Op, now: Now) {
        self.coordinate_until((now.mono + DEADLINE, false), origin, op, now);
    }

    /// The same, with a deadline, and whether an earlier try may come to light.
    fn coordinate_until(
        &mut self,
        (deadline, perhaps): (Instant, bool),
        origin: Origin,
        op: Op,
        now: Now,
    ) {
        if op.mode() == Mode::Linearizable {
            return self.begin_register(origin, op, now);
        }
        let op = match op {
            Op::Watch(watch) => match self.follow(origin, watch, now) {
                Some(watch) => Op::Watch(watch),
                None => return,
            },
            op => op,
        };
        if !self.make_room(now) {
            let outcome = Outcome::Failed(RequestError::Busy);
            return self.conclude(origin, outcome, now);
        }
        let slot = op.key().slot();
        let view = self.views.get(slot).view.clone();
        let need = self.votes_needed(&view, op.mode(), now.mono);
        #[cfg(planted_bugs)]
        let from_one = matches!(op, Op::List(_)) && crate::planted::is("list_from_one");
        #[cfg(planted_bugs)]
        let need = if from_one { 1 } else { need };
        if let Some(outcome) = self.hindrance(&op, (need, perhaps), now) {
            return self.conclude(origin, outcome, now);
        }
        let state = self.first_state(&op);
        let keeps_last = match &state {
            State::Write(entry) => !self.clock.is_trusted(entry.version, now.mono),
            State::Read { .. } | State::List { .. } => false,
        };
        let id = CoordinationId(self.new_id());
        let coordination = Coordination {
            origin: Some(origin),
            op,
            slot,
            view: view.number,
            voters: view.voters,
            voted: FlatSet::new(),
            full: FlatSet::new(),
            perhaps,
            need,
            keeps_last,
            state,
            rounds: 0,
            asked: Asked::default(),
            resend_at: deadline,
            deadline,
        };
        self.coordinations.active.insert(id, Box::new(coordination));
        self.begin(id, now);
    }

    fn begin(&mut self, id: CoordinationId, now: Now) {
        let Some(one) = self.coordinations.active.get(&id) else {
            return;
        };
        let key = one.op.key().clone();
        match &one.state {
            State::Write(_) if one.keeps_last => {
                self.ask_voters(id, now);
                self.keep_last(id, now);
            }
            State::Write(entry) => {
                let entry = entry.clone();
                self.ask_voters(id, now);
                self.keep(key, &entry, Then::OwnVote(id), now);
            }
            State::Read { .. } => {
                self.ask_voters(id, now);
                if self.index.get(&key).is_some_and(|meta| !meta.deleted) {
                    self.read(&key, Pending::OwnRead { coordination: id });
                } else {
                    self.on_own_read(id, Ok(None), now);
                }
            }
            State::List { .. } => {
                self.ask_voters(id, now);
                self.on_own_list(id, now);
            }
        }
    }

    /// Asks the voters that have not voted: all of them to write, and as many
    /// as it takes to read. Each time it waits twice as long: a voter whose
    /// disk is slow gets no slower by being asked.
    fn ask_voters(&mut self, id: CoordinationId, now: Now) {
        let Some(one) = self.coordinations.active.get_mut(&id) else {
            return;
        };
        let others = one.voters.iter().filter(|voter| {
            let answered = one.voted.contains(*voter) || one.full.contains(*voter);
            **voter != self.own && !answered && self.peers.is_alive(voter)
        });
        let enough = match &one.state {
            State::Write(_) => usize::MAX,
            State::Read { .. } | State::List { .. } => one.need - 1,
        };
        // Who was not asked yet goes first: whoever is slow is passed by.
        let others = others.enumerate();
        let others = others.map(|(nth, voter)| ((one.asked.place(voter), nth), *voter));
        let others: FlatMap<_, NodeId> = others.collect();
        let targets: Vec<NodeId> = others.into_values().take(enough).collect();
        let question = one.question();
        for target in &targets {
            one.asked.note(*target, now.mono);
        }
        let slowest = targets.iter();
        let slowest = slowest.map(|target| self.peers.patience(question, target));
        let slowest = slowest.max();
        let factor = 2_u32.saturating_pow(one.rounds.min(8));
        one.rounds = one.rounds.saturating_add(1);
        one.resend_at = now.mono + slowest.map_or(LOOK, |slowest| slowest * factor);
        let vote = one.vote(id);
        for target in targets {
            self.send(target, Lane::Kv, Message::Vote(vote.clone()));
        }
    }

    /// This node's own copy is durable, or could not be kept.
    pub(super) fn on_own_vote(
        &mut self,
        id: CoordinationId,
        kept: Result<(), StoreError>,
        now: Now,
    ) {
        let Some(one) = self.coordinations.active.get(&id) else {
            return;
        };
        if let Err(error) = kept {
            return self.on_storage_refused(id, self.own, error, now);
        }
        if one.op.mode() == Mode::Quorum && !self.votes_in(one.slot, one.view) {
            return self.restart(id, now);
        }
        self.on_voted(id, self.own, now);
    }

    /// A voter's copy is durable.
    pub(super) fn on_wrote(&mut self, from: NodeId, id: u64, view: u64, now: Now) {
        let id = CoordinationId(id);
        let one = self.coordinations.active.get_mut(&id);
        if let Some(one) = one.filter(|one| one.view == view && one.voters.contains(&from)) {
            if let Some(answer) = one.asked.take(&from, now.mono) {
                self.peers.on_answered(Question::WriteVote, from, answer);
            }
            if let State::Write(entry) = &one.state {
                self.clock.trust(entry.version, now.mono);
            }
            self.on_voted(id, from, now);
        }
    }

    fn on_voted(&mut self, id: CoordinationId, voter: NodeId, now: Now) {
        let Some(one) = self.coordinations.active.get_mut(&id) else {
            return;
        };
        let State::Write(entry) = &one.state else {
            return;
        };
        one.voted.insert(voter);
        let voted = one.voted.len();
        #[cfg(planted_bugs)]
        let voted = match crate::planted::is("reply_before_majority") {
            true => voted.max(one.need),
            false => voted,
        };
        let outcome = one.written(Outcome::Written {
            version: entry.version,
            copies: Copies::counted(voted, one.voters.len()),
        });
        let answer = one.origin.take_if(|_| voted >= one.need);
        let done = one.is_done(|voter| self.peers.is_alive(voter));
        #[cfg(planted_bugs)]
        let done = done || (voted >= one.need && crate::planted::is("hint_dropped"));
        if let Some(origin) = answer {
            self.conclude(origin, outcome, now);
        }
        self.keep_last(id, now);
        if done {
            self.coordinations.active.remove(&id);
        } else {
            self.end_refused(id, now);
        }
    }

    /// A linearizable write is chosen: the voters that do not hold it are
    /// asked, as after any other write.
    pub(super) fn spread(
        &mut self,
        (id, key): (u64, Key),
        view: View,
        (entry, voted): (Entry, FlatSet<NodeId>),
        now: Now,
    ) {
        let (slot, mode, condition) = (key.slot(), Mode::Quorum, None);
        let (version, value) = (entry.version, None);
        let coordination = Coordination {
            origin: None,
            op: Op::Put {
                key,
                value,
                mode,
                version,
                ttl: None,
                condition,
            },
            slot,
            view: view.number,
            need: view.majority(),
            keeps_last: false,
            voters: view.voters,
            voted,
            full: FlatSet::new(),
            perhaps: true,
            state: State::Write(entry),
            rounds: 1,
            asked: Asked::default(),
            resend_at: now.mono + LOOK,
            deadline: now.mono + DEADLINE,
        };
        if !coordination.is_done(|voter| self.peers.is_alive(voter)) && self.make_room(now) {
            let id = CoordinationId(id);
            self.coordinations.active.insert(id, Box::new(coordination));
        }
    }

    /// Voters are gone: what was acknowledged waits for them no longer. They
    /// pull it when they come back.
    pub(super) fn on_voters_gone(&mut self) {
        let alive = |voter: &NodeId| self.peers.is_alive(voter);
        let active = &mut self.coordinations.active;
        active.retain(|_, one| !one.is_done(alive));
    }

    /// Whether a further request can be coordinated; makes room by waiting no
    /// longer for the slowest voter of the oldest write that is acknowledged.
    fn make_room(&mut self, now: Now) -> bool {
        let active = &self.coordinations.active;
        if active.len() < COORDINATION_COUNT_MAX {
            return true;
        }
        let mut answered = active.iter().filter(|(_, one)| one.origin.is_none());
        let oldest = answered.next().map(|(id, _)| *id);
        if let Some(id) = oldest {
            self.on_late(id, now);
        }
        oldest.is_some()
    }

    pub(super) fn on_refused(&mut self, from: NodeId, id: u64, why: VoteError, now: Now) {
        let id = CoordinationId(id);
        let Some(one) = self.coordinations.active.get_mut(&id) else {
            return;
        };
        match why {
            VoteError::Newer(version) | VoteError::Promised(version)
                if one.is_expiring() && one.origin.is_some() =>
            {
                self.expire_again(id, version, now);
            }
            // It is acknowledged: asked again until the promise is kept or ended,
            // the voter takes it.
            VoteError::Promised(_) if one.origin.is_none() => {}
            VoteError::Ahead { unix_ms } if one.is_expiring() => {
                one.full.insert(from);
                self.on_too_early(id, unix_ms, now);
            }
            VoteError::Newer(version) | VoteError::Promised(version) => {
                // The caller's node raises its clock past what the voter
                // holds; unless the write was acknowledged, and lost to a
                // later one only.
                if let Some(origin) = one.origin.take() {
                    let ended = self.coordinations.active.remove(&id);
                    // What is held is somebody else's care, who brings all others
                    // level; a promise may come to nothing.
                    if let (Some(one), VoteError::Promised(_)) = (ended, &why) {
                        self.leave(&one, now);
                    }
                    self.conclude(origin, Outcome::Newer(version), now);
                } else {
                    self.on_voted(id, from, now);
                }
            }
            VoteError::View(view) => {
                let newer = view.view.number > one.view;
                self.learn_views(&[view], now);
                if newer {
                    self.restart(id, now);
                } else {
                    self.exchange_views(from);
                }
            }
            VoteError::NotReady => {}
            VoteError::Ahead { unix_ms } => {
                if let Some(origin) = one.origin.take() {
                    if let Some(one) = self.coordinations.active.remove(&id) {
                        self.leave(&one, now);
                    }
                    self.conclude(origin, Outcome::Ahead { unix_ms }, now);
                }
            }
            VoteError::Full => self.on_storage_refused(id, from, StoreError::Full, now),
            VoteError::Failed => self.on_storage_refused(id, from, StoreError::Failed, now),
        }
    }

    /// Begins again, in another view or with a newer version.
    fn restart(&mut self, id: CoordinationId, now: Now) {
        let Some(one) = self.coordinations.active.remove(&id) else {
            return;
        };
        let Some(origin) = one.origin else {
            return;
        };
        if one.deadline <= now.mono {
            let outcome = Outcome::Failed(RequestError::OutcomeUnknown);
            return self.conclude(origin, outcome, now);
        }
        self.counters.add("coordination_restarts");
        if self.views.serving(one.slot).is_some() {
            let perhaps = one.op.is_write();
            return self.coordinate_until((one.deadline, perhaps), origin, one.op, now);
        }
        // Sealed, or no voter any more: the caller finds the next one.
        let perhaps = one.op.is_write();
        self.conclude(origin, Outcome::NotReady { perhaps }, now);
    }

    /// A read that this node cannot serve: the caller asks another.
    fn give_back(&mut self, id: CoordinationId, now: Now) {
        if let Some(one) = self.coordinations.active.remove(&id)
            && let Some(origin) = one.origin
        {
            self.conclude(origin, Outcome::NotReady { perhaps: false }, now);
        }
    }

    /// A voter's storage refused a write. The others may be enough.
    fn on_storage_refused(
        &mut self,
        id: CoordinationId,
        voter: NodeId,
        error: StoreError,
        now: Now,
    ) {
        if let Some(one) = self.coordinations.active.get_mut(&id) {
            one.full.insert(voter);
            one.perhaps |= error == StoreError::Failed;
            self.end_refused(id, now);
        }
    }

    /// Ends a write that all voters answered, and too few took. It is surely not
    /// applied only if none was asked in vain, and all said that they are full.
    fn end_refused(&mut self, id: CoordinationId, now: Now) {
        let Some(one) = self.coordinations.active.get(&id) else {
            return;
        };
        let waits = one.voters.iter().any(|voter| {
            let answered = one.voted.contains(voter) || one.full.contains(voter);
            let is_own = *voter == self.own && one.is_kept_here(voter);
            !answered && (is_own || self.peers.is_alive(voter))
        });
        if waits || one.full.is_empty() || one.voted.len() >= one.need {
            return;
        }
        let nowhere = one.voters.iter().all(|voter| {
            let untouched = !one.voted.contains(voter) && one.asked.place(voter).is_none();
            untouched || one.full.contains(voter)
        });
        let error = match nowhere && !one.perhaps {
            true => RequestError::Full,
            false => RequestError::OutcomeUnknown,
        };
        let outcome = one.unwritten(error);
        if let Some(one) = self.coordinations.active.remove(&id) {
            if !nowhere {
                self.leave(&one, now);
            }
            if let Some(origin) = one.origin {
                self.conclude(origin, outcome, now);
            }
        }
    }
}

#[cfg(test)]
mod tests;
