//! A peer that is attached with an identity of its own and up to no good: a
//! node of core's, whose frames pass through the test's hands.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime};

use roundelay::link::direct::{DirectConfig, DirectEvent, DirectLinks};
use roundelay_core::status::Class;
use roundelay_core::store::MemoryStore;
use roundelay_core::{
    Config, Description, Dial, Identity, Input, LinkId, Network, Node, NodeId, Now, Output,
    RingEntry,
};
use tokio::runtime::Runtime;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message, WebSocket, client};

use crate::common::DEADLINE;

/// How long to wait for one message before others are looked for.
const GLANCE: Duration = Duration::from_millis(2);

/// The first bytes of frames to and from a relay, and of circuits' bodies.
const FORWARD: u8 = 1;
const DELIVER: u8 = 3;
const INIT: u8 = 0;
const SEALED: u8 = 2;

/// What is wrong with the descriptions that it signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forgery {
    None,
    /// The fingerprint is not that of its certificate.
    Fingerprint,
    /// It was signed an hour ago.
    Expired,
}

/// The hostile peer.
pub(crate) struct Hostile {
    node: Node,
    socket: WebSocket<TcpStream>,
    /// Its link to the relay.
    relay: LinkId,
    direct: DirectLinks,
    runtime: Runtime,
    disk: MemoryStore,
    start: Instant,
    /// Those to whom it has sent a first message. It speaks first: what others
    /// say before is not heard.
    spoken: BTreeSet<NodeId>,
    /// The frames that it sent to the relay.
    pub(crate) sent: Vec<Vec<u8>>,
    pub(crate) forgery: Forgery,
    /// Peers to whom it has a direct link.
    pub(crate) linked: BTreeMap<LinkId, NodeId>,
    dialled: BTreeMap<LinkId, NodeId>,
}

impl Hostile {
    /// Attaches to a relay on this machine and joins its ring as a page would.
    /// Its id is low, so that it makes the offer to nearly every page.
    pub(crate) fn attach(port: u16, number: u8, forgery: Forgery) -> Self {
        let identities = (0..=u16::MAX).map(|seed| {
            let [a, b] = seed.to_be_bytes();
            let mut bytes = [number; 32];
            (bytes[0], bytes[1]) = (a, b);
            Identity::from_seed(&bytes)
        });
        let identity = identities.min_by_key(Identity::id).unwrap();
        let config = Config {
            network: Network::new("default", b"").unwrap(),
            class: Class::Transient,
            name: "hostile".into(),
            epoch: unix_ms(),
            relays: vec![url(port)],
            entry: RingEntry::Join,
            direct_budget: 8,
            tombstone_grace: roundelay_core::TOMBSTONE_GRACE,
        };
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        let bind = "127.0.0.1:0".parse().unwrap();
        let direct = runtime.block_on(async { DirectLinks::bind(&DirectConfig { bind }) });
        let start = Instant::now();
        let now = Now {
            mono: roundelay_core::Instant::from_micros(0),
            unix_ms: unix_ms(),
        };
        Self {
            node: Node::new(identity, config, [number; 32], now).unwrap(),
            socket: socket(port),
            relay: LinkId(0),
            direct: direct.unwrap(),
            runtime,
            disk: MemoryStore::default(),
            start,
            spoken: BTreeSet::new(),
            sent: Vec::new(),
            forgery,
            linked: BTreeMap::new(),
            dialled: BTreeMap::new(),
        }
    }

    /// Lives on until a condition holds, which it looks at now and then.
    pub(crate) fn until(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let start = Instant::now();
        let mut looked = start;
        while looked.elapsed() < 10 * GLANCE || !holds(self) {
            if looked.elapsed() >= 10 * GLANCE {
                looked = Instant::now();
            }
            assert!(
                start.elapsed() < DEADLINE,
                "waited in vain for {what}: {:?}",
                self.node.status()
            );
            self.turn();
        }
    }

    /// Sends a frame to the relay as it is.
    pub(crate) fn throw(&mut self, frame: Vec<u8>) {
        let _ = self.socket.send(Message::binary(frame));
    }

    /// Sends a body to a peer as it is.
    pub(crate) fn throw_at(&mut self, peer: &NodeId, body: &[u8]) {
        self.throw([&[FORWARD], &peer.as_bytes()[..], body].concat());
    }

