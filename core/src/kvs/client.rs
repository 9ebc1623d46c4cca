//! Requests of this node's own callers, on their way to a coordinator.
//!
//! A request goes to the first live voter of its slot; when that one dies or
//! does not serve the slot, to the next. A write has the version that this
//! node gave it, whoever coordinates it: two coordinators at one write cannot
//! apply it twice, and none can apply it again after it was acknowledged.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use super::coordinator::Origin;
use super::key::VALUE_LEN_MAX;
use super::message::{Message, Op, Outcome};
use super::request::{Mode, Reply, RequestError, RequestId};
use super::version::Version;
use super::waits::{Asked, Question};
use super::watch::HOLD;
use super::{Kvs, KvsAction};
use crate::event::Lane;
use crate::flat::{FlatMap, FlatSet};
use crate::id::NodeId;
use crate::status::Class;
use crate::time::{Instant, Now};

/// Requests under way at once; a further one is refused as busy.
const REQUEST_COUNT_MAX: usize = 4096;
/// How long a request may take in all.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long a watch may: it is held where there is nothing to tell.
const WATCH_DEADLINE: Duration = Duration::from_secs(15);
/// How long it is held at most, and a little more.
const HELD: Duration = HOLD.saturating_add(Duration::from_secs(2));
/// How long a write that met a newer version waits before it is stamped again,
/// at first and at most; doubled each time, and never twice the same: writers of
/// one key that began again at once would outrun one another for ever.
const STAMP_MIN: Duration = Duration::from_millis(1);
const STAMP_MAX: Duration = Duration::from_millis(256);
/// How long a request waits for a voter while all are away: a node that has
/// just started, or was frozen, finds them a moment later.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often the time until the next question is doubled.
const DOUBLED_MAX: u32 = 2;
/// How long to wait when no voter is ready.
const PAUSE: Duration = Duration::from_millis(30);
const WATCH_PAUSE: Duration = Duration::from_millis(500);

/// All requests under way.
#[derive(Debug, Default)]
pub(super) struct Clients {
    requests: FlatMap<RequestId, Box<Request>>,
    by_message: FlatMap<u64, RequestId>,
}

#[derive(Debug)]
struct Request {
    op: Op,
    /// The id of the message, the same for every try at one coordinator.
    message: u64,
    /// The coordinator that was asked last.
    target: Option<NodeId>,
    /// All that were asked and have not answered: of a read any answer will do.
    asked: Asked,
    /// Coordinators that could not.
    tried: FlatSet<NodeId>,
    /// Whether some coordinator may have applied it.
    perhaps: bool,
    /// How often it met a newer version.
    outrun: u32,
    /// Whether some coordinator, perhaps this node, is at it.
    in_hand: bool,
    retry_at: Instant,
    /// Until when it waits for voters that are away.
    patient_until: Instant,
    deadline: Instant,
}

impl Request {
    /// How long it waits when no voter is ready: there may be many watches, and
    /// they wait for long.
    const fn pause(&self) -> Duration {
        match self.op {
            Op::Watch(_) => WATCH_PAUSE,
            _ => PAUSE,
        }
    }

    /// What it is, if it is answered as soon as it can be.
    const fn question(&self) -> Option<Question> {
        Some(match (&self.op, self.op.mode()) {
            (Op::Watch(_), _) => return None,
            (Op::Get { .. }, Mode::One) => Question::GetOne,
            (Op::Get { .. }, Mode::Quorum) => Question::Get,
            (Op::Put { .. }, Mode::One) => Question::PutOne,
            (Op::Put { .. }, Mode::Quorum) => Question::Put,
            (Op::List(_), _) => Question::List,
            (_, Mode::Linearizable) => Question::Linearizable,
        })
    }
}

