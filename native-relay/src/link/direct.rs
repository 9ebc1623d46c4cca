//! Direct links: WebRTC data channels to peers, all over one UDP port.
//!
//! [`DirectLinks`] is owned by one task, which calls it whenever the socket is
//! readable, an instant has come or core wants something, and takes its events
//! after every call. It holds no lock and starts no thread.
//!
//! # What both ends keep to
//!
//! The browser's half (`web-peer/src/link/direct.rs`) mirrors these rules.
//!
//! - Two data channels, both reliable and ordered, are negotiated in advance:
//!   number 0, "control", carries the lanes control and key-value; number 1,
//!   "bulk", carries repair and bulk. The link is up once both are open.
//! - A message of core is one binary message, of at most 64 KiB - 1 bytes.
//! - Who closes a link sends the text message [`END_MARK`] as the last message
//!   of *each* channel, and closes the connection when the other side has, or
//!   after a second. Who has received both marks closes at once: all that was
//!   sent has arrived. A channel that closes without them has broken off.
//! - Candidates are part of the description. One that comes by itself is taken,
//!   and an mDNS name is passed over: its owner's own checks reveal the path.

mod candidates;
mod channel;
mod connection;
mod demux;
mod factory;
mod path;
mod socket;
mod stun;
mod timers;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use roundelay_core::event::{Description, Lane, LinkId, Role};

use connection::{Connection, Due, Verdict, Wire};
use demux::{Demux, Route};
use factory::Factory;
use socket::{Inbox, Socket};

/// The text message that ends a channel.
pub const END_MARK: &str = "end";

/// Receive calls of one [`DirectLinks::receive`], so that a flood leaves time
/// for other work.
const MAX_RECEIVES: usize = 16;

/// How direct links are set up.
#[derive(Clone, Debug)]
pub struct DirectConfig {
    /// The UDP address of all links. With a wildcard address, peers are told
    /// the address of every interface; `[::]` takes IPv4 too.
    pub bind: SocketAddr,
}

/// What happened on direct links.
#[derive(Debug, PartialEq, Eq)]
pub enum DirectEvent {
    /// Our description of a link, for the peer.
    Local(Description),
    /// A link is open for messages.
    Up {
        /// The link.
        link: LinkId,
    },
    /// A link has ended, or could not be opened; it is forgotten.
    Down {
        /// The link.
        link: LinkId,
        /// Why, in words for a person.
        reason: String,
    },
    /// A message has come in.
    Frame {
        /// The link.
        link: LinkId,
        /// The message.
        bytes: Vec<u8>,
    },
    /// The peer has acknowledged bytes of earlier sends.
    Drained {
        /// The link.
        link: LinkId,
        /// The lane.
        lane: Lane,
        /// How many bytes of messages.
        bytes: usize,
    },
}

/// Sums over the life of a [`DirectLinks`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DirectCounters {
    /// Datagrams that were handed to the system, or wait for it.
    pub datagrams_out: u64,
    /// Their bytes, without headers of UDP and below.
    pub datagram_bytes_out: u64,
    /// Datagrams that belong to no link.
    pub unknown_datagrams: u64,
    /// Datagrams that the system did not take.
    pub unsent_datagrams: u64,
}

/// All direct links of a node.
pub struct DirectLinks {
    socket: Socket,
    inbox: Inbox,
    demux: Demux,
    factory: Factory,
    links: HashMap<LinkId, Connection>,
    /// Links that were fed or given messages, and had no turn since.
    dirty: Vec<LinkId>,
    /// The latest instant that a caller has named.
    now: Instant,
    events: VecDeque<DirectEvent>,
    unknown: u64,
}

impl std::fmt::Debug for DirectLinks {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("DirectLinks")
            .field("local_addr", &self.local_addr())
            .field("links", &self.links.len())
            .finish_non_exhaustive()
    }
}

impl DirectLinks {
    /// Binds the port and makes the certificate of this process. Must be
    /// called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// If the port can not be bound, or the system gives no randomness.
    pub fn bind(config: &DirectConfig) -> io::Result<Self> {
        let (socket, inbox) = Socket::bind(config.bind)?;
        Ok(Self {
            factory: Factory::new(socket.window())?,
            socket,
            inbox,
            demux: Demux::default(),
            links: HashMap::new(),
            dirty: Vec::new(),
            now: Instant::now(),
            events: VecDeque::new(),
            unknown: 0,
        })
    }

