//! Two ends and a relay that does what a test wants: every frame between them
//! passes through the test's hands.

mod budget;
mod circuits;
mod relays;
mod signals;

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use super::{DownCause, LinkEvent, Links, Me};
use crate::attach::{FromRelay, Refusal, ToRelay};
use crate::event::{Dial, Lane, LinkId, Output};
use crate::id::NodeId;
use crate::identity::{Facts, Identity, Network};
use crate::rng::Rng;
use crate::status::Class;
use crate::time::{Instant, Now};
use crate::trouble::TroubleKind;
use crate::wire::PROTOCOL_VERSION;

/// When every test begins, in milliseconds since 1970.
const START_MS: u64 = 1_763_856_000_000;

fn network(name: &str) -> Network {
    Network::new(name, b"").unwrap()
}

/// A node's links, and what they said.
struct End {
    seed: [u8; 32],
    links: Links,
    now: Now,
    /// The link to its relay, once dialled.
    relay: LinkId,
    outputs: Vec<Output>,
    messages: Vec<(NodeId, Vec<u8>)>,
    signals: Vec<Vec<u8>>,
    troubles: Vec<TroubleKind>,
    downs: Vec<(NodeId, DownCause)>,
}

impl End {
    /// An end that has dialled its relay.
    fn dialling(seed: u8, epoch: u64, network: &Network) -> Self {
        Self::dialling_all(seed, epoch, network, &["ws://relay/ws".to_string()])
    }

    fn dialling_all(seed: u8, epoch: u64, network: &Network, urls: &[String]) -> Self {
        let identity = Identity::from_seed(&[seed; 32]);
        let facts = Facts {
            epoch,
            class: Class::Durable,
            name: String::new(),
        };
        let me = Me {
            record: identity.record(facts, network),
            identity,
            network: network.clone(),
            rng: Rng::from_seed([seed ^ epoch as u8; 32]),
        };
        let now = Now {
            mono: Instant::from_micros(0),
            unix_ms: START_MS,
        };
        let mut end = Self {
            seed: [seed; 32],
            links: Links::new(me, urls, 8, now.mono),
            now,
            relay: LinkId(0),
            outputs: vec![],
            messages: vec![],
            signals: vec![],
            troubles: vec![],
            downs: vec![],
        };
        end.dial();
        end
    }

    /// An end that is attached to the relay of all tests.
    fn attached(seed: u8, epoch: u64) -> Self {
        Self::attached_in(seed, epoch, &network("test"))
    }

    fn attached_in(seed: u8, epoch: u64, network: &Network) -> Self {
        let mut end = Self::dialling(seed, epoch, network);
        let relay = Self::dialling(200, 1, network).links.me.record;
        end.links.on_up(end.relay, end.now);
        end.hear(&FromRelay::Challenge {
            version: PROTOCOL_VERSION,
            nonce: [1; 32],
        });
        end.hear(&FromRelay::Welcome { member: relay });
        assert!(end.links.relays.is_attached(end.relay));
        end.forwards();
        end
    }

    fn id(&self) -> NodeId {
        self.links.me.identity.id()
    }

    /// Lets the relay be dialled, if that is due.
    fn dial(&mut self) {
        self.links.on_timeout(self.now);
        self.collect();
        for output in self.outputs.drain(..) {
            if let Output::Dial { link, to } = output
                && matches!(to, Dial::Relay { .. })
            {
                self.relay = link;
            }
        }
    }

    /// The relay itself says something.
    fn hear(&mut self, frame: &FromRelay) {
        self.hear_bytes(&frame.encode());
    }

    fn hear_bytes(&mut self, bytes: &[u8]) {
        self.links.on_frame(self.relay, bytes, self.now);
        self.collect();
    }

    /// The relay delivers a body.
    fn deliver(&mut self, from: NodeId, body: &[u8]) {
        self.hear_bytes(&FromRelay::deliver(from, body));
    }

    fn say(&mut self, to: &NodeId, message: &[u8]) {
        let sent = self.links.send(to, Lane::Kv, message, self.now);
        assert_eq!(sent, Ok(()));
        self.collect();
    }

    /// The bodies that were handed to the relay since the last call.
    fn forwards(&mut self) -> Vec<(NodeId, Vec<u8>)> {
        let mut forwards = vec![];
        for output in core::mem::take(&mut self.outputs) {
            match output {
                Output::Send { link, lane, bytes } if link == self.relay => {
                    self.links.on_drained(link, lane, bytes.len());
                    if let Ok((ToRelay::Forward { to }, body)) = ToRelay::decode(&bytes) {
                        forwards.push((to, body.to_vec()));
                    }
                }
                other => self.outputs.push(other),
            }
        }
        forwards
    }

    /// Lets time pass.
    fn wait(&mut self, time: Duration) {
        self.now.mono += time;
        self.now.unix_ms += time.as_millis() as u64;
    }

    fn count(&self, counter: &str) -> u64 {
        let mut counters = self.links.counters.iter();
        counters
            .find(|(name, _)| *name == counter)
            .map_or(0, |(_, count)| count)
    }

    fn heard(&mut self) -> Vec<Vec<u8>> {
        let messages = core::mem::take(&mut self.messages);
        messages.into_iter().map(|(_, bytes)| bytes).collect()
    }

    fn collect(&mut self) {
        while let Some(event) = self.links.poll_event() {
            match event {
                LinkEvent::Message { peer, bytes } => self.messages.push((peer, bytes)),
                LinkEvent::Signal { bytes, .. } => self.signals.push(bytes),
                LinkEvent::Down { peer, cause, .. } => self.downs.push((peer, cause)),
                LinkEvent::Trouble(trouble) => self.troubles.push(trouble.kind),
                _ => {}
            }
        }
        self.outputs.extend(self.links.outputs.drain(..));
    }
}

/// Carries all bodies to and fro until nobody has any; returns them, each with
/// the end that sent it.
fn exchange(ends: &mut [&mut End]) -> Vec<(NodeId, Vec<u8>)> {
    let mut carried = vec![];
    loop {
        let mut under_way = vec![];
        for end in ends.iter_mut() {
            let from = end.id();
            let forwards = end.forwards().into_iter();
            under_way.extend(forwards.map(|(to, body)| (from, to, body)));
        }
        if under_way.is_empty() {
            return carried;
        }
        for (from, to, body) in under_way {
            if let Some(end) = ends.iter_mut().find(|end| end.id() == to) {
                end.deliver(from, &body);
            }
            carried.push((from, body));
        }
    }
}

/// Two attached ends; the first knows the second.
fn pair() -> (End, End) {
    let (mut a, b) = (End::attached(1, 10), End::attached(2, 20));
    a.links.learn(&b.links.me.record, a.now.mono);
    (a, b)
}