impl Clients {
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let times = self.requests.values();
        times
            .map(|request| request.retry_at.min(request.deadline))
            .min()
    }

    /// Views are known that were not: who waits for one waits no longer.
    pub(super) fn hurry(&mut self, now: Instant) {
        let waiting = self.requests.values_mut();
        for request in waiting.filter(|request| request.target.is_none() && !request.in_hand) {
            request.retry_at = request.retry_at.min(now);
        }
    }

    fn remove(&mut self, id: RequestId) -> Option<Request> {
        let request = self.requests.remove(&id)?;
        self.by_message.remove(&request.message);
        Some(*request)
    }
}

impl Kvs {
    pub(super) fn start_request(&mut self, id: RequestId, op: Op, now: Now) {
        if let Op::Put {
            value: Some(value), ..
        } = &op
            && value.len() > VALUE_LEN_MAX
        {
            return self.reply(id, Reply::Failed(RequestError::TooLarge));
        }
        if self.clients.requests.len() >= REQUEST_COUNT_MAX {
            return self.reply(id, Reply::Failed(RequestError::Busy));
        }
        let message = self.new_id();
        let deadline = match op {
            Op::Watch(_) => now.mono + WATCH_DEADLINE,
            _ => now.mono + DEADLINE,
        };
        let request = Request {
            op,
            message,
            target: None,
            asked: Asked::default(),
            tried: FlatSet::new(),
            perhaps: false,
            outrun: 0,
            in_hand: false,
            retry_at: deadline,
            patient_until: now.mono + PATIENCE,
            deadline,
        };
        self.clients.requests.insert(id, Box::new(request));
        self.clients.by_message.insert(message, id);
        self.try_request(id, now);
    }

    /// Chooses a coordinator and hands the request to it.
    fn try_request(&mut self, id: RequestId, now: Now) {
        let Some(request) = self.clients.requests.get(&id) else {
            return;
        };
        let op = request.op.clone();
        let slot = op.key().slot();
        if self.views.serving(slot).is_some() {
            return self.coordinate_own(id, op, now);
        }
        if op.mode() == Mode::One && self.try_mirror(id, &op, now) {
            return;
        }
        let Some(request) = self.clients.requests.get_mut(&id) else {
            return;
        };
        let voters = self.views.get(slot).view.voters.iter();
        let alive: Vec<NodeId> = voters
            .filter(|voter| **voter != self.own && self.peers.is_alive(voter))
            .copied()
            .collect();
        let mut next = alive.iter().find(|voter| !request.tried.contains(*voter));
        if next.is_none() && !alive.is_empty() {
            // All were tried: a pause, then from the front again.
            request.tried.clear();
            if request.target.take().is_some() {
                request.retry_at = now.mono + request.pause();
                return;
            }
            next = alive.first();
        }
        let Some(target) = next.copied() else {
            return self.no_voter(id, now);
        };
        request.in_hand = true;
        self.ask(id, target, now);
    }

    /// Asks a coordinator, the same one again perhaps: it knows the message.
    fn ask(&mut self, id: RequestId, target: NodeId, now: Now) {
        let Some(request) = self.clients.requests.get_mut(&id) else {
            return;
        };
        let patience = match request.question() {
            Some(question) => self.peers.patience(question, &target),
            None => HELD + self.peers.timeout(&target),
        };
        let factor = 2_u32.pow(request.asked.count().min(DOUBLED_MAX));
        request.target = Some(target);
        request.asked.note(target, now.mono);
        request.retry_at = now.mono + patience * factor;
        let (id, op) = (request.message, request.op.clone());
        self.send(target, Lane::Kv, Message::Ask { id, op });
    }

