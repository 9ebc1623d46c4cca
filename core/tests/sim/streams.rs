//! Sessions between members, while ways break and come back, and members start
//! again: every byte arrives once and in order, or both ends are told.

use std::collections::{BTreeMap, VecDeque};

use roundelay_core::status::{Class, LinkKind};
use roundelay_core::{Event, SessionError, SessionEvent};

use crate::random::Random;
use crate::world::{MS, SECOND, Weather, World};

/// Members: a relay, nodes and pages.
const CLASSES: [Class; 5] = [
    Class::Durable,
    Class::Durable,
    Class::Durable,
    Class::Transient,
    Class::Transient,
];
/// Bytes that each end of a session writes.
const TOTAL: u64 = 300_000;
/// How long an end may go on once the other has started again, and all know it.
const TOLD: u64 = 100 * MS;
/// How long there are faults.
const FAULTS: u64 = 20 * SECOND;

/// What one end of a session wrote, and what it read.
#[derive(Clone, Debug, Default)]
struct Half {
    written: u64,
    read: u64,
    /// Taken, and not yet consumed.
    held: usize,
    ended: Option<SessionError>,
}

struct Streams {
    world: World,
    random: Random,
    /// By own and other index.
    halves: BTreeMap<(usize, usize), Half>,
    failure: Option<String>,
    /// How often bytes came by each kind of way at last, of all looks.
    direct: u64,
    relayed: u64,
}

fn byte(from: usize, to: usize, offset: u64) -> u8 {
    (offset.wrapping_mul(31) >> 3) as u8 ^ offset as u8 ^ (from * 16 + to) as u8
}

impl Streams {
    fn new(seed: u64) -> Self {
        let weather = Weather {
            resent: if seed.is_multiple_of(2) { 0.01 } else { 0.0 },
            ..Weather::calm((200, 20 * MS))
        };
        let mut world = World::new(seed, weather);
        for class in CLASSES {
            world.add(class, 0);
        }
        let mut streams = Self {
            world,
            random: Random::new(seed ^ 0x5e55),
            halves: BTreeMap::new(),
            failure: None,
            direct: 0,
            relayed: 0,
        };
        while !streams.is_known() {
            streams.pass(100 * MS);
            assert!(streams.world.now < 30 * SECOND, "no ring");
        }
        streams
    }

    /// Whether everybody knows everybody.
    fn is_known(&self) -> bool {
        let mut alive = self.world.alive();
        alive.all(|(_, node)| node.is_ready() && node.ring_status().members.len() == CLASSES.len())
    }

    fn pass(&mut self, time: u64) {
        let until = self.world.now + time;
        let mut events = Vec::new();
        self.world
            .run_until(until, &mut |_, index, event| events.push((index, event)));
        self.on_events(events);
    }

    fn on_events(&mut self, events: Vec<(usize, Event)>) {
        let mut events = VecDeque::from(events);
        while let Some((index, event)) = events.pop_front() {
            let Event::Session { peer, event } = event else {
                continue;
            };
            let other = self.world.index(&peer).unwrap();
            let half = self.halves.entry((index, other)).or_default();
            match event {
                SessionEvent::Opened => *half = Half::default(),
                SessionEvent::Readable => self.take(index, other),
                SessionEvent::Writable => {}
                SessionEvent::Ended(why) => half.ended = Some(why),
            }
            events.extend(self.world.drain(index));
        }
    }

    fn take(&mut self, index: usize, other: usize) {
        let peer = self.world.id(other);
        let Some(node) = &mut self.world.processes[index].node else {
            return;
        };
        let (bytes, _) = node.take_session(&peer);
        let half = self.halves.entry((index, other)).or_default();
        half.held += bytes.len();
        for got in bytes {
            if got != byte(other, index, half.read) {
                let words = format!("p{index} read a wrong byte of p{other} at {}", half.read);
                self.failure.get_or_insert(words);
            }
            half.read += 1;
        }
    }

    /// Begins a session at one end.
    fn open(&mut self, index: usize, other: usize) {
        let (peer, now) = (self.world.id(other), self.world.now_of(index));
        let node = self.world.processes[index].node.as_mut().unwrap();
        node.open_session(peer, now).unwrap();
        self.halves.insert((index, other), Half::default());
        let events = self.world.drain(index);
        self.on_events(events);
    }

