//! Links: how frames reach other peers, and which way is best.
//!
//! A peer is reached by a **direct** link (WebRTC) where there is one, else by
//! a sealed **circuit** through a relay that both are attached to. Everything
//! works over circuits at once; direct links come up behind them. This layer
//! knows nothing of rings or keys.

mod arrival;
mod circuit;
mod direct;
mod frame;
mod input;
mod lanes;
mod offers;
mod pace;
mod peer;
mod probe;
mod relay;
mod seal;
mod send;
mod session;
mod signal;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use self::circuit::Circuits;
use self::direct::{DirectEvent, Directs};
use self::frame::Frame;
use self::lanes::Lanes;
use self::peer::Peer;
use self::relay::{RelayEvent, Relays};
pub(crate) use self::session::BODY_LEN_MAX;
use crate::counter::Counters;
use crate::event::{Lane, LinkId, Output};
use crate::flat::{FlatMap, FlatSet};
use crate::id::NodeId;
use crate::identity::{Identity, Network, Record};
use crate::rng::Rng;
use crate::status::{LinkKind, LinkStatus, RelayStatus};
use crate::time::{Instant, Now};
use crate::trouble::{Trouble, TroubleKind};

/// Peers of which a node keeps a record. Beyond it the ones without a path
/// that were heard of longest ago are forgotten.
const PEER_COUNT_MAX: usize = 4096;

/// What this node is, as every part of this layer needs it.
#[derive(Debug)]
pub(crate) struct Me {
    pub(crate) identity: Identity,
    pub(crate) network: Network,
    pub(crate) record: Record,
    pub(crate) rng: Rng,
}

/// What this layer tells the node.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    /// A way to a peer is open; its record is right.
    Up { peer: NodeId },
    /// The last way to a peer closed, as it was in that epoch: it may have
    /// started again since.
    Down {
        peer: NodeId,
        epoch: u64,
        cause: DownCause,
    },
    /// A relay took this node in; its own member is a way into the ring.
    Attached { member: NodeId },
    /// A relay that had taken this node in is lost.
    Detached { member: NodeId },
    /// A whole message from a peer.
    Message { peer: NodeId, bytes: Vec<u8> },
    /// A frame of a session, and what it came by.
    Session {
        peer: NodeId,
        kind: LinkKind,
        bytes: Vec<u8>,
    },
    /// A signed description is to be brought to a peer.
    Signal { to: NodeId, bytes: Vec<u8> },
    /// The set of paths changed.
    Changed,
    /// Something a person should read.
    Trouble(Trouble),
}

/// Why the last way to a peer closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DownCause {
    /// Its transport closed, or its relay says that it is gone.
    Closed,
    /// It does not answer.
    Silent,
    /// The way was lost, which says nothing about the peer.
    Lost,
}

/// Nothing can be sent to a peer now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendError {
    /// No way to it is known.
    NoPath,
    /// The way is full: too much waits already.
    Full,
}

/// All links of a node.
#[derive(Debug)]
pub(crate) struct Links {
    pub(crate) me: Me,
    relays: Relays,
    circuits: Circuits,
    directs: Directs,
    peers: FlatMap<NodeId, Box<Peer>>,
    /// Open driver links.
    lanes: FlatMap<LinkId, Lanes>,
    watched: FlatSet<NodeId>,
    /// Peers whose silence is in question, until they are heard or given up.
    doubted: FlatSet<NodeId>,
    /// When this node was found to have been frozen last.
    late_at: Option<Instant>,
    link_count: u64,
    pub(crate) outputs: VecDeque<Output>,
    events: VecDeque<LinkEvent>,
    pub(crate) counters: Counters,
}

