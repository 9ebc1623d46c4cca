//! Nodes and a hub in one thread, with links that take no time.

use std::collections::{BTreeMap, VecDeque};

use roundelay_core::hub::{ConnectionId, Hub, HubLimits, HubOutput};
use roundelay_core::kvs::{Key, Mode, Reply, RequestId};
use roundelay_core::status::Class;
use roundelay_core::store::MemoryStore;
use roundelay_core::{
    Config, Event, Identity, Input, Instant, LinkId, Network, Node, Now, Output, RingEntry,
};

/// How much later it is whenever nothing is left to do; fine enough for every
/// timer, and never so late that one is missed.
const STEP_MICROS: u64 = 1000;

/// The first node is the relay's own member.
pub(crate) struct Ring {
    nodes: Vec<Member>,
    hub: Hub,
    connections: BTreeMap<ConnectionId, (usize, LinkId)>,
    /// Inputs on their way, in order.
    inputs: VecDeque<(usize, Input)>,
    replies: BTreeMap<(usize, RequestId), Reply>,
    micros: u64,
}

struct Member {
    node: Node,
    store: MemoryStore,
    wake_at: Option<Instant>,
}

impl Ring {
    pub(crate) fn new(members: usize) -> Self {
        let now = now(0);
        let network = Network::new("default", b"").unwrap();
        let nodes: Vec<Member> = (0..members)
            .map(|index| Member::new(index, network.clone(), now))
            .collect();
        let relay = (network, nodes[0].node.record().clone());
        let limits = HubLimits {
            // A round takes no time here.
            bytes_per_second: u64::MAX >> 30,
            frames_per_second: u64::MAX >> 30,
            ..HubLimits::default()
        };
        Self {
            nodes,
            hub: Hub::new(vec![relay], limits, [1; 32]),
            connections: BTreeMap::new(),
            inputs: VecDeque::new(),
            replies: BTreeMap::new(),
            micros: 0,
        }
    }

    pub(crate) fn node(&self, index: usize) -> &Node {
        &self.nodes[index].node
    }

    /// Lets time pass until all are ready and every member is a voter.
    pub(crate) fn settle(&mut self) {
        let key = Key::new("key").unwrap();
        let members = self.nodes.len();
        let whole = |member: &Member| {
            member.node.is_ready()
                && member.node.locate(&key).voters.len() == members
                && member.node.status().store.under_replicated == 0
        };
        for _ in 0..100_000 {
            if self.nodes.iter().all(whole) {
                return;
            }
            self.run();
            self.pass();
        }
        panic!("the ring does not settle");
    }

    pub(crate) fn put(&mut self, key: Key, value: Vec<u8>, mode: Mode) -> Reply {
        let last = self.nodes.len() - 1;
        let now = now(self.micros);
        let request = self.nodes[last].node.put(key, value, mode, now);
        self.answer(request)
    }

    pub(crate) fn get(&mut self, key: Key, mode: Mode) -> Reply {
        let last = self.nodes.len() - 1;
        let now = now(self.micros);
        let request = self.nodes[last].node.get(key, mode, now);
        self.answer(request)
    }

    fn answer(&mut self, request: RequestId) -> Reply {
        let asked = (self.nodes.len() - 1, request);
        loop {
            self.run();
            if let Some(reply) = self.replies.remove(&asked) {
                return reply;
            }
            self.pass();
        }
    }

    /// Carries out everything that takes no time.
    fn run(&mut self) {
        for index in 0..self.nodes.len() {
            self.drain(index);
        }
        while let Some((index, input)) = self.inputs.pop_front() {
            self.nodes[index].node.handle_input(input, now(self.micros));
            self.drain(index);
        }
    }

    /// A moment later.
    fn pass(&mut self) {
        self.micros += STEP_MICROS;
        let now = now(self.micros);
        self.hub.on_timeout(now.mono);
        for (index, member) in self.nodes.iter().enumerate() {
            if member.wake_at.is_some_and(|at| at <= now.mono) {
                self.inputs.push_back((index, Input::Timeout));
            }
        }
    }

    fn drain(&mut self, index: usize) {
        loop {
            match self.nodes[index].node.poll_output() {
                Output::Wait(at) => {
                    self.nodes[index].wake_at = at;
                    return;
                }
                Output::Send { link, lane, bytes } => {
                    let drained = Input::Drained {
                        link,
                        lane,
                        bytes: bytes.len(),
                    };
                    self.inputs.push_back((index, drained));
                    let connection = connection(index, link);
                    self.hub.on_frame(connection, &bytes, now(self.micros).mono);
                    self.drain_hub();
                }
                Output::Dial { link, .. } => {
                    let connection = connection(index, link);
                    self.connections.insert(connection, (index, link));
                    self.inputs.push_back((index, Input::LinkUp { link }));
                    self.hub.on_open(connection, now(self.micros).mono);
                    self.drain_hub();
                }
                Output::Store { token, op } => {
                    let result = Ok(self.nodes[index].store.submit(op));
                    self.inputs
                        .push_back((index, Input::Stored { token, result }));
                }
                Output::Event(Event::Reply { request, reply }) => {
                    self.replies.insert((index, request), reply);
                }
                Output::Event(_) | Output::Remote(_) | Output::Hangup { .. } => {}
            }
        }
    }

    fn drain_hub(&mut self) {
        while let Some(output) = self.hub.poll_output() {
            match output {
                HubOutput::Send { connection, bytes } => {
                    self.hub.on_drained(connection, bytes.len());
                    let (index, link) = self.connections[&connection];
                    self.inputs.push_back((index, Input::Frame { link, bytes }));
                }
                HubOutput::Pause { .. } => {}
                HubOutput::Close { why, .. } => panic!("{why:?}"),
            }
        }
    }
}

impl Member {
    fn new(index: usize, network: Network, now: Now) -> Self {
        let config = Config {
            network,
            class: Class::Durable,
            name: String::new(),
            epoch: 1,
            relays: vec!["ws://relay.example/ws".into()],
            entry: if index == 0 {
                RingEntry::Begin
            } else {
                RingEntry::Join
            },
            direct_budget: 0,
            tombstone_grace: roundelay_core::TOMBSTONE_GRACE,
        };
        let seed = [u8::try_from(index).unwrap() + 1; 32];
        Self {
            node: Node::new(Identity::from_seed(&seed), config, seed, now).unwrap(),
            store: MemoryStore::default(),
            wake_at: None,
        }
    }
}

fn connection(index: usize, link: LinkId) -> ConnectionId {
    ConnectionId((index as u64) << 32 | link.0)
}

fn now(micros: u64) -> Now {
    Now {
        mono: Instant::from_micros(micros),
        unix_ms: 1_763_856_000_000 + micros / 1000,
    }
}
