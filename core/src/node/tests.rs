//! What peers may say to a node, however mad, does not bring it down.

mod dice;

use alloc::string::String;
use alloc::vec;
use core::time::Duration;

use serde::Deserialize;

use self::dice::Dice;
use super::routed::Routed;
use super::*;
use crate::attach::FromRelay;
use crate::config::RingEntry;
use crate::event::LinkId;
use crate::identity::Network;
use crate::link::Me;
use crate::ring;
use crate::status::Class;
use crate::store::MemoryStore;
use crate::time::Instant;

/// When every test begins, in milliseconds since 1970.
const START_MS: u64 = 1_763_856_000_000;

/// A node that began a ring, with a disk.
struct Victim {
    node: Node,
    disk: MemoryStore,
    replies: Vec<Reply>,
    now: Now,
}

impl Victim {
    fn new() -> Self {
        let victim = Self::start(1, RingEntry::Begin);
        assert!(victim.node.is_ready());
        victim
    }

    fn start(seed: u8, entry: RingEntry) -> Self {
        let now = Now {
            mono: Instant::from_micros(1),
            unix_ms: START_MS,
        };
        let config = Config {
            network: Network::new("test", b"").unwrap(),
            class: Class::Durable,
            name: String::new(),
            epoch: 1,
            relays: vec!["ws://relay/ws".to_string()],
            entry,
            direct_budget: 8,
            tombstone_grace: crate::config::TOMBSTONE_GRACE,
        };
        let identity = Identity::from_seed(&[seed; 32]);
        let mut victim = Self {
            node: Node::new(identity, config, [2; 32], now).unwrap(),
            disk: MemoryStore::default(),
            replies: vec![],
            now,
        };
        victim.settle();
        victim
    }

    /// Does all that the node wants until it waits.
    fn settle(&mut self) {
        loop {
            match self.node.poll_output() {
                Output::Store { token, op } => {
                    let result = Ok(self.disk.submit(op));
                    self.node
                        .handle_input(Input::Stored { token, result }, self.now);
                }
                Output::Event(Event::Reply { reply, .. }) => self.replies.push(reply),
                Output::Wait(_) => return,
                _ => {}
            }
        }
    }

    fn wait(&mut self, time: Duration) {
        self.now.mono += time;
        self.now.unix_ms += time.as_millis() as u64;
        self.node.handle_input(Input::Timeout, self.now);
        self.settle();
    }

    fn hear(&mut self, peer: NodeId, bytes: &[u8]) {
        self.node.on_bytes(peer, bytes, self.now);
        self.node.pump(self.now);
        self.settle();
    }

    fn put(&mut self, value: &[u8]) {
        let key = Key::new("kept/key").unwrap();
        self.node.put(key, value.to_vec(), Mode::Quorum, self.now);
        self.settle();
        assert!(matches!(self.replies.pop(), Some(Reply::Written { .. })));
    }

    fn get(&mut self) -> Vec<u8> {
        let key = Key::new("kept/key").unwrap();
        self.node.get(key, Mode::Quorum, self.now);
        self.settle();
        match self.replies.pop() {
            Some(Reply::Found { value, .. }) => value,
            other => panic!("{other:?}"),
        }
    }

    fn count(&self, counter: &str) -> u64 {
        let status = self.node.status();
        status.counters.get(counter).copied().unwrap_or(0)
    }
}

/// A peer as it is to itself.
fn me(seed: u8) -> Me {
    let network = Network::new("test", b"").unwrap();
    let identity = Identity::from_seed(&[seed; 32]);
    let facts = Facts {
        epoch: 5,
        class: Class::Durable,
        name: String::new(),
    };
    Me {
        record: identity.record(facts, &network),
        identity,
        network,
        rng: Rng::from_seed([seed; 32]),
    }
}

/// Peers whose records the node knows: those of the seeds from 10.
fn peers(victim: &mut Victim) -> Vec<NodeId> {
    let network = victim.node.config.network.clone();
    let classes = [Class::Durable, Class::Durable, Class::Transient];
    let peers = (10..).zip(classes).map(|(seed, class)| {
        let facts = Facts {
            epoch: 5,
            class,
            name: String::new(),
        };
        let record = me(seed).identity.record(facts, &network);
        victim.node.links.learn(&record, victim.now.mono);
        record.id()
    });
    peers.collect()
}