    /// The same, more often than a peer repeats itself that means it: an answer
    /// that may have been lost is given again a few times.
    pub(crate) fn throw_often_at(&mut self, peer: &NodeId, body: &[u8]) {
        for _ in 0..6 {
            self.throw_at(peer, body);
        }
    }

    /// The bodies that it rightly sent to a peer: first messages, or sealed.
    pub(crate) fn first(&self, peer: &NodeId) -> Vec<Vec<u8>> {
        self.sent_to(peer, INIT)
    }

    pub(crate) fn sealed(&self, peer: &NodeId) -> Vec<Vec<u8>> {
        self.sent_to(peer, SEALED)
    }

    /// The last of them, whose session is surely there.
    pub(crate) fn last_sealed(&self, peer: &NodeId) -> Vec<u8> {
        self.sealed(peer).pop().unwrap()
    }

    fn sent_to(&self, peer: &NodeId, kind: u8) -> Vec<Vec<u8>> {
        let head = [&[FORWARD], &peer.as_bytes()[..]].concat();
        let bodies = self
            .sent
            .iter()
            .filter_map(|sent| sent.strip_prefix(&head[..]));
        bodies
            .filter(|body| body.first() == Some(&kind))
            .map(<[u8]>::to_vec)
            .collect()
    }

    /// What a peer of this epoch has to refuse, each with the counter that
    /// rises there.
    pub(crate) fn bad_bodies(&self, peer: &NodeId, epoch: u64) -> Vec<(&'static str, Vec<u8>)> {
        let (first, sealed) = (&self.first(peer)[0], &self.last_sealed(peer));
        let (last, rest) = first.split_last().unwrap();
        let damaged = [rest, &[last ^ 1]].concat();
        let unknown = [&[SEALED][..], &varint(7), &[0; 99]].concat();
        vec![
            ("circuit_malformed", vec![]),
            ("circuit_malformed", vec![0xff; 100]),
            ("circuit_malformed", vec![0xff; 65_000]),
            ("circuit_malformed", b"unsigned".to_vec()),
            ("circuit_malformed", init(7, epoch, &[1; 31])),
            ("circuit_outdated", init(7, epoch - 1, &[1; 200])),
            ("circuit_outdated", init(7, 0, &[])),
            ("circuit_forged", init(7, epoch, &[1; 65_000])),
            ("circuit_forged", renumbered(sealed, 1 << 40)),
            ("circuit_unknown", unknown),
            ("circuit_replayed", first.clone()),
            ("circuit_replayed", sealed.clone()),
            // Its ephemeral key was seen, whatever follows it.
            ("circuit_replayed", damaged),
        ]
    }

    /// Closes its direct links; core makes them anew.
    pub(crate) fn break_links(&mut self) {
        for link in std::mem::take(&mut self.linked).into_keys() {
            self.direct.close(link, Instant::now());
            let reason = "broken".to_owned();
            self.input(Input::LinkDown { link, reason });
        }
    }

    // ---- one turn ----

    /// Takes in one message at most, and does what is due: a peer that is never
    /// given a turn is soon taken for dead.
    pub(crate) fn turn(&mut self) {
        let wait = self.drain();
        let frame = self.socket.read();
        match frame {
            Ok(Message::Binary(bytes)) => self.on_frame(bytes.into()),
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {}
            Ok(_) => {}
            Err(error) => panic!("the relay hung up on the hostile peer: {error}"),
        }
        let readable = async { tokio::time::timeout(GLANCE / 2, self.direct.readable()).await };
        if self.runtime.block_on(readable).is_ok() {
            self.direct.receive(Instant::now());
        }
        if self
            .direct
            .poll_timeout()
            .is_some_and(|at| at <= Instant::now())
        {
            self.direct.handle_timeout(Instant::now());
        }
        while let Some(event) = self.direct.poll_event() {
            self.on_direct(event);
        }
        if wait.is_some_and(|at| at <= self.now().mono) {
            self.input(Input::Timeout);
        }
    }

    fn on_frame(&mut self, bytes: Vec<u8>) {
        if let [DELIVER, from @ ..] = &bytes[..]
            && let Some(from) = from.first_chunk::<32>()
            && !self.spoken.contains(&NodeId::from_bytes(*from))
        {
            return;
        }
        let link = self.relay;
        self.input(Input::Frame { link, bytes });
    }

