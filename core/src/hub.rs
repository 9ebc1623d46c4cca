//! The relay's pure half: who is attached, what is forwarded, what is borne.
//!
//! A hub hands sealed frames from one attached node to another of the same
//! network. It reads nothing but the address, and keeps nothing. It lives in
//! core so that the simulator drives the very hub that relays run.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use crate::attach::{Attach, FromRelay, Refusal, ToRelay};
use crate::counter::Counters;
use crate::id::NodeId;
use crate::identity::{Network, Record};
use crate::rng::Rng;
use crate::time::Instant;
use crate::wire::{FRAME_LEN_MAX, PROTOCOL_VERSION};

/// How long a connection may take to attach.
const ATTACH_TIMEOUT: Duration = Duration::from_secs(10);

/// What one hub bears.
#[derive(Clone, Debug)]
pub struct HubLimits {
    /// Connections in all; a further one is refused.
    pub connections: usize,
    /// Bytes a node may send each second before its connection is read more
    /// slowly.
    pub bytes_per_second: u64,
    /// Frames likewise.
    pub frames_per_second: u64,
    /// Bytes that may wait for one node; one that reads more slowly is cut
    /// off.
    pub queue_bytes: usize,
    /// Peers a node is told the end of; of further ones it learns when it
    /// sends to them.
    pub correspondents: usize,
}

impl Default for HubLimits {
    fn default() -> Self {
        Self {
            connections: 4096,
            bytes_per_second: 64 << 20,
            frames_per_second: 50_000,
            queue_bytes: 32 << 20,
            correspondents: 1024,
        }
    }
}

/// A connection to the hub; the driver numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// What the hub asks of its driver.
#[derive(Debug, PartialEq, Eq)]
pub enum HubOutput {
    /// Send a message.
    Send {
        /// To whom.
        connection: ConnectionId,
        /// The message.
        bytes: Vec<u8>,
    },
    /// Read nothing more from a connection until this instant.
    Pause {
        /// Which.
        connection: ConnectionId,
        /// Until when.
        until: Instant,
    },
    /// Close a connection, once all that was sent to it has left. The hub has
    /// forgotten it already.
    Close {
        /// Which.
        connection: ConnectionId,
        /// Why.
        why: Refusal,
    },
}

/// A relay's hub.
#[derive(Debug)]
pub struct Hub {
    /// The networks served, with the relay's own member in each.
    networks: Vec<(Network, Record)>,
    limits: HubLimits,
    connections: BTreeMap<ConnectionId, Connection>,
    attached: BTreeMap<(usize, NodeId), ConnectionId>,
    rng: Rng,
    outputs: VecDeque<HubOutput>,
    counters: Counters,
}

#[derive(Debug)]
struct Connection {
    state: State,
    queued: usize,
    /// When this node will have paid for what it sent.
    free_at: Instant,
}

#[derive(Debug)]
enum State {
    Challenged {
        nonce: [u8; 32],
        deadline: Instant,
    },
    Attached {
        network: usize,
        id: NodeId,
        /// Those it exchanged frames with: they are told when it goes.
        correspondents: BTreeSet<NodeId>,
    },
}

