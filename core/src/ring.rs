//! The ring: Chord in the form that Zave proved correct.
//!
//! Members stand in a circle by id. Each knows its predecessor and a list of
//! its next successors, and keeps them right by three steps (Zave, *Using
//! lightweight modeling to understand Chord*, 2012; *Reasoning about
//! identifier spaces: how to make Chord correct*, 2017):
//!
//! - **join**: a newcomer takes its successor's list in one step;
//! - **stabilize**: a member asks its successor for its neighbours, and adopts
//!   a nearer successor only when that one answers, which is proof of life;
//! - **rectify**: a member takes a notifier for its predecessor when it is
//!   nearer than the old one, or when the old one is gone.
//!
//! Upkeep is driven by events: a closed link or news of a member starts it at
//! once, and the period between quiet rounds doubles. Beside the ring runs a
//! gossiped table of members, all of them while they are few, which makes one
//! hop of most lookups; a wrong entry there costs time, never an answer.

mod census;
mod compare;
#[cfg(test)]
mod crowd;
mod fingers;
mod gossip;
mod members;
mod message;
mod receive;
mod successors;

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use self::gossip::News;
pub(crate) use self::members::Members;
pub(crate) use self::message::Message;
use self::message::{Find, Neighbours, Update};
use self::successors::{SuccessorList, list_len};
use crate::counter::Counters;
use crate::flat::FlatMap;
use crate::id::{NodeId, RingId};
use crate::identity::{Network, Record};
use crate::rng::Rng;
use crate::status::{MemberState, MemberStatus};
use crate::time::Instant;
use crate::trouble::Trouble;

/// The shortest and the longest pause between two rounds of stabilize.
const PERIOD_MIN: Duration = Duration::from_millis(500);
const PERIOD_MAX: Duration = Duration::from_secs(16);
/// How long a question may go unanswered before it is asked again.
const ANSWER: Duration = Duration::from_millis(1000);
/// How often a question is asked before the member is passed over for a while.
const ASK_COUNT_MAX: u32 = 3;
/// For how long.
const AVOID: Duration = Duration::from_secs(2);
/// How many members may pass on a join.
const HOPS_MAX: u8 = 32;
/// Joins passed on that may have to go another way; the oldest is let go.
const FIND_COUNT_MAX: usize = 64;

/// What the ring asks of the node, or tells it.
#[derive(Debug)]
pub(crate) enum RingAction {
    /// Send a message.
    Send { to: NodeId, message: Message },
    /// A verified record was learnt.
    Learn(Record),
    /// Members or neighbours changed.
    Changed,
    /// A member does not answer: is a way to it open, and silent?
    Doubt { peer: NodeId },
    /// A neighbour's digest of the layer above differs from this node's.
    Differs { peer: NodeId },
    /// Something a person should read.
    Trouble(Trouble),
}

/// A member reached by way of a relay.
#[derive(Clone, Copy, Debug)]
struct Contact {
    peer: NodeId,
    ask_at: Instant,
    answered: bool,
}

/// One node's part of the ring.
#[derive(Debug)]
pub(crate) struct Ring {
    own: Record,
    own_id: NodeId,
    incarnation: u32,
    network: Network,
    id: Option<RingId>,
    /// The ring that this node was in before and joins again, and no other.
    returns_to: Option<RingId>,
    predecessor: Option<NodeId>,
    successors: SuccessorList,
    members: Members,
    news: News,
    /// Who was asked for all that there is to know, and when.
    asked_all: Option<(NodeId, Instant)>,
    /// When tables were compared last.
    compared_at: Option<Instant>,
    /// The last answer of a successor.
    heard: Option<(NodeId, Neighbours)>,
    /// Joins passed on, and to whom.
    finds: VecDeque<(NodeId, Find)>,
    /// Members asked whether they live, with when to ask again and how often
    /// they were asked: the successor, and who might be a nearer one.
    asked: FlatMap<NodeId, (Instant, u32)>,
    /// Members that did not answer, and until when they are passed over.
    avoided: FlatMap<NodeId, Instant>,
    /// Where to ask for a way in.
    contact: Option<Contact>,
    stabilize_at: Instant,
    period: Duration,
    left: bool,
    /// The digest of the layer above, handed on to neighbours.
    pub(crate) views: u64,
    rng: Rng,
    pub(crate) actions: VecDeque<RingAction>,
    pub(crate) counters: Counters,
}

