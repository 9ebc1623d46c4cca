//! A discrete-event network of real nodes: latency, loss, repeats,
//! reordering, closed and broken transports.

mod clocks;
mod frozen;
mod hub;
mod wire;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::time::Duration;

use roundelay_core::hub::{ConnectionId, Hub, HubLimits};
use roundelay_core::status::Class;
use roundelay_core::store::{StoreOp, Stored, Write};
use roundelay_core::{
    Config, Description, DescriptionKind, Dial, Event, Identity, Input, Instant, Lane, LinkId,
    Network, Node, NodeId, Now, Output, Record, RingEntry, Role, TOMBSTONE_GRACE,
};

use crate::disk::Disk;
use crate::random::Random;
pub use clocks::Clocks;
use wire::Gap;

/// Where the wall clock starts.
pub const UNIX_MS: u64 = 1_763_856_000_000;

pub const MS: u64 = 1000;
pub const SECOND: u64 = 1000 * MS;

/// What the network does to frames.
#[derive(Clone, Debug)]
pub struct Weather {
    pub latency_us: (u64, u64),
    /// Frames that never arrive, though the link lives. Links are reliable, so
    /// that this is worse than any of them: as if queues in relays overflowed.
    pub loss: f64,
    /// Frames whose datagram is lost: the link sends it again, and what comes
    /// behind it waits.
    pub resent: f64,
    pub repeats: f64,
    /// Whether frames may pass one another.
    pub reorders: bool,
    /// Pairs that never get a direct link, of all.
    pub blocked: f64,
    pub disk_us: (u64, u64),
}

impl Weather {
    /// Nothing is lost or repeated, and everybody reaches everybody.
    pub const fn calm(latency_us: (u64, u64)) -> Self {
        Self {
            latency_us,
            loss: 0.0,
            resent: 0.0,
            repeats: 0.0,
            reorders: false,
            blocked: 0.0,
            disk_us: (20, 500),
        }
    }
}

/// One computer: a node, its disk, and a hub if it is a relay.
pub struct Process {
    pub seed: [u8; 32],
    pub id: NodeId,
    pub class: Class,
    /// The relays that it attaches to; its own first, if it is one.
    pub relays: Vec<usize>,
    pub node: Option<Node>,
    pub hub: Option<Hub>,
    pub disk: Disk,
    /// Counts starts: what was under way for an earlier one is dropped.
    start: u64,
    wake_at: Option<u64>,
    /// When it met another member first, since it started, was frozen or had no
    /// way to anybody.
    pub placed_at: Option<u64>,
    pub clock_skew_ms: i64,
}

/// Which end of a link: a node's, or the hub's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Node(usize, LinkId),
    Hub(usize, ConnectionId),
}

impl End {
    /// The computer that it belongs to.
    const fn process(self) -> usize {
        match self {
            Self::Node(index, _) | Self::Hub(index, _) => index,
        }
    }
}

enum Happening {
    Wake(usize, u64),
    Input(usize, u64, Input),
    Synced(usize, u64, u64, Vec<Write>),
    Deliver(End, Vec<u8>),
    Closed(End),
    HubWake(usize),
    /// A lost datagram that leads to this end is sent again.
    Resend(End, u64),
}

impl Happening {
    /// The process to whose node it happens.
    const fn node(&self) -> Option<usize> {
        match self {
            Self::Wake(index, _) | Self::Input(index, ..) | Self::Synced(index, ..) => Some(*index),
            Self::Deliver(End::Node(index, _), _) | Self::Closed(End::Node(index, _)) => {
                Some(*index)
            }
            Self::Deliver(End::Hub(..), _) | Self::Closed(End::Hub(..)) | Self::HubWake(_) => None,
            Self::Resend(..) => None,
        }
    }
}