    fn on_direct(&mut self, event: DirectEvent) {
        let input = match event {
            DirectEvent::Local(description) => return self.tell(description),
            DirectEvent::Up { link } => {
                let peer = self.dialled[&link];
                self.linked.insert(link, peer);
                Input::LinkUp { link }
            }
            DirectEvent::Down { link, reason } => {
                self.linked.remove(&link);
                Input::LinkDown { link, reason }
            }
            DirectEvent::Frame { link, bytes } => Input::Frame { link, bytes },
            DirectEvent::Drained { link, lane, bytes } => Input::Drained { link, lane, bytes },
        };
        self.input(input);
    }

    /// Tells of its own description, more or less truly.
    fn tell(&mut self, mut description: Description) {
        let mut now = self.now();
        match self.forgery {
            Forgery::None => {}
            Forgery::Fingerprint => description.text = forged(&description.text),
            Forgery::Expired => now.unix_ms -= 3_600_000,
        }
        self.node.handle_input(Input::Local(description), now);
    }

    fn drain(&mut self) -> Option<roundelay_core::Instant> {
        loop {
            match self.node.poll_output() {
                Output::Send { link, lane, bytes } if link == self.relay => {
                    let len = bytes.len();
                    self.note(&bytes);
                    self.throw(bytes);
                    self.input(Input::Drained {
                        link,
                        lane,
                        bytes: len,
                    });
                }
                Output::Send { link, lane, bytes } => {
                    self.direct.send(link, lane, bytes, Instant::now());
                    self.direct.flush();
                }
                Output::Dial { link, to } => self.dial(link, to),
                Output::Remote(description) => self.direct.remote(&description, Instant::now()),
                Output::Hangup { link } => {
                    self.linked.remove(&link);
                    self.direct.close(link, Instant::now());
                }
                Output::Store { token, op } => {
                    let result = Ok(self.disk.submit(op));
                    self.input(Input::Stored { token, result });
                }
                Output::Event(_) => {}
                Output::Wait(at) => return at,
            }
        }
    }

    fn note(&mut self, frame: &[u8]) {
        if let [FORWARD, rest @ ..] = frame
            && let Some((to, [INIT, ..])) = rest.split_first_chunk::<32>()
        {
            self.spoken.insert(NodeId::from_bytes(*to));
        }
        self.sent.push(frame.to_vec());
    }

    fn dial(&mut self, link: LinkId, to: Dial) {
        match to {
            Dial::Relay { .. } => {
                assert_eq!(self.relay, LinkId(0), "the relay is dialled once");
                self.relay = link;
                self.input(Input::LinkUp { link });
            }
            Dial::Direct { peer, role } => {
                self.dialled.insert(link, peer);
                self.direct.open(link, role, Instant::now());
            }
        }
    }

    fn input(&mut self, input: Input) {
        let now = self.now();
        self.node.handle_input(input, now);
    }

    fn now(&self) -> Now {
        let micros = u64::try_from(self.start.elapsed().as_micros()).unwrap();
        Now {
            mono: roundelay_core::Instant::from_micros(micros),
            unix_ms: unix_ms(),
        }
    }
}

/// A number as it is on the wire: seven bits at a time, the lowest first.
fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// A body that says that it opens a session.
pub(crate) fn init(index: u64, epoch: u64, noise: &[u8]) -> Vec<u8> {
    [&[INIT][..], &varint(index), &varint(epoch), noise].concat()
}

/// A sealed body under another number.
fn renumbered(sealed: &[u8], number: u64) -> Vec<u8> {
    let mut ends = (1..sealed.len()).filter(|at| sealed[*at] & 0x80 == 0);
    let (index, old) = (ends.next().unwrap() + 1, ends.next().unwrap() + 1);
    [&sealed[..index], &varint(number), &sealed[old..]].concat()
}

fn forged(text: &str) -> String {
    let before = "a=fingerprint:sha-256 ";
    let at = text.find(before).expect("a fingerprint") + before.len();
    let genuine = &text[at..at + 2];
    let other = if genuine == "00" { "11" } else { "00" };
    [&text[..at], other, &text[at + 2..]].concat()
}

fn url(port: u16) -> String {
    format!("ws://127.0.0.1:{port}/ws")
}

/// A WebSocket to a relay whose reads do not wait for long.
pub(crate) fn socket(port: u16) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let (socket, _) = client(url(port).into_client_request().unwrap(), stream).unwrap();
    socket.get_ref().set_read_timeout(Some(GLANCE)).unwrap();
    socket.get_ref().set_nodelay(true).unwrap();
    socket
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since.unwrap().as_millis()).unwrap()
}