#[test]
fn what_is_no_message_is_counted_and_nothing_lost() {
    let mut victim = Victim::new();
    let peer = peers(&mut victim)[0];
    victim.put(b"kept");
    let mut rng = Rng::from_seed([5; 32]);
    for number in 1..=2_000 {
        let mut bytes: Vec<u8> = (0..number % 300).map(|_| rng.next_u64() as u8).collect();
        // No message begins so.
        if let Some(first) = bytes.first_mut() {
            *first |= 0x40;
        }
        victim.hear(peer, &bytes);
        assert_eq!(victim.count("message_malformed"), number);
    }
    // One that is routed to this node, but holds none; and one for a node
    // that nobody knows; and one that went far enough.
    let sign =
        |target, body| Message::Routed(Routed::sign(&me(10), target, Lane::Kv, body, START_MS));
    let own = victim.node.id();
    let nothing = sign(own, vec![0xff; 9]);
    victim.hear(peer, &wire::encode(&nothing));
    assert_eq!(victim.count("message_malformed"), 2_001);
    victim.hear(peer, &wire::encode(&sign(own, wire::encode(&nothing))));
    assert_eq!(victim.count("message_malformed"), 2_002);
    let astray = sign(NodeId::from_bytes([7; 32]), vec![1]);
    victim.hear(peer, &wire::encode(&astray));
    assert_eq!(victim.count("message_unroutable"), 1);
    let Message::Routed(mut astray) = astray else {
        panic!("it is routed");
    };
    astray.trail = vec![peer; 16];
    victim.hear(peer, &wire::encode(&Message::Routed(astray)));
    assert_eq!(victim.count("message_hops_exceeded"), 1);
    // Of a ring and of a peer that it has nothing to do with.
    let mut dice = Dice { rng, known: vec![] };
    let message = loop {
        if let Ok(message) = crate::kvs::Message::deserialize(&mut dice) {
            break message;
        }
    };
    let ring = 1;
    victim.hear(peer, &wire::encode(&Message::Kvs { ring, message }));
    assert_eq!(victim.count("message_other_ring"), 1);
    let ring = victim.node.ring.id().unwrap();
    let stabilize = Message::Ring(ring::Message::stabilize(ring));
    victim.hear(NodeId::from_bytes([8; 32]), &wire::encode(&stabilize));
    assert_eq!(victim.count("message_unknown_sender"), 1);
    assert_eq!(victim.get(), b"kept");
    victim.put(b"again");
}

/// A message: most often of the store, where most can go wrong.
fn throw(dice: &mut Dice, ring: u32) -> Result<Message, dice::Miss> {
    if dice.below(3) > 0 {
        let message = crate::kvs::Message::deserialize(dice)?;
        return Ok(Message::Kvs { ring, message });
    }
    Message::deserialize(dice)
}

/// Every message that can be written down at all, from members and strangers.
/// A member that lies may spoil keys; it must not break the node.
#[test]
fn no_message_of_a_member_breaks_a_node() {
    const ROUNDS: usize = 60_000;
    for seed in 0..4 {
        let mut victim = Victim::new();
        let peers = peers(&mut victim);
        let ring = victim.node.ring.id().unwrap();
        let mut known: Vec<Vec<u8>> = peers.iter().map(|id| id.as_bytes().to_vec()).collect();
        known.push(victim.node.id().as_bytes().to_vec());
        known.push(wire::encode(&ring));
        let mut dice = Dice {
            rng: Rng::from_seed([seed; 32]),
            known,
        };
        let mes = [me(10), me(11), me(12)];
        let mut thrown = 0;
        for _ in 0..ROUNDS {
            let Ok(mut message) = throw(&mut dice, ring.tag()) else {
                continue;
            };
            thrown += 1;
            if let Message::Routed(routed) = &mut message
                && let Ok(inner) = throw(&mut dice, ring.tag())
            {
                let me = &mes[dice.below(mes.len() as u64) as usize];
                let (target, body) = (routed.target, wire::encode(&inner));
                *routed = Routed::sign(me, target, routed.lane, body, victim.now.unix_ms);
            }
            let peer = peers[dice.below(peers.len() as u64) as usize];
            victim.hear(peer, &wire::encode(&message));
            if dice.below(10) == 0 {
                let time = Duration::from_millis(dice.below(3_000));
                victim.wait(time);
            }
        }
        assert!(thrown > ROUNDS / 2, "the dice mostly miss: {thrown}");
        assert!(victim.node.returns.len() <= RETURN_COUNT_MAX);
        assert!(victim.node.ring_status().members.len() <= 1024);
        // It may say that it cannot; it must not fall silent.
        let key = Key::new("any").unwrap();
        victim.replies.clear();
        victim.node.get(key, Mode::Quorum, victim.now);
        victim.settle();
        for _ in 0..600 {
            victim.wait(Duration::from_millis(100));
        }
        assert_eq!(victim.replies.len(), 1, "seed {seed}");
    }
}

/// The ring's next message for another.
fn said(victim: &mut Victim) -> ring::Message {
    loop {
        match victim.node.ring.actions.pop_front() {
            Some(RingAction::Send { message, .. }) => return message,
            Some(_) => {}
            None => panic!("nothing is said"),
        }
    }
}