impl Hub {
    /// A hub for these networks, with the relay's own member of each.
    #[must_use]
    pub fn new(networks: Vec<(Network, Record)>, limits: HubLimits, seed: [u8; 32]) -> Self {
        Self {
            networks,
            limits,
            connections: BTreeMap::new(),
            attached: BTreeMap::new(),
            rng: Rng::from_seed(seed),
            outputs: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// A new connection: it is challenged, or refused when there are too many.
    pub fn on_open(&mut self, connection: ConnectionId, now: Instant) {
        if self.connections.len() >= self.limits.connections {
            return self.refuse(connection, Refusal::Full);
        }
        let nonce = self.rng.bytes();
        let state = State::Challenged {
            nonce,
            deadline: now + ATTACH_TIMEOUT,
        };
        let opened = Connection {
            state,
            queued: 0,
            free_at: now,
        };
        self.connections.insert(connection, opened);
        let version = PROTOCOL_VERSION;
        let challenge = FromRelay::Challenge { version, nonce };
        self.send(connection, challenge.encode());
    }

    /// A connection closed.
    pub fn on_close(&mut self, connection: ConnectionId) {
        let Some(closed) = self.connections.remove(&connection) else {
            return;
        };
        let State::Attached {
            network,
            id,
            correspondents,
        } = closed.state
        else {
            return;
        };
        self.attached.remove(&(network, id));
        for peer in correspondents {
            if let Some(other) = self.attached.get(&(network, peer)).copied() {
                if let Some(State::Attached { correspondents, .. }) =
                    self.connections.get_mut(&other).map(|open| &mut open.state)
                {
                    correspondents.remove(&id);
                }
                self.send(other, FromRelay::Gone { peer: id }.encode());
            }
        }
    }

    /// Bytes of earlier [`HubOutput::Send`]s left for the network.
    pub fn on_drained(&mut self, connection: ConnectionId, bytes: usize) {
        if let Some(open) = self.connections.get_mut(&connection) {
            open.queued = open.queued.saturating_sub(bytes);
        }
    }

    /// A message from a connection.
    pub fn on_frame(&mut self, connection: ConnectionId, bytes: &[u8], now: Instant) {
        let Some(open) = self.connections.get(&connection) else {
            return;
        };
        if bytes.len() > FRAME_LEN_MAX {
            return self.refuse(connection, Refusal::Malformed);
        }
        match (ToRelay::decode(bytes), &open.state) {
            (Ok((ToRelay::Attach(attach), [])), State::Challenged { nonce, .. }) => {
                let nonce = *nonce;
                self.on_attach(connection, &attach, &nonce);
            }
            (Ok((ToRelay::Forward { to }, body)), State::Attached { network, id, .. }) => {
                let (network, from) = (*network, *id);
                self.forward(connection, network, (from, to), body);
                self.charge(connection, bytes.len() as u64, now);
            }
            _ => self.refuse(connection, Refusal::Malformed),
        }
    }

    fn on_attach(&mut self, connection: ConnectionId, attach: &Attach, nonce: &[u8; 32]) {
        let named = self
            .networks
            .iter()
            .enumerate()
            .find(|(_, (network, _))| network.name() == attach.network);
        let Some((index, (network, member))) = named else {
            return self.refuse(connection, Refusal::Network);
        };
        if let Err(refusal) = attach.verify(nonce, network) {
            return self.refuse(connection, refusal);
        }
        let id = attach.record.id();
        let welcome = FromRelay::Welcome {
            member: member.clone(),
        };
        if let Some(before) = self.attached.get(&(index, id)).copied() {
            self.refuse(before, Refusal::Replaced);
        }
        self.attached.insert((index, id), connection);
        if let Some(open) = self.connections.get_mut(&connection) {
            open.state = State::Attached {
                network: index,
                id,
                correspondents: BTreeSet::new(),
            };
        }
        self.counters.add("attached");
        self.send(connection, welcome.encode());
    }

    fn forward(
        &mut self,
        connection: ConnectionId,
        network: usize,
        (from, to): (NodeId, NodeId),
        body: &[u8],
    ) {
        let Some(other) = self.attached.get(&(network, to)).copied() else {
            self.counters.add("forwards_unreachable");
            return self.send(connection, FromRelay::Gone { peer: to }.encode());
        };
        self.note(connection, to);
        self.note(other, from);
        self.counters.add("forwards");
        self.send(other, FromRelay::deliver(from, body));
    }

    fn note(&mut self, connection: ConnectionId, peer: NodeId) {
        let limit = self.limits.correspondents;
        if let Some(State::Attached { correspondents, .. }) = self
            .connections
            .get_mut(&connection)
            .map(|open| &mut open.state)
            && correspondents.len() < limit
        {
            correspondents.insert(peer);
        }
    }

    /// Lets a node pay for what it sent with time, so that no one node's
    /// frames crowd out the others'.
    fn charge(&mut self, connection: ConnectionId, bytes: u64, now: Instant) {
        /// What may be sent ahead of payment.
        const BURST: Duration = Duration::from_millis(500);
        let by_bytes = bytes.saturating_mul(1_000_000) / self.limits.bytes_per_second.max(1);
        let by_frames = 1_000_000 / self.limits.frames_per_second.max(1);
        let Some(open) = self.connections.get_mut(&connection) else {
            return;
        };
        let price = Duration::from_micros(by_bytes.max(by_frames));
        open.free_at = open.free_at.max(now) + price;
        if open.free_at > now + BURST {
            let until = open.free_at - BURST / 2;
            self.counters.add("pauses");
            self.outputs
                .push_back(HubOutput::Pause { connection, until });
        }
    }

    /// Closes connections that do not attach.
    pub fn on_timeout(&mut self, now: Instant) {
        let late = self.connections.iter().filter(
            |(_, open)| matches!(open.state, State::Challenged { deadline, .. } if deadline <= now),
        );
        for connection in late.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.refuse(connection, Refusal::Limits);
        }
    }

    /// When [`Self::on_timeout`] has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let deadlines = self
            .connections
            .values()
            .filter_map(|open| match open.state {
                State::Challenged { deadline, .. } => Some(deadline),
                State::Attached { .. } => None,
            });
        deadlines.min()
    }

    /// The next thing to do; drain after every call.
    pub fn poll_output(&mut self) -> Option<HubOutput> {
        self.outputs.pop_front()
    }

    /// Nodes attached now, the relay's own members included.
    #[must_use]
    pub fn attached_count(&self) -> usize {
        self.attached.len()
    }

    /// Counters by name, since the start.
    pub fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.counters.iter()
    }

    fn send(&mut self, connection: ConnectionId, bytes: Vec<u8>) {
        let Some(open) = self.connections.get_mut(&connection) else {
            return;
        };
        if open.queued + bytes.len() > self.limits.queue_bytes {
            self.counters.add("slow_readers");
            return self.refuse(connection, Refusal::Limits);
        }
        open.queued += bytes.len();
        self.outputs
            .push_back(HubOutput::Send { connection, bytes });
    }

    fn refuse(&mut self, connection: ConnectionId, why: Refusal) {
        self.counters.add(match why {
            Refusal::Version => "refused_version",
            Refusal::Network => "refused_network",
            Refusal::Proof => "refused_proof",
            Refusal::Full => "refused_full",
            Refusal::Malformed => "refused_malformed",
            Refusal::Replaced => "refused_replaced",
            Refusal::Limits => "refused_limits",
        });
        let bytes = FromRelay::Refused(why).encode();
        self.outputs
            .push_back(HubOutput::Send { connection, bytes });
        self.on_close(connection);
        self.outputs.push_back(HubOutput::Close { connection, why });
    }
}
