//! What comes in by the driver's links.

use core::time::Duration;

use super::arrival::{Arrival, Refused};
use super::frame::Frame;
use super::lanes::Lanes;
use super::peer::Peer;
use super::signal::SignalError;
use super::{DownCause, LinkEvent, Links, next_link};
use crate::attach::FromRelay;
use crate::event::{Description, Lane, LinkId};
use crate::id::NodeId;
use crate::identity::Record;
use crate::status::LinkKind;
use crate::time::{Instant, Now};

/// How long after a freeze the ends of ways tell nothing of those at the other
/// end, who gave this node up meanwhile. The last to notice that it has no way
/// any more is ICE, after some 25 s.
const AFTERMATH: Duration = Duration::from_secs(30);

impl Links {
    pub(crate) fn on_up(&mut self, link: LinkId, now: Now) {
        if self.relays.owns(link) {
            self.lanes.insert(link, Lanes::default());
        } else if let Some(peer) = self.directs.on_up(link, now.mono) {
            self.lanes.insert(link, Lanes::default());
            self.set_up(&peer, now.mono);
            if let Some(peer) = self.peers.get_mut(&peer) {
                peer.direct_heard_at = now.mono;
            }
            self.events.push_back(LinkEvent::Changed);
            self.ping(&peer, now);
        }
    }

    pub(crate) fn on_down(&mut self, link: LinkId, reason: &str, now: Instant) {
        self.lanes.remove(&link);
        if self.relays.owns(link) {
            let was_attached = self.relays.is_attached(link);
            let rng = &mut self.me.rng;
            self.relays.on_down(link, reason, rng, now);
            if was_attached && self.is_thawing(now) {
                self.relays.hurry(now);
            }
        } else if let Some(peer) = self.directs.on_down(&mut self.me, link, reason, now) {
            self.counters.add("direct_closed");
            self.events.push_back(LinkEvent::Changed);
            self.settle_down(&peer, self.cause(now));
            // A circuit may be open still, to a peer that was killed.
            self.doubt(peer);
        }
        self.pump(now);
    }

    /// What a way that closed tells of its other end.
    pub(super) fn cause(&self, now: Instant) -> DownCause {
        match self.is_thawing(now) {
            true => DownCause::Lost,
            false => DownCause::Closed,
        }
    }

    fn is_thawing(&self, now: Instant) -> bool {
        self.late_at.is_some_and(|at| now.since(at) < AFTERMATH)
    }

    pub(crate) fn on_drained(&mut self, link: LinkId, lane: Lane, bytes: usize) {
        if let Some(lanes) = self.lanes.get_mut(&link) {
            lanes.drained(lane, bytes);
        }
        self.flush(link);
    }

    pub(crate) fn on_local(&mut self, description: Description, now: Now) {
        let peer = self.directs.peer(description.link);
        let record = peer
            .and_then(|peer| self.peers.get(&peer))
            .map(|peer| &peer.record);
        self.directs.on_local(&self.me, description, record, now);
        self.pump(now.mono);
    }

    /// A signed description, by whatever way it came.
    pub(crate) fn on_signal(&mut self, bytes: &[u8], now: Now) {
        let (peers, count) = (&self.peers, &mut self.link_count);
        let result = self.directs.on_signal(
            &mut self.me,
            bytes,
            |peer| peers.get(peer).map(|peer| &peer.record),
            now,
            || next_link(count),
            &mut self.outputs,
        );
        match result {
            Ok(()) => {}
            Err(SignalError::Signature) => self.counters.add("signal_bad_signature"),
            Err(SignalError::Epoch) => self.counters.add("signal_misaddressed"),
            Err(SignalError::Expired) => self.counters.add("signal_expired"),
            Err(SignalError::Text) => self.counters.add("signal_malformed"),
            Err(SignalError::Replayed) => self.counters.add("signal_replayed"),
            Err(SignalError::Late) => self.counters.add("signal_late"),
        }
    }

    pub(crate) fn on_frame(&mut self, link: LinkId, bytes: &[u8], now: Now) {
        if self.relays.owns(link) {
            self.on_relay_frame(link, bytes, now);
        } else if let Some(peer) = self.directs.peer(link) {
            self.on_peer_frame(&peer, LinkKind::Direct, bytes, now);
        }
        self.pump(now.mono);
    }

    fn on_relay_frame(&mut self, link: LinkId, bytes: &[u8], now: Now) {
        match FromRelay::decode(bytes) {
            Ok((FromRelay::Deliver { from }, body)) if self.relays.is_attached(link) => {
                self.on_delivery(link, from, body, now);
            }
            Ok((FromRelay::Gone { peer }, [])) if self.relays.is_attached(link) => {
                self.on_gone(link, &peer, now.mono);
            }
            Ok((frame, [])) => {
                let answer = self.relays.on_frame(&self.me, link, &frame, now.mono);
                if let Some((lane, bytes)) = answer {
                    let _ = self.push(link, lane, bytes);
                }
            }
            _ => self.counters.add("relay_malformed"),
        }
    }