struct Queued {
    at: u64,
    order: u64,
    what: Happening,
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl Eq for Queued {}
impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

pub struct World {
    pub now: u64,
    pub random: Random,
    /// For how long nodes remember what was deleted.
    pub grace: Duration,
    /// How many milliseconds all clocks of the wall were put forward.
    pub passed_ms: u64,
    /// How far clocks are ahead or behind at most, and whose is wrong, and what it
    /// said before.
    pub skew_ms: u64,
    wrong: Option<(usize, i64)>,
    pub weather: Weather,
    pub processes: Vec<Process>,
    /// How many of them, from the first on, are relays.
    pub relay_count: usize,
    /// Only ever looked up: no order of it shows anywhere.
    ids: HashMap<NodeId, usize>,
    network: Network,
    queue: BinaryHeap<Reverse<Queued>>,
    order: u64,
    /// The other end of each open link.
    wires: BTreeMap<End, End>,
    /// When the last frame on a wire arrives, to keep the order.
    last_arrival: BTreeMap<End, u64>,
    /// Wires that wait for a datagram to be sent again.
    gaps: BTreeMap<End, Gap>,
    /// Offers that wait for an answer, by ufrag.
    offers: BTreeMap<String, (usize, LinkId)>,
    connection_count: u64,
    trace: bool,
    /// Frames that processes sent.
    pub frames: u64,
    /// And their bytes.
    pub bytes: u64,
    /// Processes that do nothing, and what has happened to them meanwhile.
    frozen: BTreeMap<usize, Vec<Happening>>,
    /// One that hears nothing, though others hear it.
    pub deaf: Option<usize>,
    /// Pairs of which the second does not hear the first.
    pub cut: BTreeSet<(usize, usize)>,
    /// When a process last went away, or came back.
    pub broken_at: u64,
}

impl World {
    pub fn new(seed: u64, weather: Weather) -> Self {
        Self {
            now: 0,
            random: Random::new(seed),
            grace: TOMBSTONE_GRACE,
            passed_ms: 0,
            skew_ms: Clocks::SET.skew_ms,
            wrong: None,
            weather,
            processes: Vec::new(),
            relay_count: 1,
            ids: HashMap::new(),
            frozen: BTreeMap::new(),
            bytes: 0,
            network: Network::new("sim", b"").unwrap(),
            queue: BinaryHeap::new(),
            order: 0,
            wires: BTreeMap::new(),
            last_arrival: BTreeMap::new(),
            gaps: BTreeMap::new(),
            offers: BTreeMap::new(),
            connection_count: 0,
            trace: std::env::var("ROUNDELAY_TRACE").is_ok(),
            frames: 0,
            deaf: None,
            cut: BTreeSet::new(),
            broken_at: 0,
        }
    }

    pub fn log(&self, words: impl FnOnce() -> String) {
        if self.trace {
            println!("{:>10.4} {}", self.now as f64 / SECOND as f64, words());
        }
    }

    /// Adds a computer, and starts it. The first are the relays, which attach
    /// to one another as a tree; the others are at home at one after the other.
    pub fn add(&mut self, class: Class, clock_skew_ms: i64) -> usize {
        let index = self.processes.len();
        let seed = self.random.bytes32();
        let id = Identity::from_seed(&seed).id();
        self.ids.insert(id, index);
        self.processes.push(Process {
            seed,
            id,
            class,
            relays: match index {
                0 => vec![0],
                _ if index < self.relay_count => vec![index, index / 2],
                _ => vec![index % self.relay_count],
            },
            node: None,
            hub: None,
            disk: Disk::default(),
            start: 0,
            wake_at: None,
            placed_at: None,
            clock_skew_ms,
        });
        self.start(index);
        index
    }

    pub fn id(&self, index: usize) -> NodeId {
        self.processes[index].id
    }

    pub fn index(&self, id: &NodeId) -> Option<usize> {
        self.ids.get(id).copied()
    }

    pub fn alive(&self) -> impl Iterator<Item = (usize, &Node)> {
        let all = self.processes.iter().enumerate();
        all.filter_map(|(index, process)| Some((index, process.node.as_ref()?)))
    }

    /// Starts, or starts again, with whatever its disk holds.
    pub fn start(&mut self, index: usize) {
        let now = self.now_of(index);
        let seed = self.random.bytes32();
        let process = &mut self.processes[index];
        process.start += 1;
        process.placed_at = None;
        self.broken_at = self.now;
        let config = Config {
            network: self.network.clone(),
            class: process.class,
            name: format!("p{index}"),
            epoch: process.start,
            relays: process.relays.iter().copied().map(hub::url).collect(),
            entry: if index == 0 {
                RingEntry::Begin
            } else {
                RingEntry::Join
            },
            direct_budget: 32,
            tombstone_grace: self.grace,
        };
        let node = Node::new(Identity::from_seed(&process.seed), config, seed, now).unwrap();
        if process.relays.contains(&index) {
            let record: Record = node.record().clone();
            let networks = vec![(self.network.clone(), record)];
            process.hub = Some(Hub::new(networks, HubLimits::default(), seed));
        }
        process.node = Some(node);
        self.log(|| format!("start p{index} {:?}", self.id(index)));
        self.drain(index);
        if index == 0 {
            self.processes[0].wake_at = None;
        }
    }

    /// Kills a process. Its transports close at once, or nobody is told.
    pub fn crash(&mut self, index: usize, told: bool) {
        self.log(|| format!("crash p{index} told={told}"));
        self.broken_at = self.now;
        let process = &mut self.processes[index];
        process.node = None;
        process.start += 1;
        process.disk.crash();
        let mut ends: Vec<End> = self.wires.keys().copied().collect();
        ends.retain(|end| matches!(end, End::Node(own, _) if *own == index));
        if self.processes[index].hub.take().is_some() {
            let is_own = |end: &&End| matches!(end, End::Hub(own, _) if *own == index);
            ends.extend(self.wires.keys().filter(is_own));
        }
        for end in ends {
            // A relay is always told: the kernel closes a dead process's TCP.
            if let Some(other) = self.cut(end)
                && (told || matches!((end, other), (_, End::Hub(..)) | (End::Hub(..), _)))
            {
                let latency = self.latency();
                self.queue(latency, Happening::Closed(other));
            }
        }
        self.offers.retain(|_, (own, _)| *own != index);
    }

