//! What a member does with what it is told: join, stabilize, rectify, and
//! news of members.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::members::Merge;
use super::message::{Find, Message, Neighbours, Update};
use super::{FIND_COUNT_MAX, Ring, RingAction};
use crate::id::NodeId;
use crate::identity::Record;
use crate::status::MemberState;
use crate::time::Instant;
use crate::trouble::{Trouble, TroubleKind};

impl Ring {
    /// Takes in a message from a peer whose record the node has verified.
    pub(crate) fn on_message(&mut self, from: &Record, message: Message, now: Instant) {
        if self.left {
            return;
        }
        let peer = from.id();
        if let Message::Find(find) = message {
            return self.on_find(find);
        }
        if let Message::Found(neighbours) = message {
            return self.on_found(peer, neighbours, now);
        }
        let ring = message.ring();
        if self.id != ring {
            return self.on_foreign(peer, &message);
        }
        if let Some(contact) = self.contact.as_mut().filter(|contact| contact.peer == peer) {
            contact.answered = true;
        }
        self.introduce(from, now);
        self.want_all(peer, ring, now);
        match message {
            Message::Stabilize { ring, seen } => {
                let neighbours = self.neighbours();
                let message = if neighbours.digest() == seen {
                    Message::Unchanged { ring }
                } else {
                    Message::Stabilized(neighbours)
                };
                self.send(peer, message);
            }
            Message::Stabilized(neighbours) => {
                self.on_stabilized(peer, &neighbours, now);
                self.heard = Some((peer, neighbours));
            }
            Message::Unchanged { .. } => {
                if let Some((head, neighbours)) = self.heard.take_if(|(head, _)| *head == peer) {
                    self.on_stabilized(peer, &neighbours, now);
                    self.heard = Some((head, neighbours));
                }
            }
            Message::Notify { .. } => self.on_notify(peer, now),
            Message::Members { updates, .. } => self.on_updates(peer, &updates, now),
            Message::Table { table, .. } => self.on_table(peer, table, now),
            Message::Find(_) | Message::Found(_) | Message::Foreign { .. } => {}
        }
    }

    /// A member speaks, of whatever: if it is held for dead here, as by one part of
    /// a ring the other is, it is told so, and denies it.
    pub(crate) fn on_heard(&mut self, peer: &NodeId, now: Instant) {
        let known = self.members.get(peer);
        if known.is_some_and(|known| known.state == MemberState::Dead) {
            self.accuse(*peer, now);
        }
    }

    fn on_find(&mut self, find: Find) {
        let Some(ring) = self.id else {
            return;
        };
        let joiner = find.record.id();
        if find.record.verify(&self.network).is_err() || joiner == self.own_id {
            return self.counters.add("ring_refused");
        }
        self.actions
            .push_back(RingAction::Learn(find.record.clone()));
        if find.ring.is_some_and(|theirs| theirs != ring) {
            return self.send(joiner, Message::Foreign { ring });
        }
        let next = self.successor_of(&joiner);
        #[cfg(planted_bugs)]
        let next = if crate::planted::is("wrong_join") {
            self.own_id
        } else {
            next
        };
        match (next == self.own_id, find.hops.checked_sub(1)) {
            (true, _) => {
                let mut neighbours = self.neighbours();
                let named = self.successors.as_slice().iter().chain(&self.predecessor);
                let records = named.filter_map(|id| self.members.get(id)?.record.clone());
                neighbours.records = records.chain([self.own.clone()]).collect();
                self.send(joiner, Message::Found(neighbours));
            }
            (false, Some(hops)) => {
                let find = Find { hops, ..find };
                if self.finds.len() >= FIND_COUNT_MAX {
                    self.finds.pop_front();
                }
                self.finds.push_back((next, find.clone()));
                self.send(next, Message::Find(find));
            }
            (false, None) => self.counters.add("ring_hops_exceeded"),
        }
    }

    /// One is gone to whom joins were passed on: they go on by others.
    pub(super) fn find_again(&mut self, gone: &NodeId) {
        let finds = core::mem::take(&mut self.finds);
        for (next, find) in finds {
            if next != *gone {
                self.finds.push_back((next, find));
            } else if !self.members.is_alive(gone) {
                self.on_find(find);
            }
        }
    }

    /// Join (Zave 2012): the successor's list is taken in one step.
    fn on_found(&mut self, peer: NodeId, neighbours: Neighbours, now: Instant) {
        if self.id.is_some() || self.contact.is_none() {
            return;
        }
        let ring = neighbours.ring;
        if self.returns_to.is_some_and(|before| before != ring) {
            return self.on_foreign(peer, &Message::Foreign { ring });
        }
        self.id = Some(ring);
        for record in &neighbours.records {
            self.introduce(record, now);
        }
        self.adopt(peer, &neighbours.successors);
        self.send(peer, Message::Notify { ring });
        self.want_all(peer, Some(ring), now);
        // Before all that a changed ring leads to: nothing can be read until
        // this is answered.
        if neighbours.views != self.views {
            self.actions.push_back(RingAction::Differs { peer });
        }
        self.changed(now);
    }