    /// A mirror serves mode `one` from its own copy; without a live voter it
    /// takes writes, too. What it lacks another may have, for it may be a
    /// mirror since this moment.
    fn try_mirror(&mut self, id: RequestId, op: &Op, now: Now) -> bool {
        let slot = op.key().slot();
        let mirrors = self.mirrors(slot);
        if self.class != Class::Transient || !mirrors.contains(&self.own) {
            return false;
        }
        let mut voters = self.views.get(slot).view.voters.iter();
        let voter_lives = voters.any(|voter| self.peers.is_alive(voter));
        let request = self.clients.requests.get(&id);
        let untried = |id: NodeId| request.is_some_and(|request| !request.tried.contains(&id));
        let mut others = mirrors.iter().filter(|id| self.peers.is_alive(id));
        let alone = !voter_lives && !others.any(untried);
        let own_part = match op {
            Op::Get { key, .. } => alone || self.index.get(key).is_some(),
            Op::List(list) => alone || self.index.bucket(list).next().is_some(),
            Op::Put { .. } => !voter_lives,
            Op::Watch(_) => false,
        };
        if own_part {
            self.coordinate_own(id, op.clone(), now);
        }
        own_part
    }

    fn coordinate_own(&mut self, id: RequestId, op: Op, now: Now) {
        if let Some(request) = self.clients.requests.get_mut(&id) {
            request.target = None;
            request.in_hand = true;
            request.retry_at = request.deadline;
        }
        self.coordinate(Origin::Own(id), op, now);
    }

    fn no_voter(&mut self, id: RequestId, now: Now) {
        let Some(request) = self.clients.requests.get(&id) else {
            return;
        };
        let slot = request.op.key().slot();
        let mirrors = self.mirrors(slot);
        let mirror = mirrors
            .iter()
            .find(|mirror| !request.tried.contains(mirror) && self.peers.is_alive(mirror))
            .filter(|_| request.op.mode() == Mode::One);
        let voters = &self.views.get(slot).view.voters;
        let known = !voters.is_empty() && !voters.contains(&self.own);
        let Some(request) = self.clients.requests.get_mut(&id) else {
            return;
        };
        request.target = None;
        request.in_hand = mirror.is_some();
        if let Some(mirror) = mirror {
            self.ask(id, mirror, now);
        } else if known && request.patient_until <= now.mono {
            self.fail(id);
        } else {
            // Views or members may still be on their way, or be settled here.
            request.retry_at = now.mono + request.pause();
        }
    }

    pub(super) fn on_answer(&mut self, from: NodeId, id: u64, outcome: Outcome, now: Now) {
        let Some(id) = self.clients.by_message.get(&id).copied() else {
            return;
        };
        let Some(request) = self.clients.requests.get_mut(&id) else {
            return;
        };
        let Some(answer) = request.asked.take(&from, now.mono) else {
            return;
        };
        let is_read = !request.op.is_write();
        let is_read_done = outcome.is_read();
        let is_done = is_read_done || matches!(outcome, Outcome::Written { .. });
        if let Some(question) = request.question().filter(|_| is_done) {
            self.peers.on_answered(question, from, answer);
        }
        if request.target != Some(from) && !(is_read && is_read_done) {
            request.tried.insert(from);
            return;
        }
        let could_not = matches!(outcome, Outcome::NotReady { .. } | Outcome::Failed(_));
        if let Some(other) = request.asked.last().filter(|_| is_read && could_not) {
            request.tried.insert(from);
            request.target = Some(other);
            return;
        }
        match outcome {
            Outcome::Found { value, version } => {
                self.finish(id, Reply::Found { value, version });
            }
            Outcome::Missing => self.finish(id, Reply::Missing),
            Outcome::Listed(page) => self.finish(id, Reply::Listed(page)),
            Outcome::Watched(news) => self.finish(id, Reply::Watched(news)),
            Outcome::Written { version, copies } => {
                self.clock.observe(version, now.unix_ms);
                self.finish(id, Reply::Written { version, copies });
            }
            Outcome::Failed(error) => self.finish_failed(id, error),
            Outcome::Newer(version) => self.on_newer(id, version, now),
            Outcome::Ahead { unix_ms } => {
                self.clock.turn_back(now, unix_ms);
                self.stamp_again(id, now);
            }
            Outcome::Moved(view) => {
                request.tried.insert(from);
                request.in_hand = false;
                self.learn_views(&[view], now);
                self.name_anew(id);
                self.try_request(id, now);
            }
            Outcome::NotReady { perhaps } => {
                request.tried.insert(from);
                request.in_hand = false;
                request.perhaps |= perhaps;
                self.name_anew(id);
                self.try_request(id, now);
            }
        }
    }