    /// A durable node begins to leave. Returns whether it passes places on.
    pub fn retire(&mut self, index: usize) -> bool {
        let now = self.now_of(index);
        let node = self.processes[index].node.as_mut();
        let begins = node.is_some_and(|node| node.retire(now));
        self.log(|| format!("retire p{index}: {begins}"));
        let _ = self.drain(index);
        begins
    }

    /// A page closes, and says so.
    pub fn leave(&mut self, index: usize) {
        let now = self.now_of(index);
        if let Some(node) = &mut self.processes[index].node {
            node.leave(now);
        }
        self.drain(index);
        self.crash(index, true);
    }

    fn cut(&mut self, end: End) -> Option<End> {
        let other = self.wires.remove(&end)?;
        self.wires.remove(&other);
        self.gaps.remove(&end);
        self.gaps.remove(&other);
        Some(other)
    }

    /// What a wall clock says that is right.
    pub const fn unix_ms(&self) -> u64 {
        UNIX_MS + self.now / MS + self.passed_ms
    }

    /// The driver's clocks.
    pub fn now_of(&self, index: usize) -> Now {
        let unix_ms = self.unix_ms();
        Now {
            mono: Instant::from_micros(self.now),
            unix_ms: unix_ms.saturating_add_signed(self.processes[index].clock_skew_ms),
        }
    }

    fn queue(&mut self, after: u64, what: Happening) {
        self.order += 1;
        let (at, order) = (self.now + after, self.order);
        self.queue.push(Reverse(Queued { at, order, what }));
    }

    fn latency(&mut self) -> u64 {
        let (low, high) = self.weather.latency_us;
        self.random.between(low, high)
    }

    /// Runs until the time comes, handing events of nodes to `on_event`.
    pub fn run_until(&mut self, until: u64, on_event: &mut dyn FnMut(&mut Self, usize, Event)) {
        while let Some(Reverse(next)) = self.queue.peek() {
            if next.at > until {
                break;
            }
            let Some(Reverse(next)) = self.queue.pop() else {
                break;
            };
            self.now = next.at;
            for (index, event) in self.happen(next.what) {
                on_event(self, index, event);
            }
        }
        self.now = until;
    }

    fn happen(&mut self, what: Happening) -> Vec<(usize, Event)> {
        if let Some(index) = what.node()
            && let Some(waiting) = self.frozen.get_mut(&index)
        {
            waiting.push(what);
            return Vec::new();
        }
        match what {
            Happening::Wake(index, at) => {
                if self.processes[index].wake_at == Some(at) {
                    self.processes[index].wake_at = None;
                    return self.input(index, Input::Timeout);
                }
            }
            Happening::Input(index, start, input) => {
                if self.processes[index].start == start {
                    return self.input(index, input);
                }
            }
            Happening::Synced(index, start, token, writes) => {
                if self.processes[index].start == start {
                    self.processes[index].disk.sync(writes);
                    let result = Ok(Stored::Done);
                    return self.input(index, Input::Stored { token, result });
                }
            }
            Happening::Deliver(End::Node(index, link), bytes) => {
                if self.wires.contains_key(&End::Node(index, link)) && self.deaf != Some(index) {
                    return self.input(index, Input::Frame { link, bytes });
                }
            }
            Happening::Deliver(End::Hub(relay, connection), bytes) => {
                self.at_hub(relay, |hub, now| hub.on_frame(connection, &bytes, now));
            }
            Happening::Closed(End::Node(index, link)) => {
                let reason = "closed".into();
                return self.input(index, Input::LinkDown { link, reason });
            }
            Happening::Closed(End::Hub(relay, connection)) => {
                self.at_hub(relay, |hub, _| hub.on_close(connection));
            }
            Happening::HubWake(relay) => self.at_hub(relay, Hub::on_timeout),
            Happening::Resend(to, number) => self.resend(to, number),
        }
        Vec::new()
    }

    pub fn input(&mut self, index: usize, input: Input) -> Vec<(usize, Event)> {
        let now = self.now_of(index);
        if let Some(node) = &mut self.processes[index].node {
            node.handle_input(input, now);
        }
        self.drain(index)
    }