    /// Stabilize (Zave 2012): the answer is the proof that `peer` lives.
    fn on_stabilized(&mut self, peer: NodeId, neighbours: &Neighbours, now: Instant) {
        self.asked.remove(&peer);
        self.avoided.remove(&peer);
        let Some(ring) = self.id else {
            return;
        };
        // An answer may be long on its way: one that is held for dead by now
        // denies that first.
        if !self.members.is_alive(&peer) {
            return;
        }
        let head = self.successors.head();
        let nearer = head.is_none_or(|head| peer.is_between(&self.own_id, &head));
        if head != Some(peer) && !nearer {
            return;
        }
        if self.adopt(peer, &neighbours.successors) || nearer {
            self.changed(now);
        }
        let known = neighbours.predecessor;
        if known != Some(self.own_id) {
            // Either the successor knows a nearer member, who is to be asked
            // first, or it does not know this one.
            let nearer = known.filter(|known| known.is_between(&self.own_id, &peer));
            match nearer.filter(|known| self.members.is_alive(known)) {
                Some(known) => self.ask(known, now),
                None => self.send(peer, Message::Notify { ring }),
            }
        }
        self.want_unknown(peer, ring, neighbours);
        if self.table_differs(neighbours.members) && self.may_compare(now) {
            self.compare(peer, ring);
        }
        if neighbours.views != self.views {
            self.actions.push_back(RingAction::Differs { peer });
        }
    }

    /// Rectify (Zave 2012).
    fn on_notify(&mut self, peer: NodeId, now: Instant) {
        #[cfg(planted_bugs)]
        if crate::planted::is("no_rectify") {
            return;
        }
        if !self.members.is_alive(&peer) {
            return;
        }
        let old = self.predecessor;
        let nearer = old
            .is_none_or(|old| !self.members.is_alive(&old) || peer.is_between(&old, &self.own_id));
        if old == Some(peer) || !nearer {
            return;
        }
        self.predecessor = Some(peer);
        if let Some(old) = old.filter(|old| self.members.is_alive(old)) {
            let message = Message::Stabilized(self.neighbours());
            self.send(old, message);
        }
        self.changed(now);
    }

    fn on_updates(&mut self, from: NodeId, updates: &[Update], now: Instant) {
        let mut news = Vec::new();
        for update in updates {
            if update.id == self.own_id {
                news.extend(self.on_own_update(from, update));
                continue;
            }
            match self.members.merge(update, &self.network, now) {
                merge @ (Merge::News | Merge::Noted) => {
                    if let Some(record) = &update.record {
                        self.actions.push_back(RingAction::Learn(record.clone()));
                    }
                    self.on_news(update, now);
                    if merge == Merge::News {
                        news.push(update.clone());
                    }
                }
                Merge::Old => {}
                Merge::Bad => self.counters.add("member_refused"),
            }
        }
        if !news.is_empty() {
            if !self.is_told_all(&from, now) {
                self.flood(&news, Some(from), now);
            }
            self.changed(now);
        }
    }

    fn on_news(&mut self, update: &Update, now: Instant) {
        let peer = update.id;
        if update.state == MemberState::Alive {
            self.avoided.remove(&peer);
            return;
        }
        let near = self.predecessor == Some(peer) || self.successors.as_slice().contains(&peer);
        if update.state != MemberState::Suspect {
            self.drop_neighbour(&peer);
        }
        if matches!(update.state, MemberState::Suspect | MemberState::Dead) {
            self.actions.push_back(RingAction::Doubt { peer });
            if near {
                self.accuse(peer, now);
            }
        }
    }

    /// Tells a member that it is suspected, or held for dead, so that it may
    /// deny that.
    fn accuse(&mut self, peer: NodeId, now: Instant) {
        if let Some(ring) = self.id
            && let Some(accusation) = self.members.accusation(&peer, now)
        {
            let updates = [accusation].into();
            self.send(peer, Message::Members { ring, updates });
        }
    }

    /// Someone says something of this node: denies it when it is wrong.
    fn on_own_update(&mut self, from: NodeId, update: &Update) -> Option<Update> {
        let own_epoch = self.own.facts().epoch;
        if update.epoch > own_epoch {
            let words = format!(
                "this node's identity is in use elsewhere (epoch {} after {own_epoch}): \
                 never run two nodes on one identity",
                update.epoch
            );
            self.counters.add("identity_in_use");
            self.tell(TroubleKind::IdentityInUse, words);
            return None;
        }
        if update.epoch < own_epoch || update.state == MemberState::Alive {
            return None;
        }
        let is_new = update.incarnation >= self.incarnation;
        if is_new {
            self.incarnation = update.incarnation.saturating_add(1);
            self.counters.add("own_death_denied");
        }
        // Who says it has to hear it: news is not sent back to where it came
        // from.
        let denial = self.own_update();
        if let Some(ring) = self.id {
            let updates = [denial.clone()].into();
            self.send(from, Message::Members { ring, updates });
        }
        is_new.then_some(denial)
    }

    fn tell(&mut self, kind: TroubleKind, words: String) {
        let trouble = Trouble::new(kind, words);
        self.actions.push_back(RingAction::Trouble(trouble));
    }

    fn on_foreign(&mut self, peer: NodeId, message: &Message) {
        let Some(ring) = self.id.or(self.returns_to) else {
            return;
        };
        self.counters.add("ring_foreign");
        if let Message::Foreign { ring: theirs } = message {
            let words = format!(
                "{} is in ring {theirs}, this node in {ring}: two rings never merge. \
                 Start one of them on an empty data directory to join the other",
                peer.short()
            );
            self.tell(TroubleKind::OtherRing, words);
        } else if self.id.is_some() {
            self.send(peer, Message::Foreign { ring });
        }
    }

    /// A peer of this ring that speaks is a member.
    fn introduce(&mut self, record: &Record, now: Instant) {
        let update = Update {
            id: record.id(),
            epoch: record.facts().epoch,
            incarnation: 0,
            state: MemberState::Alive,
            record: Some(record.clone()),
        };
        if update.id == self.own_id {
            return;
        }
        if let Some(known) = self.members.get(&update.id)
            && known.epoch == update.epoch
        {
            // It speaks, and yet is held for dead: let it deny that.
            return self.accuse(update.id, now);
        }
        self.on_updates(update.id, core::slice::from_ref(&update), now);
    }
}
