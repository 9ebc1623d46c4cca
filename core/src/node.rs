//! The node: links, ring and store, composed. It holds no algorithm.

mod message;
mod routed;
mod routing;
mod sessions;
mod start;
#[cfg(test)]
mod tests;

use alloc::collections::VecDeque;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::time::Duration;

use self::message::Message;
use self::start::{Memory, Start};
use crate::config::{Config, ConfigError};
use crate::counter::Counters;
use crate::event::{Event, Input, Lane, Output};
use crate::flat::FlatMap;
use crate::id::NodeId;
use crate::identity::{Facts, Identity, Record};
use crate::kvs::{
    Condition, Key, Kvs, KvsAction, List, Living, Mode, Reply, RequestError, RequestId, Terms,
    Watch,
};
use crate::link::{BODY_LEN_MAX, DownCause, LinkEvent, Links, Me};
use crate::ring::{Ring, RingAction};
use crate::rng::Rng;
use crate::session::Sessions;
use crate::status::{Location, MemberState, RingStatus, Status};
use crate::time::{Instant, Now};
use crate::traffic::Traffic;
use crate::trouble::Trouble;
use crate::wire;

/// Up to this many members, every pair holds a direct link.
const FULL_MESH_MAX: usize = 32;
/// In a larger ring, successors with a direct link.
const NEAR_COUNT: usize = 4;
/// Called so much later than it wanted to be, a node takes itself for frozen. The
/// timers of hidden pages are up to a second late.
const LATE: Duration = Duration::from_millis(1500);
/// Ways back to peers without a path, remembered at once; then all are
/// forgotten, and found anew.
const RETURN_COUNT_MAX: usize = 1024;

/// A member of the ring: the pure machine that every driver drives.
///
/// Give it inputs and calls; after each, drain [`Node::poll_output`] until it
/// says [`Output::Wait`].
#[derive(Debug)]
pub struct Node {
    config: Config,
    start: Option<Start>,
    links: Links,
    ring: Ring,
    kvs: Kvs,
    sessions: Sessions,
    /// Whose session sent last.
    last_sender: NodeId,
    /// The neighbour through which a peer without a path was heard last.
    returns: FlatMap<NodeId, NodeId>,
    traffic: Traffic,
    /// When this node was called last.
    now: Now,
    /// When it wanted to be called again at the latest: what was to be done at
    /// once was due then, however long ago it would have been due.
    due: Option<Instant>,
    /// What was kept last, so that only changes are.
    kept: Option<Memory>,
    request_count: u64,
    outputs: VecDeque<Output>,
    counters: Counters,
}

impl Node {
    /// A node with an identity. The seed feeds all its randomness: it has to
    /// be fresh and secret at every start.
    ///
    /// # Errors
    /// When the configuration makes no sense.
    pub fn new(
        identity: Identity,
        config: Config,
        seed: [u8; 32],
        now: Now,
    ) -> Result<Self, ConfigError> {
        config.check()?;
        let mut rng = Rng::from_seed(seed);
        let facts = Facts {
            epoch: config.epoch,
            class: config.class,
            name: config.name.clone(),
        };
        let record = identity.record(facts, &config.network);
        let me = Me {
            identity,
            network: config.network.clone(),
            record: record.clone(),
            rng: rng.fork(),
        };
        let id = record.id();
        let (start, outputs) = Start::begin();
        Ok(Self {
            links: Links::new(me, &config.relays, config.direct_budget, now.mono),
            ring: Ring::new(record, config.network.clone(), None, rng.fork(), now.mono),
            kvs: Kvs::new(id, config.class, config.tombstone_grace, rng.fork()),
            sessions: Sessions::new(config.epoch, BODY_LEN_MAX),
            last_sender: id,
            config,
            start: Some(start),
            returns: FlatMap::new(),
            traffic: Traffic::default(),
            now,
            due: None,
            kept: None,
            request_count: 0,
            outputs,
            counters: Counters::default(),
        })
    }