    fn on_delivery(&mut self, link: LinkId, from: NodeId, body: &[u8], now: Now) {
        let arrival = self.circuits.on_body(&mut self.me, link, from, body, now);
        self.flush_circuits();
        match arrival {
            Arrival::Frame { opened, frame } => {
                if let Some(record) = opened {
                    self.learn_from_peer(&record, now.mono);
                    self.set_up(&from, now.mono);
                }
                self.on_peer_frame(&from, LinkKind::Relay, &frame, now);
            }
            Arrival::Opened => {
                self.set_up(&from, now.mono);
                if self.directs.link(&from).is_none() {
                    self.ping(&from, now);
                }
            }
            Arrival::Stale(record) => {
                if record.verify(&self.me.network).is_ok() {
                    self.learn(&record, now.mono);
                }
                self.settle_down(&from, DownCause::Closed);
            }
            // It answered: it has given this node up, or started again.
            Arrival::Reset => self.settle_down(&from, DownCause::Lost),
            Arrival::Broken => {
                self.counters.add(Refused::Forged.counter());
                self.settle_down(&from, DownCause::Closed);
            }
            Arrival::Nothing => {}
            Arrival::Refused(refused) => self.counters.add(refused.counter()),
        }
    }

    /// A record that came with its owner's own handshake: an older epoch
    /// there is impossible unless this node was lied to about a newer one.
    fn learn_from_peer(&mut self, record: &Record, now: Instant) {
        let id = record.id();
        let known = self.peers.get(&id).map(|peer| &peer.record);
        if known.is_some_and(|known| known.facts().epoch == record.facts().epoch) {
            self.learn(record, now);
        } else {
            if let Some(peer) = self.peers.get_mut(&id) {
                let was_up = core::mem::replace(&mut peer.up, false);
                let epoch = peer.record.facts().epoch;
                self.directs.forget(&id, &mut self.outputs);
                if was_up {
                    self.events.push_back(LinkEvent::Down {
                        peer: id,
                        epoch,
                        cause: DownCause::Closed,
                    });
                }
            } else {
                self.make_room();
            }
            self.peers.insert(
                id,
                Peer::new(&self.me.identity.id(), record.clone(), now).into(),
            );
        }
    }

    /// A relay does not have a peer. Where the peer is at home, that tells
    /// something of the peer; elsewhere it was only looked for.
    fn on_gone(&mut self, relay: LinkId, id: &NodeId, now: Instant) {
        self.circuits.close_at(id, relay);
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        peer.set_absent(relay, now);
        let homes = peer.record.homes();
        let is_home = |member: &NodeId| homes.contains(member);
        let at_home = self.relays.member(relay).as_ref().is_some_and(is_home);
        if at_home && self.way(id, now).is_none() {
            self.report_down(id, DownCause::Closed);
        } else {
            self.settle_down(id, DownCause::Lost);
        }
        // A direct link may be open still, to a peer that was killed.
        self.doubt(*id);
    }

    fn on_peer_frame(&mut self, from: &NodeId, kind: LinkKind, bytes: &[u8], now: Now) {
        let Some(peer) = self.peers.get_mut(from) else {
            return;
        };
        peer.heard_at = now.mono;
        if kind == LinkKind::Direct {
            peer.direct_heard_at = now.mono;
        }
        peer.set_found();
        self.doubted.remove(from);
        peer.traffic(kind).received += bytes.len() as u64;
        let Ok((frame, body)) = Frame::decode(bytes) else {
            self.counters.add("frame_malformed");
            return;
        };
        match frame {
            Frame::Message => self.events.push_back(LinkEvent::Message {
                peer: *from,
                bytes: body.to_vec(),
            }),
            Frame::Session => self.events.push_back(LinkEvent::Session {
                peer: *from,
                kind,
                bytes: body.to_vec(),
            }),
            Frame::Fragment {
                message,
                index,
                count,
            } => match peer.assembly.add(message, index, count, body) {
                Ok(Some(bytes)) => self
                    .events
                    .push_back(LinkEvent::Message { peer: *from, bytes }),
                Ok(None) => {}
                Err(_) => self.counters.add("frame_malformed"),
            },
            Frame::Ping { nonce } => {
                // By the way that the question came: another may be silent.
                self.counters.add("sent_pong");
                let pong = Frame::Pong { nonce }.encode(&[]);
                let _ = match kind {
                    LinkKind::Direct => self.send_frame(from, Lane::Control, pong, now),
                    LinkKind::Relay => self.send_relayed(from, Lane::Control, pong, now),
                };
            }
            Frame::Pong { nonce } => {
                peer.on_pong(nonce, now.mono);
                if kind == LinkKind::Relay {
                    self.drop_silent_direct(from, now.mono);
                }
            }
            Frame::Release if kind == LinkKind::Direct => {
                let link = self.directs.on_released(from, now.mono, &mut self.outputs);
                if let Some(link) = link {
                    self.lanes.remove(&link);
                    self.counters.add("direct_released");
                    self.events.push_back(LinkEvent::Changed);
                    self.settle_down(from, DownCause::Lost);
                }
            }
            Frame::Release => self.counters.add("frame_malformed"),
            Frame::Bye => {
                self.end_peer(from, DownCause::Closed);
                if let Some(peer) = self.peers.get_mut(from) {
                    peer.set_gone(now.mono);
                }
            }
        }
    }
}