impl Ring {
    /// A node that is in no ring, or alone in the one it was in before.
    pub(crate) fn new(
        own: Record,
        network: Network,
        id: Option<RingId>,
        rng: Rng,
        now: Instant,
    ) -> Self {
        let own_id = own.id();
        Self {
            own,
            own_id,
            incarnation: 0,
            network,
            id,
            returns_to: None,
            predecessor: None,
            successors: SuccessorList::new(own_id),
            members: Members::new(own_id),
            news: News::default(),
            asked_all: None,
            compared_at: None,
            heard: None,
            finds: VecDeque::new(),
            asked: FlatMap::new(),
            avoided: FlatMap::new(),
            contact: None,
            stabilize_at: now,
            period: PERIOD_MIN,
            left: false,
            views: 0,
            rng,
            actions: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// The ring's id, once this node is in one.
    pub(crate) const fn id(&self) -> Option<RingId> {
        self.id
    }

    pub(crate) const fn predecessor(&self) -> Option<NodeId> {
        self.predecessor
    }

    pub(crate) fn successors(&self) -> &[NodeId] {
        self.successors.as_slice()
    }

    pub(crate) const fn members(&self) -> &Members {
        &self.members
    }

    /// All members, this node included, clockwise from position zero.
    pub(crate) fn status(&self) -> Vec<MemberStatus> {
        let mut status: Vec<MemberStatus> = self.members.status().collect();
        if self.id.is_some() {
            let own = MemberStatus {
                id: self.own_id,
                name: self.own.facts().name.clone(),
                class: self.own.facts().class,
                state: MemberState::Alive,
            };
            let place = status.partition_point(|member| member.id < own.id);
            status.insert(place, own);
        }
        status
    }

    /// This node's record says more than before: so is its news.
    pub(crate) fn set_record(&mut self, own: &Record, now: Instant) {
        if !own.is_newer_than(&self.own) {
            return;
        }
        self.own = own.clone();
        if self.id.is_some() {
            self.incarnation = self.incarnation.saturating_add(1);
            let update = self.own_update();
            self.flood(&[update], None, now);
        }
    }

    /// A node that is in no ring joins this one or none.
    pub(crate) const fn return_to(&mut self, ring: RingId) {
        self.returns_to = Some(ring);
    }

    /// Starts a ring of one.
    pub(crate) fn genesis(&mut self) {
        self.id = Some(RingId::from_bytes(self.rng.bytes()));
        self.actions.push_back(RingAction::Changed);
    }

    /// A member of the ring can be reached: a way in, or a way for two parts
    /// of one ring to find each other.
    pub(crate) fn on_contact(&mut self, peer: NodeId, now: Instant) {
        self.contact = Some(Contact {
            peer,
            ask_at: now + ANSWER,
            answered: false,
        });
        self.ask_contact(peer);
    }

    fn ask_contact(&mut self, peer: NodeId) {
        match self.id {
            Some(ring) => self.compare(peer, ring),
            None => self.send_find(peer),
        }
    }

    /// The way to a contact is lost.
    pub(crate) fn on_contact_lost(&mut self, peer: &NodeId) {
        self.contact.take_if(|contact| contact.peer == *peer);
    }

    /// Whether the contact is to be asked again: no answer came, or it is held
    /// for dead, which its relay denies. Two parts of one ring, each of which
    /// holds the other for dead, meet again so.
    fn needs_contact(&self, contact: &Contact) -> bool {
        self.id.is_none() || !contact.answered || !self.members.is_alive(&contact.peer)
    }

    /// Says goodbye.
    pub(crate) fn leave(&mut self) {
        self.left = true;
        let update = Update {
            state: MemberState::Left,
            record: None,
            ..self.own_update()
        };
        self.news.add(update, None);
        self.flush_news();
    }

    /// A member is gone, as far as its links tell, and suspected now, unless
    /// it started again after that epoch.
    pub(crate) fn on_gone(&mut self, peer: &NodeId, epoch: u64, now: Instant) {
        if let Some(update) = self.members.suspect(peer, epoch, now) {
            self.counters.add("member_suspected");
            self.drop_neighbour(peer);
            self.flood(&[update], None, now);
            self.changed(now);
        }
        self.find_again(peer);
    }

    /// A way to a member was lost. That says nothing of the member, which may
    /// have given this node up: it shows soon that it lives.
    pub(crate) fn on_way_lost(&mut self, now: Instant) {
        self.period = PERIOD_MIN;
        self.stabilize_at = self.stabilize_at.min(now + PERIOD_MIN);
    }

    /// This node was frozen: whom it asked and suspected has time anew.
    pub(crate) fn on_late(&mut self, now: Instant) {
        self.members.on_late(now);
        self.avoided.clear();
        for (at, count) in self.asked.values_mut() {
            (*at, *count) = (now + ANSWER, 1);
        }
        self.stabilize_at = now;
    }

    // ---- timers ----

    pub(crate) fn on_timeout(&mut self, now: Instant) {
        if self.left {
            return;
        }
        let due = self.contact.filter(|contact| contact.ask_at <= now);
        if let Some(contact) = due.filter(|contact| self.needs_contact(contact)) {
            let ask_at = now + self.rng.jitter(ANSWER * 2);
            self.contact = Some(Contact { ask_at, ..contact });
            self.ask_contact(contact.peer);
        }
        let dead = self.members.on_timeout(now);
        if !dead.is_empty() {
            for update in &dead {
                self.drop_neighbour(&update.id);
            }
            self.flood(&dead, None, now);
            self.changed(now);
        }
        self.avoided.retain(|_, until| *until > now);
        self.on_unanswered(now);
        self.on_news_timeout(now);
        if self.stabilize_at <= now && self.id.is_some() {
            self.on_stabilize_timeout(now);
        }
    }

    fn on_unanswered(&mut self, now: Instant) {
        let due = self.asked.iter().filter(|(_, (at, _))| *at <= now);
        let due: Vec<(NodeId, u32)> = due.map(|(peer, (_, count))| (*peer, *count)).collect();
        for (peer, count) in due {
            self.asked.remove(&peer);
            if !self.members.is_alive(&peer) {
                continue;
            }
            if count < ASK_COUNT_MAX {
                self.ask_again(peer, count + 1, now);
                continue;
            }
            // No proof of death, for the way alone may be lost: passed over
            // for a while, and asked again after that. An open way that
            // stays silent is another matter, which links look into.
            self.actions.push_back(RingAction::Doubt { peer });
            self.counters.add("successor_unanswered");
            self.avoided.insert(peer, now + AVOID);
            self.successors.remove(&peer);
            self.changed(now);
        }
    }

    fn on_stabilize_timeout(&mut self, now: Instant) {
        self.stabilize_at = now + self.rng.jitter(self.period);
        self.period = (self.period * 2).min(PERIOD_MAX);
        if let Some(head) = self.successors.head() {
            self.ask(head, now);
        }
        self.seek(now);
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        if self.left {
            return None;
        }
        let alone = self.successors.head().is_none() && self.members.alive().next().is_none();
        let stabilize = (self.id.is_some() && !alone).then_some(self.stabilize_at);
        let asked = self.asked.values().map(|(at, _)| *at).min();
        let contact = self.contact.filter(|contact| self.needs_contact(contact));
        let contact = contact.map(|contact| contact.ask_at);
        let news = self.news.poll_timeout();
        [stabilize, asked, contact, news, self.members.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    // ---- details ----

    /// Something changed: the next rounds come soon.
    fn changed(&mut self, now: Instant) {
        self.period = PERIOD_MIN;
        self.stabilize_at = self.stabilize_at.min(now + PERIOD_MIN);
        self.actions.push_back(RingAction::Changed);
        self.seek(now);
    }

    /// Asks the nearest member clockwise whether it lives, unless it is the
    /// successor already.
    fn seek(&mut self, now: Instant) {
        let mut others = self.members.clockwise(&self.own_id);
        let nearest = others.find(|id| !self.avoided.contains_key(id));
        drop(others);
        if let Some(nearest) = nearest
            && self.successors.head() != Some(nearest)
        {
            self.ask(nearest, now);
        }
    }

    fn ask(&mut self, peer: NodeId, now: Instant) {
        if !self.asked.contains_key(&peer) && !self.avoided.contains_key(&peer) {
            self.ask_again(peer, 1, now);
        }
    }

    fn ask_again(&mut self, peer: NodeId, count: u32, now: Instant) {
        if let Some(ring) = self.id {
            self.asked.insert(peer, (now + ANSWER, count));
            let heard = self.heard.as_ref().filter(|(head, _)| *head == peer);
            let seen = heard.map_or(0, |(_, neighbours)| neighbours.digest());
            self.send(peer, Message::Stabilize { ring, seen });
        }
    }

    fn adopt(&mut self, head: NodeId, tail: &[NodeId]) -> bool {
        let len = list_len(self.size());
        let members = &self.members;
        let lives = |id: &NodeId| members.is_alive(id);
        #[cfg(planted_bugs)]
        let lives = |id: &NodeId| lives(id) || crate::planted::is("dead_imported");
        self.successors.adopt(head, tail, len, lives)
    }

    /// How many members the ring has: as many as are known, or by how far apart
    /// the nearest ones are.
    fn size(&self) -> usize {
        let known = self.members.living() + 1;
        let list = self.successors.as_slice();
        let Some(last) = list.last().filter(|_| self.members.is_partial()) else {
            return known;
        };
        let span = NodeId::from_bytes(self.own_id.distance_to(last)).head();
        let round = u64::MAX / span.max(1);
        known.max(
            usize::try_from(round)
                .unwrap_or(known)
                .saturating_mul(list.len()),
        )
    }

    fn drop_neighbour(&mut self, id: &NodeId) {
        self.successors.remove(id);
        self.asked.remove(id);
        if self.predecessor == Some(*id) {
            self.predecessor = None;
        }
    }

    /// The first member after one that joins, as far as this node knows. One
    /// that joins may have been a member before, and still be taken for one.
    fn successor_of(&self, joiner: &NodeId) -> NodeId {
        let next = self.members.clockwise(joiner).find(|id| id != joiner);
        let next = next.filter(|id| joiner.distance_to(id) < joiner.distance_to(&self.own_id));
        next.unwrap_or(self.own_id)
    }

    fn send_find(&mut self, to: NodeId) {
        let find = Find {
            ring: self.id.or(self.returns_to),
            record: self.own.clone(),
            hops: HOPS_MAX,
        };
        self.send(to, Message::Find(find));
    }

    fn neighbours(&self) -> Neighbours {
        Neighbours {
            ring: self.id.unwrap_or(RingId::from_bytes([0; 16])),
            predecessor: self.predecessor,
            successors: self.successors.as_slice().to_vec(),
            members: self.table_digest(),
            views: self.views,
            records: Vec::new(),
        }
    }

    fn own_update(&self) -> Update {
        Update {
            id: self.own_id,
            epoch: self.own.facts().epoch,
            incarnation: self.incarnation,
            state: MemberState::Alive,
            record: Some(self.own.clone()),
        }
    }

    fn send(&mut self, to: NodeId, message: Message) {
        self.actions.push_back(RingAction::Send { to, message });
    }
}

impl Message {
    /// The ring that the sender is in.
    const fn ring(&self) -> Option<RingId> {
        match self {
            Self::Find(find) => find.ring,
            Self::Found(neighbours) | Self::Stabilized(neighbours) => Some(neighbours.ring),
            Self::Stabilize { ring, .. }
            | Self::Unchanged { ring }
            | Self::Notify { ring }
            | Self::Members { ring, .. }
            | Self::Table { ring, .. }
            | Self::Foreign { ring } => Some(*ring),
        }
    }
}

#[cfg(test)]
mod tests;