    /// The node's id.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.links.me.identity.id()
    }

    /// The node's own signed record.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.links.me.record
    }

    /// Reads a key. The answer is an [`Event::Reply`] with the id returned.
    pub fn get(&mut self, key: Key, mode: Mode, now: Now) -> RequestId {
        self.ask(now, |kvs, request| kvs.get(request, key, mode, now))
    }

    /// Lists a page of a bucket. The answer is a [`Reply::Listed`].
    pub fn list(&mut self, list: List, now: Now) -> RequestId {
        self.ask(now, |kvs, request| kvs.list(request, list, now))
    }

    /// Asks for the next piece of a watch. The answer is a [`Reply::Watched`]: at
    /// once, as soon as there is something to tell, or, without, in some seconds.
    pub fn watch(&mut self, watch: Watch, now: Now) -> RequestId {
        self.ask(now, |kvs, request| kvs.watch(request, watch, now))
    }

    /// Writes a key, at most 1 MiB.
    pub fn put(&mut self, key: Key, value: Vec<u8>, mode: Mode, now: Now) -> RequestId {
        self.write(key, Some(value), mode.into(), now)
    }

    /// Deletes a key.
    pub fn delete(&mut self, key: Key, mode: Mode, now: Now) -> RequestId {
        self.write(key, None, mode.into(), now)
    }

    /// Writes a key, or deletes it, if a condition holds; in mode
    /// [`Mode::Linearizable`].
    pub fn compare_and_set(
        &mut self,
        key: Key,
        condition: Condition,
        value: Option<Vec<u8>>,
        now: Now,
    ) -> RequestId {
        self.write(key, value, condition.into(), now)
    }

    /// Writes a key, or deletes it without a value, as the terms say.
    pub fn write(&mut self, key: Key, value: Option<Vec<u8>>, terms: Terms, now: Now) -> RequestId {
        self.ask(now, |kvs, request| kvs.put(request, key, value, terms, now))
    }

    /// Gives a voter up for lost, so that its slots can do without it: an
    /// operator's word, for a majority that will not come back. Ends with
    /// [`Reply::Evicted`] when it has no vote any more, or fails while the
    /// member still answers.
    pub fn evict(&mut self, id: NodeId, now: Now) -> RequestId {
        let known = self.ring.members().get(&id).is_some();
        self.ask(now, |kvs, request| kvs.evict(request, id, known, now))
    }

    /// Asks the store, or answers that there is no ring yet.
    fn ask(&mut self, now: Now, ask: impl FnOnce(&mut Kvs, RequestId)) -> RequestId {
        self.request_count += 1;
        let request = RequestId(self.request_count);
        if self.ring.id().is_some() {
            ask(&mut self.kvs, request);
            self.pump(now);
        } else {
            let reply = Reply::Failed(RequestError::NotJoined);
            let event = Event::Reply { request, reply };
            self.outputs.push_back(Output::Event(event));
        }
        request
    }

    /// Begins to leave: passes this node's votes and entries on to others, if
    /// at least three other durable members can take them. Returns whether
    /// there is something to wait for, until [`Node::is_retired`]; then call
    /// [`Node::leave`].
    pub fn retire(&mut self, now: Now) -> bool {
        let begins = self.ring.id().is_some() && self.kvs.retire(now);
        self.pump(now);
        begins
    }

    /// Whether there is nothing more to wait for after [`Node::retire`]: this
    /// node votes on nothing any more, and others hold all that it held; or
    /// too few others are left.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        self.kvs.is_retired()
    }

    /// Leaves the ring in good order: neighbours know at once. The node takes
    /// no further part; drain its outputs, then drop it.
    pub fn leave(&mut self, now: Now) {
        self.ring.leave();
        self.pump(now);
        self.links.leave(now);
        self.pump(now);
    }

    /// The network is back, or the clock jumped: lost relays are dialled and
    /// neighbours asked at once.
    pub fn resume(&mut self, now: Now) {
        self.on_late(now);
        self.handle_input(Input::Timeout, now);
    }

    /// Takes in one input. Never fails: what is wrong is counted.
    pub fn handle_input(&mut self, input: Input, now: Now) {
        if self.due.is_some_and(|due| due + LATE <= now.mono) {
            self.on_late(now);
        }
        self.now = now;
        self.traffic.tick(now.mono);
        match input {
            Input::Stored { token, result } => self.on_stored(token, result, now),
            _ if self.start.is_some() => {}
            Input::Frame { link, bytes } => {
                self.traffic.add_in(bytes.len());
                self.links.on_frame(link, &bytes, now);
            }
            Input::Drained { link, lane, bytes } => self.links.on_drained(link, lane, bytes),
            Input::LinkUp { link } => self.links.on_up(link, now),
            Input::LinkDown { link, reason } => self.links.on_down(link, &reason, now.mono),
            Input::Local(description) => self.links.on_local(description, now),
            Input::Timeout => {
                self.links.on_timeout(now);
                self.ring.on_timeout(now.mono);
                self.kvs.on_timeout(now);
                self.sessions.on_timeout(now.mono);
            }
        }
        self.pump(now);
    }

    /// This node did nothing for a while: it was frozen, or its computer slept.
    /// Who seems silent may have answered all along: all are asked anew.
    fn on_late(&mut self, now: Now) {
        self.due = None;
        self.counters.add("late");
        self.links.on_late(now.mono);
        self.ring.on_late(now.mono);
        self.kvs.on_thaw(now);
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Output {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return output;
            }
            if let Some(output) = self.links.outputs.pop_front() {
                if let Output::Send { bytes, .. } = &output {
                    self.traffic.add_out(bytes.len());
                }
                return output;
            }
            if self.start.is_some() {
                return Output::Wait(None);
            }
            // Last, so that one answer is made to all that came together.
            if !self.flush_sessions(self.now) {
                break;
            }
            self.pump(self.now);
        }
        let times = [
            self.links.poll_timeout(),
            self.ring.poll_timeout(),
            self.kvs.poll_timeout(),
            self.sessions.poll_timeout(),
        ];
        let wait = times.into_iter().flatten().min();
        self.due = wait.map(|at| at.max(self.now.mono));
        Output::Wait(wait)
    }

    // ---- what a person sees ----

    /// Everything about this node at a glance.
    #[must_use]
    pub fn status(&self) -> Status {
        let counters = [
            self.traffic.named().to_vec(),
            self.counters.iter().collect(),
            self.links.counters.iter().collect(),
            self.ring.counters.iter().collect(),
            self.kvs.counters.iter().collect(),
            self.sessions.counters.iter().collect(),
        ];
        Status {
            id: self.id(),
            epoch: self.config.epoch,
            class: self.config.class,
            name: self.config.name.clone(),
            network: self.config.network.name().to_string(),
            ring_id: self.ring.id().map(|id| id.to_string()),
            ready: self.is_ready(),
            predecessor: self.ring.predecessor(),
            successors: self.ring.successors().to_vec(),
            links: self.links.link_status(),
            relays: self.links.relay_status(),
            store: self.kvs.status(),
            rate: self.traffic.rate(),
            counters: counters.into_iter().flatten().collect(),
        }
    }

    /// Whether this node is a member of a ring, and filled where it votes.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.start.is_none() && self.ring.id().is_some() && self.kvs.is_ready()
    }

    /// The ring as this node knows it.
    #[must_use]
    pub fn ring_status(&self) -> RingStatus {
        RingStatus {
            ring_id: self.ring.id().map(|id| id.to_string()),
            members: self.ring.status(),
        }
    }

    /// The next members clockwise, nearest first.
    #[must_use]
    pub fn successors(&self) -> &[NodeId] {
        self.ring.successors()
    }

    /// Where a key lives, as far as this node knows.
    #[must_use]
    pub fn locate(&self, key: &Key) -> Location {
        self.kvs.locate(key)
    }

    // ---- between the layers ----

    /// Carries what the layers say to one another, until all is said.
    fn pump(&mut self, now: Now) {
        loop {
            if let Some(event) = self.links.poll_event() {
                self.on_link_event(event, now);
            } else if let Some(action) = self.ring.actions.pop_front() {
                self.on_ring_action(action, now);
            } else if let Some(action) = self.kvs.actions.pop_front() {
                self.on_kvs_action(action, now);
            } else {
                return;
            }
        }
    }

    fn on_link_event(&mut self, event: LinkEvent, now: Now) {
        match event {
            LinkEvent::Up { peer } => {
                self.returns.remove(&peer);
                self.links.start_direct(now.mono);
                self.on_way_changed(&peer, now);
            }
            LinkEvent::Down { peer, epoch, cause } => {
                self.returns.retain(|_, via| *via != peer);
                // One that is heard through others is not gone.
                let heard = self.returns.contains_key(&peer);
                let gone = cause != DownCause::Lost && !heard;
                if gone {
                    self.ring.on_gone(&peer, epoch, now.mono);
                } else {
                    self.ring.on_way_lost(now.mono);
                }
                self.on_way_changed(&peer, now);
            }
            LinkEvent::Attached { member } => {
                self.ring.set_record(&self.links.me.record, now.mono);
                if member != self.id() {
                    self.ring.on_contact(member, now.mono);
                }
            }
            LinkEvent::Detached { member } => {
                self.ring.on_contact_lost(&member);
                let mut others = self.links.relay_members();
                if let Some(other) = others.find(|other| *other != self.id()) {
                    self.ring.on_contact(other, now.mono);
                }
            }
            LinkEvent::Message { peer, bytes } => self.on_bytes(peer, &bytes, now),
            LinkEvent::Signal { to, bytes } => {
                self.send(to, Lane::Control, Message::Signal(bytes), now);
            }
            LinkEvent::Session { peer, kind, bytes } => {
                self.on_session_frame(peer, kind, &bytes, now);
            }
            LinkEvent::Changed => {
                self.refresh_ways(now);
                self.outputs.push_back(Output::Event(Event::Link));
            }
            LinkEvent::Trouble(trouble) => self.tell(trouble),
        }
    }

    fn tell(&mut self, trouble: Trouble) {
        self.outputs
            .push_back(Output::Event(Event::Trouble(trouble)));
    }

    fn on_ring_action(&mut self, action: RingAction, now: Now) {
        match action {
            RingAction::Send { to, message } => {
                self.send(to, Lane::Control, Message::Ring(message), now);
            }
            RingAction::Learn(record) => {
                self.links.learn(&record, now.mono);
            }
            RingAction::Changed => self.on_ring_changed(now),
            RingAction::Doubt { peer } => self.on_doubt(&peer, now),
            RingAction::Differs { peer } => self.kvs.on_differs(peer),
            RingAction::Trouble(trouble) => self.tell(trouble),
        }
    }

    fn on_kvs_action(&mut self, action: KvsAction, now: Now) {
        match action {
            KvsAction::Send { to, lane, message } => {
                let Some(ring) = self.ring.id() else {
                    return;
                };
                let ring = ring.tag();
                self.send(to, lane, Message::Kvs { ring, message }, now);
            }
            KvsAction::Doubt { peer } => self.links.doubt(peer),
            KvsAction::Store { token, op } => {
                self.outputs.push_back(Output::Store { token, op });
            }
            KvsAction::Reply { request, reply } => {
                let event = Event::Reply { request, reply };
                self.outputs.push_back(Output::Event(event));
            }
        }
        self.ring.views = self.kvs.views_digest();
    }

    /// A member does not answer the ring: its way is asked, if there is one;
    /// without one it is suspected, and may deny that.
    fn on_doubt(&mut self, peer: &NodeId, now: Now) {
        if self.links.is_up(peer) {
            self.links.doubt(*peer);
        } else if let Some(epoch) = self.ring.members().get(peer).map(|known| known.epoch) {
            self.ring.on_gone(peer, epoch, now.mono);
        }
    }

    /// Of one that others accuse, its own way to it tells this node more.
    fn on_way_changed(&mut self, peer: &NodeId, now: Now) {
        if self.ring.members().accused().any(|(id, _)| id == peer) {
            self.links.doubt(*peer);
            self.on_ring_changed(now);
        }
    }

    fn on_ring_changed(&mut self, now: Now) {
        let (alive, accused) = self.alive();
        let near = self.ring.successors().first().copied();
        let near = near.into_iter().chain(self.ring.predecessor());
        self.links.watch(near.chain(accused).collect());
        let wanted = self.wanted(&alive);
        self.links.want(wanted);
        let members = self.ring.members();
        self.links.drop_left(|id| {
            members
                .get(id)
                .is_some_and(|member| member.state == MemberState::Left)
        });
        self.end_left_sessions();
        self.links.start_direct(now.mono);
        self.kvs.set_members(alive, now);
        self.ring.views = self.kvs.views_digest();
        self.keep_memory();
        self.outputs.push_back(Output::Event(Event::Ring));
    }

    /// The members that live for this node; and those of them whom others accuse:
    /// whoever hears nothing accuses everybody. One that answers this node lives for
    /// it, whatever others say, and is asked as long as they do.
    fn alive(&self) -> (FlatMap<NodeId, Living>, Vec<NodeId>) {
        let members = self.ring.members();
        let answering = members.accused().filter(|(id, _)| self.links.is_up(id));
        let answering: Vec<(&NodeId, &Record)> = answering.collect();
        let all = members.alive().chain(answering.iter().copied());
        let alive = all.map(|(id, record)| (*id, Living::of(record.facts())));
        let accused = answering.iter().map(|(id, _)| **id);
        (alive.collect(), accused.collect())
    }

    /// Who should have a direct link, the most wanted first: those with a session,
    /// then everybody while they are few; else neighbours, those with whom this node
    /// votes, and fingers.
    fn wanted(&self, alive: &FlatMap<NodeId, Living>) -> Vec<NodeId> {
        let streaming = self.sessions.peers();
        if alive.len() < FULL_MESH_MAX {
            let others = alive.keys().filter(|id| !self.sessions.has(id)).copied();
            return streaming.chain(others).collect();
        }
        let near = self.ring.successors().iter().take(NEAR_COUNT).copied();
        let voters = self.kvs.co_voters();
        let voters = voters.into_iter().filter(|id| alive.contains_key(id));
        let all = streaming
            .chain(self.ring.predecessor())
            .chain(near)
            .chain(voters);
        let mut wanted: Vec<NodeId> = Vec::new();
        for peer in all.chain(self.ring.fingers()) {
            if !wanted.contains(&peer) {
                wanted.push(peer);
            }
        }
        wanted
    }

    fn on_bytes(&mut self, peer: NodeId, bytes: &[u8], now: Now) {
        match wire::decode::<Message>(bytes) {
            Ok(Message::Routed(routed)) => self.on_routed(peer, routed, now),
            Ok(message) => self.on_message(peer, message, now),
            Err(_) => self.counters.add("message_malformed"),
        }
    }

    fn on_message(&mut self, from: NodeId, message: Message, now: Now) {
        match message {
            Message::Ring(message) => {
                let Some(record) = self.links.record(&from).cloned() else {
                    return self.counters.add("message_unknown_sender");
                };
                self.ring.on_message(&record, message, now.mono);
            }
            Message::Kvs { ring, message } => {
                if self.ring.id().map(|id| id.tag()) != Some(ring) {
                    return self.counters.add("message_other_ring");
                }
                self.ring.on_heard(&from, now.mono);
                if let Some(timeout) = self.links.timeout(&from) {
                    self.kvs.set_timeout(&from, timeout);
                }
                self.kvs.on_message(from, message, now);
            }
            Message::Signal(bytes) => self.links.on_signal(&bytes, now),
            Message::Routed(_) => self.counters.add("message_malformed"),
        }
    }
}