    /// All ends write a little, and consume what they hold.
    fn work(&mut self) {
        let ends: Vec<(usize, usize)> = self.halves.keys().copied().collect();
        for (index, other) in ends {
            let (peer, now) = (self.world.id(other), self.world.now_of(index));
            let half = self.halves.get_mut(&(index, other)).unwrap();
            let Some(node) = &mut self.world.processes[index].node else {
                continue;
            };
            if half.ended.is_some() {
                continue;
            }
            let most = self.random.below(6_000).min(TOTAL - half.written);
            let range = half.written..half.written + most;
            let bytes: Vec<u8> = range.map(|at| byte(index, other, at)).collect();
            half.written += node.write_session(&peer, &bytes, now) as u64;
            node.consume_session(&peer, half.held);
            half.held = 0;
            for link in node.status().links.iter().filter(|link| link.peer == peer) {
                self.direct += u64::from(link.kind == LinkKind::Direct);
                self.relayed += u64::from(link.kind == LinkKind::Relay);
            }
            let events = self.world.drain(index);
            self.on_events(events);
        }
    }

    fn is_done(&self) -> bool {
        let mut halves = self.halves.values();
        halves.all(|half| half.written == TOTAL && half.read == TOTAL)
    }

    /// What is wrong, in words.
    fn checked(&self) -> Result<(), String> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let ended = self.halves.iter().find(|(_, half)| half.ended.is_some());
        ended.map_or(Ok(()), |(ends, half)| {
            Err(format!("{ends:?} ended: {half:?}"))
        })
    }
}

/// Ways break, for less than a session bears.
pub fn run(seed: u64) -> Result<(), String> {
    let mut streams = Streams::new(seed);
    let pairs = [(1, 2), (2, 3), (4, 3), (1, 0)];
    for (one, other) in pairs {
        streams.open(one, other);
    }
    // Both ends at once: that is one session all the same.
    streams.open(2, 1);
    let until = streams.world.now + FAULTS;
    let mut next_fault = streams.world.now;
    while streams.world.now < until || !streams.is_done() {
        streams.work();
        streams.pass(10 * MS);
        streams.checked()?;
        if streams.world.now >= next_fault && streams.world.now < until {
            let index = 1 + streams.random.below(4) as usize;
            streams.world.break_links(index);
            next_fault += streams.random.between(100 * MS, 3 * SECOND);
        }
        if streams.world.now > until + 30 * SECOND {
            return Err(format!("it stands still: {:?}", streams.halves));
        }
    }
    if streams.halves.len() != 2 * pairs.len() {
        return Err(format!("{} ends of {pairs:?}", streams.halves.len()));
    }
    if streams.direct == 0 || streams.relayed == 0 {
        let (direct, relayed) = (streams.direct, streams.relayed);
        return Err(format!(
            "{direct} looks at direct ways, {relayed} at others"
        ));
    }
    Ok(())
}

/// One end starts again: the other is told, and a new session begins with nothing of
/// the old one.
pub fn restart(seed: u64) -> Result<(), String> {
    let mut streams = Streams::new(seed);
    let (one, other) = if seed.is_multiple_of(2) {
        (1, 2)
    } else {
        (1, 3)
    };
    streams.open(one, other);
    for _ in 0..20 {
        streams.work();
        streams.pass(10 * MS);
    }
    streams.checked()?;
    streams.world.crash(other, seed.is_multiple_of(3));
    streams.halves.remove(&(other, one));
    let down = streams.random.below(3 * SECOND);
    streams.pass(down);
    streams.world.start(other);
    let (begun, mut known) = (streams.world.now, None);
    while streams.halves[&(one, other)].ended.is_none() {
        streams.work();
        streams.pass(10 * MS);
        let now = streams.world.now;
        // At once: the first that it hears of the new start is enough.
        known = known.or_else(|| streams.is_known().then_some(now));
        if now > begun + 11 * SECOND || known.is_some_and(|known| now > known + TOLD) {
            let since = known.map(|known| (now - known) / MS);
            return Err(format!("{since:?} ms after all knew: one was not told"));
        }
    }
    if let Some(half) = streams.halves.get(&(other, one)) {
        return Err(format!(
            "the new process took part in the old one: {half:?}"
        ));
    }
    while !streams.is_known() {
        streams.pass(100 * MS);
    }
    streams.open(one, other);
    let begun = streams.world.now;
    while !(streams.halves.len() == 2 && streams.is_done()) {
        streams.work();
        streams.pass(10 * MS);
        streams.checked()?;
        if streams.world.now > begun + 30 * SECOND {
            return Err(format!("it stands still: {:?}", streams.halves));
        }
    }
    Ok(())
}
