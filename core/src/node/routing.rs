//! Messages on their way: by a path of their own, or by way of others.

use super::message::Message;
use super::routed::Routed;
use super::{Node, RETURN_COUNT_MAX};
use crate::event::Lane;
use crate::id::NodeId;
use crate::identity::{HOME_COUNT_MAX, Record};
use crate::link::SendError;
use crate::time::Now;
use crate::wire;

impl Node {
    /// Sends to a peer by its own path, else by way of the member nearest to
    /// it that has one.
    pub(super) fn send(&mut self, to: NodeId, lane: Lane, message: Message, now: Now) {
        self.counters.add(message.counter());
        let bytes = wire::encode(&message);
        if self.links.can_send(&to, now.mono) {
            return self.transmit(to, lane, &bytes, now);
        }
        // Not to be signed in vain: a peer that is gone is asked for long.
        if self.next_hop(&to, &[], &[], now).is_none() {
            return self.counters.add("message_unroutable");
        }
        let mut routed = Routed::sign(&self.links.me, to, lane, bytes, now.unix_ms);
        let homes = self.links.record(&to).map(Record::homes);
        routed.homes = homes.unwrap_or_default().to_vec();
        self.pass_on(routed, now);
    }

    pub(super) fn on_routed(&mut self, peer: NodeId, mut routed: Routed, now: Now) {
        let is_new_way = routed.source != peer
            && !self.links.is_up(&routed.source)
            && self.returns.get(&routed.source) != Some(&peer);
        // One whose record is not known here may be known to the target.
        if (is_new_way || routed.target == self.id())
            && let Some(record) = self.links.record(&routed.source)
            && let Err(error) = routed.check(record, &self.config.network, now.unix_ms)
        {
            return self.counters.add(error.counter());
        }
        if is_new_way {
            if self.returns.len() >= RETURN_COUNT_MAX {
                self.returns.clear();
            }
            self.returns.insert(routed.source, peer);
        }
        if routed.target == self.id() {
            return match wire::decode::<Message>(&routed.body) {
                Ok(message) if self.is_known(&routed, &message, now) => {
                    self.on_message(routed.source, message, now);
                }
                Ok(_) => self.counters.add("message_unknown_sender"),
                Err(_) => self.counters.add("message_malformed"),
            };
        }
        if routed.pass(self.id()) {
            self.counters.add("messages_passed_on");
            self.pass_on(routed, now);
        } else {
            self.counters.add("message_hops_exceeded");
        }
    }

    /// Whether the source of a message is known, be it by what it says.
    fn is_known(&mut self, routed: &Routed, message: &Message, now: Now) -> bool {
        if self.links.record(&routed.source).is_some() {
            return true;
        }
        let network = &self.config.network;
        let Message::Ring(message) = message else {
            return false;
        };
        let record = message.introduction(&routed.source).filter(|record| {
            record.verify(network).is_ok() && routed.check(record, network, now.unix_ms).is_ok()
        });
        record.is_some_and(|record| self.links.learn(record, now.mono))
    }

    fn pass_on(&mut self, routed: Routed, now: Now) {
        let Some(next) = self.next_hop(&routed.target, &routed.homes, &routed.trail, now) else {
            return self.counters.add("message_unroutable");
        };
        let lane = routed.lane;
        self.counters.add("sent_routed");
        let bytes = wire::encode(&Message::Routed(routed));
        self.transmit(next, lane, &bytes, now);
    }

    /// The peer to hand a message to that none of the trail had a path for:
    /// its target, else its home relay, else whoever brought news of it, else
    /// this node's own relay, which knows others, else who is nearest to it.
    pub(super) fn next_hop(
        &self,
        target: &NodeId,
        homes: &[NodeId],
        trail: &[NodeId],
        now: Now,
    ) -> Option<NodeId> {
        if self.links.can_send(target, now.mono) {
            return Some(*target);
        }
        let is_new = |id: &NodeId| *id != self.id() && !trail.contains(id);
        // A relay is at home at others in its turn.
        let homes_of = |id: &NodeId| self.links.record(id).map_or(&[][..], Record::homes);
        let told = homes.iter().take(HOME_COUNT_MAX);
        let homes = homes_of(target).iter().chain(told);
        let mut homes = homes.clone().chain(homes.flat_map(homes_of));
        let home = homes.find(|id| is_new(id) && self.links.can_send(id, now.mono));
        let back = self.returns.get(target);
        let back = home.or_else(|| back.filter(|via| is_new(via) && self.links.is_up(via)));
        back.copied().or_else(|| {
            let mut relays = self.links.relay_members();
            let relay = relays.find(|id| is_new(id) && self.links.is_up(id));
            let members = self.ring.members().alive().map(|(id, _)| *id);
            let members = members.filter(|id| is_new(id) && self.links.is_up(id));
            relay.or_else(|| members.min_by_key(|id| id.distance_to(target)))
        })
    }

    fn transmit(&mut self, to: NodeId, lane: Lane, bytes: &[u8], now: Now) {
        match self.links.send(&to, lane, bytes, now) {
            Ok(()) => {}
            Err(SendError::NoPath) => self.counters.add("message_unroutable"),
            Err(SendError::Full) => self.counters.add("message_dropped_full"),
        }
    }
}
