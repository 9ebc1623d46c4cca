//! Rings of many members, nothing but rings: how many hops a lookup takes.
//!
//! `ROUNDELAY_CROWD=10000` says how many members there are in the largest.

extern crate std;

use alloc::collections::BTreeMap;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use std::println;

use super::*;
use crate::identity::{Facts, Identity};
use crate::status::Class;

/// How long a message takes, and the pause between two that join.
const LATENCY: Duration = Duration::from_millis(10);
const PAUSE: Duration = Duration::from_millis(5);

struct Crowd {
    rings: Vec<Option<Ring>>,
    records: Vec<Record>,
    places: BTreeMap<NodeId, usize>,
    /// On their way, in order of arrival.
    messages: VecDeque<(Instant, usize, usize, Message)>,
    timers: BTreeSet<(Instant, usize)>,
    wakes: Vec<Option<Instant>>,
    rng: Rng,
    now: Instant,
}

/// What lookups took.
#[derive(Debug, Default)]
struct Lookups {
    count: u32,
    hops: u32,
    most: u32,
    one: u32,
    /// Dead members that were tried.
    dead: u32,
    wrong: u32,
}

impl Lookups {
    fn mean(&self) -> f64 {
        f64::from(self.hops) / f64::from(self.count)
    }
}

impl Crowd {
    /// So many members, of which a dozen are durable, that joined one after
    /// another.
    fn of(count: usize) -> Self {
        let mut crowd = Self {
            rings: Vec::new(),
            records: Vec::new(),
            places: BTreeMap::new(),
            messages: VecDeque::new(),
            timers: BTreeSet::new(),
            wakes: Vec::new(),
            rng: Rng::from_seed([9; 32]),
            now: Instant::default(),
        };
        for place in 0..count {
            crowd.join(place);
            crowd.pass(PAUSE);
        }
        crowd.pass(Duration::from_secs(10));
        crowd
    }

    fn join(&mut self, place: usize) {
        let network = Network::new("crowd", b"").unwrap();
        let facts = Facts {
            epoch: 1,
            class: if place < 12 {
                Class::Durable
            } else {
                Class::Transient
            },
            name: String::new(),
        };
        let record = Identity::from_seed(&self.rng.bytes()).record(facts, &network);
        let mut ring = Ring::new(record.clone(), network, None, self.rng.fork(), self.now);
        ring.members.trusting = true;
        self.places.insert(record.id(), place);
        let contact = self.random(place);
        match contact {
            Some(contact) => ring.on_contact(self.records[contact].id(), self.now),
            None => ring.genesis(),
        }
        self.records.push(record);
        self.rings.push(Some(ring));
        self.wakes.push(None);
        self.drain(place);
    }

    fn random(&mut self, below: usize) -> Option<usize> {
        let number = self.rng.next_u64().checked_rem(below as u64)?;
        usize::try_from(number).ok()
    }

    fn drain(&mut self, place: usize) {
        let Some(ring) = &mut self.rings[place] else {
            return;
        };
        for action in ring.actions.drain(..) {
            if let RingAction::Send { to, message } = action {
                let to = self.places[&to];
                self.messages
                    .push_back((self.now + LATENCY, place, to, message));
            }
        }
        let wake = ring.poll_timeout();
        if let Some(old) = core::mem::replace(&mut self.wakes[place], wake) {
            self.timers.remove(&(old, place));
        }
        self.timers.extend(wake.map(|at| (at, place)));
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            let message = self.messages.front().map(|(at, ..)| *at);
            let timer = self.timers.first().map(|(at, _)| *at);
            let Some(next) = message.into_iter().chain(timer).min() else {
                break;
            };
            if next > until {
                break;
            }
            self.now = self.now.max(next);
            if message == Some(next) {
                let Some((_, from, to, message)) = self.messages.pop_front() else {
                    break;
                };
                if let Some(ring) = &mut self.rings[to] {
                    ring.on_message(&self.records[from], message, self.now);
                }
                self.drain(to);
            } else if let Some((_, place)) = self.timers.pop_first() {
                self.wakes[place] = None;
                if let Some(ring) = &mut self.rings[place] {
                    ring.on_timeout(self.now);
                }
                self.drain(place);
            }
        }
        self.now = until;
    }

    /// Goes from member to member until one takes itself for the owner.
    fn look_up(&mut self, position: &NodeId, lookups: &mut Lookups) {
        let count = self.rings.len();
        let mut at = loop {
            let at = self.random(count).unwrap_or(0);
            if self.rings[at].is_some() {
                break at;
            }
        };
        let now = self.now;
        let mut hops = 0;
        while let Some(ring) = &mut self.rings[at] {
            let next = ring.successor_of(position);
            if next == ring.own_id {
                break;
            }
            hops += 1;
            let next_at = self.places[&next];
            if self.rings[next_at].is_none() {
                // Its relay says that it is gone: the next best is tried.
                if let Some(ring) = &mut self.rings[at] {
                    ring.on_gone(&next, 1, now);
                }
                lookups.dead += 1;
            } else {
                at = next_at;
            }
        }
        let living = self
            .places
            .iter()
            .filter(|(_, place)| self.rings[**place].is_some());
        let owner = living.min_by_key(|(id, _)| position.distance_to(id));
        lookups.count += 1;
        lookups.hops += hops;
        lookups.most = lookups.most.max(hops);
        lookups.one += u32::from(hops <= 1);
        lookups.wrong += u32::from(owner.map(|(_, place)| *place) != Some(at));
    }

    fn look_up_many(&mut self, count: usize) -> Lookups {
        let mut lookups = Lookups::default();
        for _ in 0..count {
            let position = NodeId::from_bytes(self.rng.bytes());
            self.look_up(&position, &mut lookups);
        }
        lookups
    }

    /// Some die, and nobody is told.
    fn kill(&mut self, share: u64) {
        for place in 1..self.rings.len() {
            if self.rng.next_u64() % 100 < share {
                self.rings[place] = None;
            }
        }
    }
}

/// As DESIGN bounds it: half the logarithm, and a half.
fn bound(members: usize) -> f64 {
    0.5 * f64::from(members.ilog2()) + 0.5
}

#[test]
fn a_lookup_takes_one_hop_while_the_table_holds_all() {
    let lookups = Crowd::of(256).look_up_many(2000);
    println!("256 members: {:.3} hops, {lookups:?}", lookups.mean());
    assert!(lookups.one * 100 >= lookups.count * 99);
    assert_eq!(lookups.wrong, 0);
}

#[test]
fn a_lookup_takes_few_hops_in_a_large_ring() {
    let members = std::env::var("ROUNDELAY_CROWD");
    let members = members.map_or(1200, |text| text.parse().expect("ROUNDELAY_CROWD"));
    let mut crowd = Crowd::of(members);
    let lookups = crowd.look_up_many(1000);
    println!("{members} members: {:.3} hops, {lookups:?}", lookups.mean());
    assert!(lookups.mean() <= bound(members));
    assert_eq!(lookups.wrong, 0);
    // A dead member costs a hop, and never leads astray.
    crowd.kill(10);
    let after = crowd.look_up_many(1000);
    println!("a tenth dead: {:.3} hops, {after:?}", after.mean());
    let without = f64::from(after.hops - after.dead) / f64::from(after.count);
    assert!(without <= bound(members));
    assert_eq!(after.wrong, 0);
}