    /// A write that a coordinator gave back is another question to it, should
    /// it be asked again: it answers the same one as before.
    fn name_anew(&mut self, id: RequestId) {
        let message = self.new_id();
        let request = self.clients.requests.get_mut(&id);
        if let Some(request) = request.filter(|request| request.op.is_write()) {
            self.clients.by_message.remove(&request.message);
            self.clients.by_message.insert(message, id);
            request.message = message;
        }
    }

    /// A node is gone: what it had in hand goes to the next.
    pub(super) fn requeue_requests(&mut self, gone: &NodeId, now: Now) {
        let mut left = Vec::new();
        for (id, request) in &mut self.clients.requests {
            request.asked.take(gone, now.mono);
            if request.target == Some(*gone) {
                request.perhaps |= request.op.is_write();
                request.target = request.asked.last().filter(|_| !request.op.is_write());
                left.extend(request.target.is_none().then_some(*id));
            }
        }
        for id in left {
            self.try_request(id, now);
        }
    }

    pub(super) fn on_client_timeout(&mut self, now: Now) {
        let due =
            self.clients.requests.iter().filter(|(_, request)| {
                request.retry_at <= now.mono || request.deadline <= now.mono
            });
        for id in due.map(|(id, _)| *id).collect::<Vec<_>>() {
            let Some(request) = self.clients.requests.get_mut(&id) else {
                continue;
            };
            if request.deadline <= now.mono {
                request.perhaps |= request.in_hand && request.op.is_write();
                self.fail(id);
            } else if let Some(target) = request.target {
                self.counters.add("request_retries");
                request.perhaps |= request.op.is_write();
                self.doubt(target);
                let next = self.other_coordinator(id).unwrap_or(target);
                self.ask(id, next, now);
            } else {
                self.try_request(id, now);
            }
        }
    }

    /// Who is asked beside a coordinator that does not answer a read: its
    /// message may be lost, or it is dead. A write waits for the one that has it
    /// in hand, and asks that again; a watch, too, whose token means nothing to
    /// another.
    fn other_coordinator(&self, id: RequestId) -> Option<NodeId> {
        let request = self.clients.requests.get(&id)?;
        if request.op.is_write() || matches!(request.op, Op::Watch(_)) {
            return None;
        }
        let voters = &self.views.get(request.op.key().slot()).view.voters;
        let mut fresh = voters.iter().filter(|id| {
            **id != self.own
                && self.peers.is_alive(id)
                && !request.tried.contains(*id)
                && request.asked.place(id).is_none()
        });
        fresh.next().copied().or_else(|| request.asked.first())
    }

    fn fail(&mut self, id: RequestId) {
        let Some(request) = self.clients.requests.get(&id) else {
            return;
        };
        let error = self.unavailable(request.op.key().slot());
        self.finish_failed(id, error);
    }

    pub(super) fn unavailable(&self, slot: super::Slot) -> RequestError {
        let voters = self.views.get(slot).view.voters.iter();
        let missing = voters.filter(|voter| **voter != self.own && !self.peers.is_alive(voter));
        RequestError::Unavailable {
            missing: missing.copied().collect(),
        }
    }

    /// Tells the origin of a request how it ended.
    pub(super) fn conclude(&mut self, origin: Origin, outcome: Outcome, now: Now) {
        match origin {
            Origin::Own(id) => self.conclude_own(id, outcome, now),
            Origin::Peer { peer, id } => {
                self.coordinations.served(peer, id, &outcome);
                self.send(peer, Lane::Kv, Message::Answer { id, outcome });
            }
            Origin::Sweep => self.sweeper.ended(now.mono),
        }
    }