/// The successor may have no path to one that joins, as when the two are at
/// different relays: its answer comes by way of others.
#[test]
fn who_takes_a_node_in_may_be_a_stranger() {
    let mut successor = Victim::new();
    let mut joiner = Victim::start(3, RingEntry::Join);
    let gate = peers(&mut joiner)[0];
    joiner.node.ring.on_contact(gate, joiner.now.mono);
    let (find, record) = (said(&mut joiner), joiner.node.record().clone());
    let now = successor.now.mono;
    successor.node.ring.on_message(&record, find, now);
    let found = wire::encode(&Message::Ring(said(&mut successor)));
    let to = joiner.node.id();
    let mut hear = |me: &Me| {
        let routed = Routed::sign(me, to, Lane::Control, found.clone(), START_MS);
        joiner.hear(gate, &wire::encode(&Message::Routed(routed)));
        let unknown = joiner.count("message_unknown_sender");
        (joiner.node.ring.id(), unknown)
    };
    // Not by another who says it: the message does not introduce that one.
    assert_eq!(hear(&me(20)), (None, 1));
    let ring = successor.node.ring.id();
    assert_eq!(hear(&successor.node.links.me), (ring, 1));
}

#[test]
fn nobody_speaks_for_another_by_way_of_others() {
    let mut victim = Victim::new();
    let peers = peers(&mut victim);
    let ring = victim.node.ring.id().unwrap();
    let body = wire::encode(&Message::Ring(ring::Message::stabilize(ring)));
    let own = victim.node.id();
    let signed = |me: &Me, at_ms| Routed::sign(me, own, Lane::Kv, body.clone(), at_ms);
    let other = Me {
        network: Network::new("other", b"").unwrap(),
        ..me(10)
    };
    let changes: [fn(&mut Routed); 4] = [
        |routed| routed.body.push(0),
        |routed| routed.lane = Lane::Bulk,
        |routed| routed.source = me(11).identity.id(),
        |_| {},
    ];
    for (number, change) in (1..).zip(changes) {
        let me = if number == 4 { &other } else { &me(10) };
        let mut routed = signed(me, START_MS);
        change(&mut routed);
        victim.hear(peers[2], &wire::encode(&Message::Routed(routed)));
        assert_eq!(victim.count("message_forged"), number);
    }
    // Nor is what was said long ago said again.
    const LATE_MS: u64 = 5 * 60 * 1000 + 1;
    for (number, at_ms) in [(1, START_MS - LATE_MS), (2, START_MS + LATE_MS)] {
        let routed = signed(&me(10), at_ms);
        victim.hear(peers[2], &wire::encode(&Message::Routed(routed)));
        assert_eq!(victim.count("message_expired"), number);
    }
    // None of them made the one they named a member, or the way to it known.
    assert_eq!(victim.node.ring_status().members.len(), 1);
    assert!(victim.node.returns.is_empty());
    let routed = signed(&me(10), START_MS + LATE_MS - 1);
    victim.hear(peers[2], &wire::encode(&Message::Routed(routed)));
    assert_eq!(victim.node.ring_status().members.len(), 2);
}

/// A peer at home at these relays, known to the node.
fn peer_at(victim: &mut Victim, seed: u8, homes: &[u8]) -> NodeId {
    let me = me(seed);
    let facts = me.record.facts().clone();
    let homes = homes.iter().map(|seed| self::me(*seed).identity.id());
    let record = me.identity.record_at(facts, homes.collect(), &me.network);
    victim.node.links.learn(&record, victim.now.mono);
    record.id()
}

/// Attaches the node to the relay with the member of that seed.
fn attach(victim: &mut Victim, member: u8) {
    let link = LinkId(1);
    let (version, nonce) = (wire::PROTOCOL_VERSION, [1; 32]);
    let member = me(member).record;
    victim.node.handle_input(Input::LinkUp { link }, victim.now);
    for frame in [
        FromRelay::Challenge { version, nonce },
        FromRelay::Welcome { member },
    ] {
        let bytes = frame.encode();
        victim
            .node
            .handle_input(Input::Frame { link, bytes }, victim.now);
    }
    victim.settle();
}

#[test]
fn a_peer_of_another_relay_is_reached_by_its_home() {
    let mut victim = Victim::new();
    attach(&mut victim, 20);
    let now = victim.now;
    let hop = |victim: &Victim, to, trail: &[NodeId]| victim.node.next_hop(&to, &[], trail, now);
    let here = peer_at(&mut victim, 30, &[20]);
    assert_eq!(hop(&victim, here, &[]), Some(here));
    // Of a relay that is at home at this node's, and of one that is at home
    // there in its turn.
    let (there, further) = (
        peer_at(&mut victim, 31, &[21]),
        peer_at(&mut victim, 32, &[22]),
    );
    assert_eq!(hop(&victim, there, &[]), None);
    let relay = peer_at(&mut victim, 21, &[21, 20]);
    assert_eq!(hop(&victim, there, &[]), Some(relay));
    // It had no path; nor had the one where it is at home.
    let own = me(20).identity.id();
    assert_eq!(hop(&victim, there, &[relay]), Some(own));
    assert_eq!(hop(&victim, there, &[relay, own]), None);
    let stranger = NodeId::from_bytes([9; 32]);
    let told = victim.node.next_hop(&stranger, &[relay], &[], now);
    assert_eq!(told, Some(relay), "its source knows where it is at home");
    peer_at(&mut victim, 22, &[22, 21]);
    assert_eq!(hop(&victim, further, &[]), Some(relay));
}