impl Links {
    pub(crate) fn new(me: Me, relays: &[String], direct_budget: usize, now: Instant) -> Self {
        Self {
            me,
            relays: Relays::new(relays, now),
            circuits: Circuits::default(),
            directs: Directs::new(direct_budget),
            peers: FlatMap::new(),
            lanes: FlatMap::new(),
            watched: FlatSet::new(),
            doubted: FlatSet::new(),
            late_at: None,
            link_count: 0,
            outputs: VecDeque::new(),
            events: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    pub(crate) fn poll_event(&mut self) -> Option<LinkEvent> {
        self.events.pop_front()
    }

    /// Keeps a record that was verified. A newer epoch ends all that was held
    /// with the older one. Returns whether it is news.
    pub(crate) fn learn(&mut self, record: &Record, now: Instant) -> bool {
        let id = record.id();
        if id == self.me.identity.id() {
            return false;
        }
        match self.peers.get_mut(&id) {
            Some(peer) if peer.record.facts().epoch >= record.facts().epoch => {
                if record.is_newer_than(&peer.record) {
                    peer.record = record.clone();
                }
                false
            }
            Some(_) => {
                self.end_peer(&id, DownCause::Closed);
                self.peers.insert(
                    id,
                    Peer::new(&self.me.identity.id(), record.clone(), now).into(),
                );
                true
            }
            None => {
                self.make_room();
                self.peers.insert(
                    id,
                    Peer::new(&self.me.identity.id(), record.clone(), now).into(),
                );
                true
            }
        }
    }

    /// The newest record known of a peer.
    pub(crate) fn record(&self, peer: &NodeId) -> Option<&Record> {
        self.peers.get(peer).map(|peer| &peer.record)
    }

    /// The members of the relays that this node is attached to.
    pub(crate) fn relay_members(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.relays.attached().map(|(_, member)| member)
    }

    /// Whether a way to a peer is open.
    pub(crate) fn is_up(&self, peer: &NodeId) -> bool {
        self.peers.get(peer).is_some_and(|peer| peer.up)
    }

    /// Whether a message to a peer would find a way, or could try one.
    pub(crate) fn can_send(&self, peer: &NodeId, now: Instant) -> bool {
        self.directs.link(peer).is_some() || self.circuits.has(peer) || self.can_open(peer, now)
    }

    /// Round-trip time-out of a peer, for those who wait for its answers; once
    /// measured.
    pub(crate) fn timeout(&self, peer: &NodeId) -> Option<Duration> {
        let rtt = &self.peers.get(peer)?.rtt;
        rtt.smoothed().map(|_| rtt.timeout())
    }

    /// Chooses the peers that are to have direct links, the most wanted first.
    pub(crate) fn want(&mut self, peers: Vec<NodeId>) {
        self.directs.want(peers);
    }

    /// Chooses the peers whose silence is to be noticed.
    pub(crate) fn watch(&mut self, peers: FlatSet<NodeId>) {
        self.watched = peers;
    }

    /// Asks a peer at once whether it lives, if a way to it is open: it does
    /// not answer the layer above, or something else says that it may be gone.
    pub(crate) fn doubt(&mut self, peer: NodeId) {
        if self.is_up(&peer) {
            self.doubted.insert(peer);
        }
    }

    /// Hangs up on peers that left the ring.
    pub(crate) fn drop_left(&mut self, has_left: impl Fn(&NodeId) -> bool) {
        let left: Vec<NodeId> = self
            .peers
            .iter()
            .filter(|(id, peer)| peer.up && has_left(id))
            .map(|(id, _)| *id)
            .collect();
        for peer in left {
            self.end_peer(&peer, DownCause::Closed);
        }
    }

    /// Says goodbye to all, and closes everything.
    pub(crate) fn leave(&mut self, now: Now) {
        let open: Vec<NodeId> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.up)
            .map(|(id, _)| *id)
            .collect();
        for peer in open {
            let _ = self.send_frame(&peer, Lane::Control, Frame::Bye.encode(&[]), now);
        }
    }

    /// The network is back, or time jumped: try everything at once.
    pub(crate) fn hurry(&mut self, now: Instant) {
        self.relays.hurry(now);
    }

    /// This node was frozen: nobody was silent for as long as it seems.
    pub(crate) fn on_late(&mut self, now: Instant) {
        self.hurry(now);
        self.late_at = Some(now);
        for peer in self.peers.values_mut() {
            peer.forgive(now);
        }
    }

    // ---- timers ----

    pub(crate) fn on_timeout(&mut self, now: Now) {
        let count = &mut self.link_count;
        let rng = &mut self.me.rng;
        self.relays
            .on_timeout(rng, now.mono, || next_link(count), &mut self.outputs);
        for peer in self.circuits.on_timeout(now.mono) {
            if let Some(peer) = self.peers.get_mut(&peer) {
                peer.set_gone(now.mono);
            }
            self.report_down(&peer, DownCause::Silent);
        }
        self.flush_circuits();
        self.start_direct(now.mono);
        self.probe(now);
        self.pump(now.mono);
    }

    /// Starts wanted direct links that are due.
    pub(crate) fn start_direct(&mut self, now: Instant) {
        let (peers, count) = (&self.peers, &mut self.link_count);
        self.directs.on_timeout(
            &mut self.me,
            now,
            |id| peers.get(id).map(|peer| &peer.record),
            || next_link(count),
            &mut self.outputs,
        );
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let probes = self.watched.union(&self.doubted).filter_map(|id| {
            let doubted = self.doubted.contains(id);
            self.peers.get(id)?.probe_at(doubted)
        });
        let record = |id: &NodeId| self.peers.get(id).map(|peer| &peer.record);
        let direct = self.directs.poll_timeout(&self.me, record);
        [
            self.relays.poll_timeout(),
            self.circuits.poll_timeout(),
            direct,
            probes.min(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    // ---- what a person sees ----

    pub(crate) fn link_status(&self) -> Vec<LinkStatus> {
        let up = self.peers.iter().filter(|(_, peer)| peer.up);
        up.map(|(id, peer)| {
            let kind = match self.directs.link(id) {
                Some(_) => LinkKind::Direct,
                None => LinkKind::Relay,
            };
            peer.status(*id, kind)
        })
        .collect()
    }

    pub(crate) fn relay_status(&self) -> Vec<RelayStatus> {
        self.relays.status()
    }

    // ---- details ----

    fn set_up(&mut self, id: &NodeId, now: Instant) {
        if let Some(peer) = self.peers.get_mut(id) {
            peer.heard_at = now;
            peer.set_found();
            if !core::mem::replace(&mut peer.up, true) {
                self.events.push_back(LinkEvent::Up { peer: *id });
                self.events.push_back(LinkEvent::Changed);
            }
        }
    }

    /// Says that a peer is down if no way to it is left.
    fn settle_down(&mut self, id: &NodeId, cause: DownCause) {
        if self.peers.get(id).is_some_and(|peer| peer.up) {
            self.report_down(id, cause);
        }
    }

    /// The same, even of a peer to which no way was open before: one was
    /// tried, in vain.
    fn report_down(&mut self, id: &NodeId, cause: DownCause) {
        if self.directs.link(id).is_some() || self.circuits.is_open(id) {
            return;
        }
        if let Some(peer) = self.peers.get_mut(id) {
            if core::mem::replace(&mut peer.up, false) {
                self.events.push_back(LinkEvent::Changed);
            }
            peer.rest();
            self.doubted.remove(id);
            self.events.push_back(LinkEvent::Down {
                peer: *id,
                epoch: peer.record.facts().epoch,
                cause,
            });
        }
    }

    fn end_peer(&mut self, id: &NodeId, cause: DownCause) {
        if let Some(link) = self.directs.link(id) {
            self.lanes.remove(&link);
        }
        self.directs.forget(id, &mut self.outputs);
        self.circuits.close(id);
        self.settle_down(id, cause);
    }

    fn make_room(&mut self) {
        if self.peers.len() < PEER_COUNT_MAX {
            return;
        }
        let oldest = self
            .peers
            .iter()
            .filter(|(_, peer)| !peer.up)
            .min_by_key(|(_, peer)| peer.heard_at);
        if let Some(id) = oldest.map(|(id, _)| *id) {
            self.circuits.close(&id);
            self.directs.forget(&id, &mut self.outputs);
            self.peers.remove(&id);
        }
    }

    /// Carries what the parts of this layer have to say to one another.
    fn pump(&mut self, now: Instant) {
        while let Some(event) = self.relays.events.pop_front() {
            match event {
                RelayEvent::Attached { member } => {
                    self.learn(&member, now);
                    let member = member.id();
                    self.me.add_home(member);
                    self.events.push_back(LinkEvent::Attached { member });
                    for peer in self.peers.values_mut() {
                        peer.set_found();
                    }
                }
                RelayEvent::Lost { link, member } => {
                    self.lanes.remove(&link);
                    self.counters.add("relay_lost");
                    for peer in self.circuits.close_via(link) {
                        // One that is in doubt already lost its last way.
                        let cause = match self.doubted.contains(&peer) {
                            true => self.cause(now),
                            false => DownCause::Lost,
                        };
                        self.settle_down(&peer, cause);
                    }
                    if let Some(member) = member {
                        self.events.push_back(LinkEvent::Detached { member });
                        self.doubt(member);
                    }
                }
                RelayEvent::Trouble(trouble) => {
                    self.events.push_back(LinkEvent::Trouble(trouble));
                }
            }
            self.events.push_back(LinkEvent::Changed);
            let relayed = self.relays.attached().next().is_some();
            self.directs.set_may_release(relayed);
        }
        while let Some(event) = self.directs.events.pop_front() {
            match event {
                DirectEvent::Signal { to, bytes } => {
                    self.events.push_back(LinkEvent::Signal { to, bytes });
                }
                DirectEvent::Released { peer, link } => {
                    let release = Frame::Release.encode(&[]);
                    let _ = self.push(link, Lane::Control, release);
                    self.counters.add("direct_let_go");
                    self.events.push_back(LinkEvent::Changed);
                    self.settle_down(&peer, DownCause::Lost);
                }
                DirectEvent::Failed { peer, reason } => {
                    self.counters.add("direct_failed");
                    let words = format!("no direct link to {}: {reason}", peer.short());
                    let trouble = Trouble::new(TroubleKind::NoDirectLink, words);
                    self.events.push_back(LinkEvent::Trouble(trouble));
                }
            }
        }
    }
}

fn next_link(count: &mut u64) -> LinkId {
    *count += 1;
    LinkId(*count)
}