    fn conclude_own(&mut self, id: RequestId, outcome: Outcome, now: Now) {
        let reply = match outcome {
            Outcome::Found { value, version } => Reply::Found { value, version },
            Outcome::Missing => Reply::Missing,
            Outcome::Listed(page) => Reply::Listed(page),
            Outcome::Watched(news) => Reply::Watched(news),
            Outcome::Written { version, copies } => Reply::Written { version, copies },
            Outcome::Failed(error) => return self.finish_failed(id, error),
            Outcome::Newer(version) => return self.on_newer(id, version, now),
            Outcome::Ahead { unix_ms } => {
                self.clock.turn_back(now, unix_ms);
                return self.stamp_again(id, now);
            }
            Outcome::Moved(_) => return self.pause_request(id, false, now),
            Outcome::NotReady { perhaps } => return self.pause_request(id, perhaps, now),
        };
        self.finish(id, reply);
    }

    /// A later version is there. A marked one ends plain writes.
    fn on_newer(&mut self, id: RequestId, version: Version, now: Now) {
        self.clock.observe(version, now.unix_ms);
        let Some(request) = self.clients.requests.get_mut(&id) else {
            return;
        };
        let perhaps = request.perhaps;
        #[cfg(planted_bugs)]
        let perhaps = perhaps && !crate::planted::is("retry_applied_twice");
        if let Op::Put { mode, .. } = &mut request.op {
            match mode {
                Mode::One if version.is_marked() => {
                    return self.finish_failed(id, RequestError::Conflict);
                }
                Mode::Quorum if version.is_marked() => *mode = Mode::Linearizable,
                // An earlier try may be among what others wrote upon.
                Mode::Linearizable if perhaps => {
                    return self.finish_failed(id, RequestError::OutcomeUnknown);
                }
                Mode::One | Mode::Quorum | Mode::Linearizable => {}
            }
        }
        self.stamp_again(id, now);
    }

    /// A write begins again with a newer version. The old one, should a voter
    /// hold it, is older than what is there.
    fn stamp_again(&mut self, id: RequestId, now: Now) {
        let message = self.new_id();
        let Some(request) = self.clients.requests.get_mut(&id) else {
            return;
        };
        if let Op::Put { version, .. } = &mut request.op {
            *version = self.clock.tick(now.unix_ms);
        }
        self.counters.add("writes_stamped_again");
        self.clients.by_message.remove(&request.message);
        self.clients.by_message.insert(message, id);
        request.message = message;
        request.asked.clear();
        // A linearizable write that begins again was not applied.
        request.perhaps |= request.op.mode() != Mode::Linearizable;
        let pause = STAMP_MIN * 2u32.saturating_pow(request.outrun.min(8));
        request.outrun = request.outrun.saturating_add(1);
        request.target = None;
        request.in_hand = false;
        request.retry_at = now.mono + self.rng.jitter(pause.min(STAMP_MAX));
    }

    fn pause_request(&mut self, id: RequestId, perhaps: bool, now: Now) {
        if let Some(request) = self.clients.requests.get_mut(&id) {
            request.target = None;
            request.in_hand = false;
            request.perhaps |= perhaps;
            request.retry_at = now.mono + request.pause();
        }
    }

    /// The last try was surely not applied; an earlier one may have been.
    fn finish_failed(&mut self, id: RequestId, error: RequestError) {
        let perhaps = self
            .clients
            .requests
            .get(&id)
            .is_some_and(|request| request.perhaps);
        let error = if perhaps {
            RequestError::OutcomeUnknown
        } else {
            error
        };
        self.finish(id, Reply::Failed(error));
    }

    fn finish(&mut self, id: RequestId, reply: Reply) {
        if self.clients.remove(id).is_some() {
            self.reply(id, reply);
        }
    }

    pub(super) fn reply(&mut self, request: RequestId, reply: Reply) {
        self.actions.push_back(KvsAction::Reply { request, reply });
    }
}