    /// The address that the port is bound to.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.socket.local_addr()
    }

    /// Sums, for metrics.
    #[must_use]
    pub fn counters(&self) -> DirectCounters {
        DirectCounters {
            unknown_datagrams: self.unknown,
            ..self.socket.counters()
        }
    }

    /// Waits until [`DirectLinks::receive`] has something to do. Dropping the
    /// future loses nothing.
    ///
    /// # Errors
    ///
    /// If the runtime is shutting down.
    pub async fn readable(&self) -> io::Result<()> {
        self.socket.ready().await
    }

    /// Receives what the socket has, a bounded amount at a time. Most of what
    /// that leads to, acknowledgements above all, leaves with the next
    /// [`DirectLinks::flush`], beside the answers to what has come.
    pub fn receive(&mut self, now: Instant) {
        let mut inbox = std::mem::take(&mut self.inbox);
        for _ in 0..MAX_RECEIVES {
            let more = self.socket.receive(&mut inbox);
            for datagram in inbox.datagrams(self.socket.local_addr()) {
                self.on_datagram(datagram.from, datagram.to, datagram.bytes, now);
            }
            if !more {
                break;
            }
        }
        self.inbox = inbox;
        self.now = now;
        for link in &self.dirty {
            if let Some(connection) = self.links.get_mut(link) {
                connection.read(&mut self.events);
            }
        }
    }

    fn on_datagram(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8], now: Instant) {
        let Some(Route { link, proof }) = self.demux.route(from, bytes) else {
            self.unknown += 1;
            return;
        };
        if proof && let Some(older) = self.demux.prove(link, from) {
            self.end(older, "a newer link leads to the same address", now);
        }
        let Some(connection) = self.links.get_mut(&link) else {
            return;
        };
        match connection.feed(from, to, bytes, now) {
            Due::Now => {
                self.turn(link, now);
                // An acknowledgement that waits for the end of a long burst
                // lets the sender stand idle meanwhile.
                self.socket.flush();
            }
            Due::Soon => self.mark(link),
        }
    }

    /// When [`DirectLinks::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.links.values().filter_map(Connection::deadline).min()
    }

    /// Does what is due by now.
    pub fn handle_timeout(&mut self, now: Instant) {
        let due = |connection: &Connection| connection.deadline().is_some_and(|at| at <= now);
        let due: Vec<LinkId> = self
            .links
            .iter()
            .filter_map(|(link, connection)| due(connection).then_some(*link))
            .collect();
        for link in due {
            if let Some(connection) = self.links.get_mut(&link) {
                connection.on_timeout(now);
            }
            self.turn(link, now);
        }
        self.flush();
    }

    /// Opens a link: makes an offer at once, or waits for one. A number that
    /// is in use is left as it is.
    pub fn open(&mut self, link: LinkId, role: Role, now: Instant) {
        if self.links.contains_key(&link) {
            return;
        }
        let addresses = candidates::local_addresses(self.local_addr());
        let mut connection = match Connection::new(&self.factory, link, role, &addresses, now) {
            Ok(connection) => connection,
            Err(reason) => {
                self.events.push_back(DirectEvent::Down { link, reason });
                return;
            }
        };
        self.demux.add(link);
        let offer = match role {
            Role::Offerer => connection.offer(now).map(Some),
            Role::Answerer => Ok(None),
        };
        self.links.insert(link, connection);
        self.on_described(link, offer, now);
    }

    /// Takes a description or candidate that the peer made, verified by core.
    /// One that can not be used ends its link.
    pub fn remote(&mut self, description: &Description, now: Instant) {
        let link = description.link;
        let Some(connection) = self.links.get_mut(&link) else {
            return;
        };
        let answer = connection.remote(description.kind, &description.text, now);
        self.on_described(link, answer, now);
    }

    fn on_described(
        &mut self,
        link: LinkId,
        local: Result<Option<Description>, String>,
        now: Instant,
    ) {
        match local {
            Ok(local) => {
                if let Some(local) = local {
                    let lines = local.text.lines();
                    for ufrag in lines.filter_map(|line| line.strip_prefix("a=ice-ufrag:")) {
                        self.demux.learn_ufrag(link, ufrag.trim());
                    }
                    self.events.push_back(DirectEvent::Local(local));
                }
                self.turn(link, now);
            }
            Err(reason) => self.end(link, &reason, now),
        }
        self.flush();
    }

    /// Sends a message, whole and in order within its lane. What is sent
    /// before the link is up waits; on a link that has ended it is lost, as
    /// [`DirectEvent::Down`] has told. It leaves with the next
    /// [`DirectLinks::flush`], so that small messages share a datagram.
    pub fn send(&mut self, link: LinkId, lane: Lane, bytes: Vec<u8>, now: Instant) {
        if let Some(connection) = self.links.get_mut(&link) {
            connection.send(lane, bytes);
            self.now = now;
            self.mark(link);
        }
    }

    /// The link gets a turn with the next flush.
    fn mark(&mut self, link: LinkId) {
        if let Some(connection) = self.links.get_mut(&link)
            && !std::mem::replace(&mut connection.marked, true)
        {
            self.dirty.push(link);
        }
    }

    /// Closes a link. What was sent before is delivered first, for up to a
    /// second; no further event names the link.
    pub fn close(&mut self, link: LinkId, now: Instant) {
        if let Some(connection) = self.links.get_mut(&link) {
            connection.close(now);
            self.turn(link, now);
            self.events.retain(|event| event.link() != link);
        }
        self.flush();
    }

    /// Closes all links as [`DirectLinks::close`] does one; they are closed
    /// when [`DirectLinks::is_idle`].
    pub fn close_all(&mut self, now: Instant) {
        for link in self.links.keys().copied().collect::<Vec<_>>() {
            self.close(link, now);
        }
    }

    /// Whether there is no link, not even one that is being closed.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.links.is_empty()
    }

    /// The next thing that happened, if any.
    pub fn poll_event(&mut self) -> Option<DirectEvent> {
        self.events.pop_front()
    }

    /// Whether [`DirectLinks::poll_event`] has something to tell.
    #[must_use]
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// Sends what waits. Every other method but [`DirectLinks::send`] and
    /// [`DirectLinks::receive`] ends with it.
    pub fn flush(&mut self) {
        let now = self.now;
        for link in std::mem::take(&mut self.dirty) {
            self.turn(link, now);
        }
        self.socket.flush();
    }

    fn turn(&mut self, link: LinkId, now: Instant) {
        let Some(connection) = self.links.get_mut(&link) else {
            return;
        };
        let mut wire = LinkWire {
            link,
            socket: &mut self.socket,
            demux: &mut self.demux,
        };
        match connection.turn(now, &mut wire, &mut self.events) {
            Verdict::Alive => {}
            Verdict::Down(reason) => {
                self.forget(link);
                self.events.push_back(DirectEvent::Down { link, reason });
            }
            Verdict::Closed => self.forget(link),
        }
    }

    /// Ends a link from here, for a reason that the peer does not know of.
    fn end(&mut self, link: LinkId, reason: &str, now: Instant) {
        let Some(mut connection) = self.links.remove(&link) else {
            return;
        };
        let mut wire = LinkWire {
            link,
            socket: &mut self.socket,
            demux: &mut self.demux,
        };
        connection.shut(now, &mut wire);
        self.demux.remove(link);
        if !connection.is_closing() {
            let reason = reason.to_owned();
            self.events.push_back(DirectEvent::Down { link, reason });
        }
    }

    fn forget(&mut self, link: LinkId) {
        self.links.remove(&link);
        self.demux.remove(link);
    }
}

impl DirectEvent {
    fn link(&self) -> LinkId {
        match self {
            Self::Local(description) => description.link,
            Self::Up { link }
            | Self::Down { link, .. }
            | Self::Frame { link, .. }
            | Self::Drained { link, .. } => *link,
        }
    }
}

/// The way out for the datagrams of one link.
struct LinkWire<'a> {
    link: LinkId,
    socket: &'a mut Socket,
    demux: &'a mut Demux,
}

impl Wire for LinkWire<'_> {
    fn send(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        self.demux.on_sent(self.link, bytes);
        self.socket.send(from.ip(), to, bytes);
    }
}