    /// Carries out what a node asks, as a driver does.
    pub fn drain(&mut self, index: usize) -> Vec<(usize, Event)> {
        let mut events = Vec::new();
        let start = self.processes[index].start;
        loop {
            let Some(node) = &mut self.processes[index].node else {
                return events;
            };
            match node.poll_output() {
                Output::Send { link, lane, bytes } => self.send(index, link, lane, bytes),
                Output::Dial {
                    link,
                    to: Dial::Relay { url },
                } => self.dial_relay(index, link, &url),
                Output::Dial {
                    link,
                    to: Dial::Direct { role, .. },
                } => {
                    if role == Role::Offerer {
                        let ufrag = format!("{index}-{}-{}", link.0, start);
                        self.offers.insert(ufrag.clone(), (index, link));
                        self.describe(index, link, DescriptionKind::Offer, &ufrag);
                    }
                }
                Output::Remote(description) => self.on_remote(index, &description),
                Output::Hangup { link } => {
                    if let Some(other) = self.cut(End::Node(index, link)) {
                        let latency = self.latency();
                        self.queue(latency, Happening::Closed(other));
                    }
                }
                Output::Store { token, op } => self.store(index, token, op),
                Output::Event(event) => events.push((index, event)),
                Output::Wait(at) => {
                    let at = at.map(|at| at.as_micros().max(self.now + 1));
                    if at != self.processes[index].wake_at
                        && let Some(at) = at
                    {
                        self.queue(at - self.now, Happening::Wake(index, at));
                    }
                    self.processes[index].wake_at = at;
                    return events;
                }
            }
        }
    }

    fn send(&mut self, index: usize, link: LinkId, lane: Lane, bytes: Vec<u8>) {
        self.frames += 1;
        self.bytes += bytes.len() as u64;
        let start = self.processes[index].start;
        let drained = Input::Drained {
            link,
            lane,
            bytes: bytes.len(),
        };
        let after = self.random.between(1, 100);
        self.queue(after, Happening::Input(index, start, drained));
        self.transmit(End::Node(index, link), bytes);
    }

    fn describe(&mut self, index: usize, link: LinkId, kind: DescriptionKind, ufrag: &str) {
        let text = format!("v=0\r\na=ice-ufrag:{ufrag}\r\na=fingerprint:sha-256 00:11\r\n");
        let start = self.processes[index].start;
        let local = Input::Local(Description { link, kind, text });
        self.queue(MS, Happening::Input(index, start, local));
    }

    fn on_remote(&mut self, index: usize, description: &Description) {
        let ufrag = description
            .text
            .lines()
            .find_map(|line| line.strip_prefix("a=ice-ufrag:"));
        let Some(ufrag) = ufrag.map(str::to_owned) else {
            return;
        };
        let own = (index, description.link);
        match description.kind {
            DescriptionKind::Offer => {
                let answer = format!("{ufrag}/{index}-{}", description.link.0);
                self.offers.insert(answer.clone(), own);
                self.describe(index, description.link, DescriptionKind::Answer, &answer);
            }
            DescriptionKind::Answer => self.connect(own, &ufrag),
            DescriptionKind::Candidate => {}
        }
    }

    /// Both ends know each other: the link opens, unless a firewall stands
    /// between them.
    fn connect(&mut self, offerer: (usize, LinkId), ufrag: &str) {
        let Some(answerer) = self.offers.remove(ufrag) else {
            return;
        };
        let (low, high) = (offerer.0.min(answerer.0), offerer.0.max(answerer.0));
        let mut pair = Random::new((low * 1000 + high) as u64);
        if pair.chance(self.weather.blocked) {
            return;
        }
        let ends = [
            End::Node(offerer.0, offerer.1),
            End::Node(answerer.0, answerer.1),
        ];
        self.wires.insert(ends[0], ends[1]);
        self.wires.insert(ends[1], ends[0]);
        for (index, link) in [offerer, answerer] {
            let start = self.processes[index].start;
            let latency = self.latency();
            let up = Input::LinkUp { link };
            self.queue(latency, Happening::Input(index, start, up));
        }
    }

    fn store(&mut self, index: usize, token: u64, op: StoreOp) {
        let (low, high) = self.weather.disk_us;
        let took = match op {
            StoreOp::Read(_) => 5,
            StoreOp::Commit(_) => self.random.between(low, high),
        };
        let now = self.now;
        let process = &mut self.processes[index];
        let start = process.start;
        let answer = process.disk.order(&op);
        let result = Ok(answer);
        match op {
            // Reads pass commits that are being synced: they see them anyway.
            StoreOp::Read(_) => {
                let stored = Input::Stored { token, result };
                self.queue(took, Happening::Input(index, start, stored));
            }
            StoreOp::Commit(writes) => {
                let done = process.disk.busy_until.max(now) + took;
                process.disk.busy_until = done;
                self.queue(done - now, Happening::Synced(index, start, token, writes));
            }
        }
    }
}
