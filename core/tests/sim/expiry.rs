//! Records that live for a while, at nodes whose clocks are minutes apart, and one
//! of which may be wrong by far more than others believe.
//!
//! What was missing once never comes back; nothing goes before its time by more
//! than clocks differ, or is found after it; in the end all copies are alike, and
//! the room is free again.

use std::collections::{BTreeMap, BTreeSet};

use roundelay_core::Event;
use roundelay_core::kvs::{
    CLOCK_AHEAD_MS_MAX, Key, Mode, Reply, RequestError, RequestId, Terms, Version,
};
use roundelay_core::status::Class;

use crate::checker::{Checker, level};
use crate::fault::{Breaker, Faults};
use crate::random::Random;
use crate::scenario::{Scenario, show};
use crate::workload::Workload;
use crate::world::{MS, SECOND, World};

/// How far each clock is ahead or behind, in milliseconds: no two differ by more
/// than peers believe.
const SKEW_MS: u64 = 145_000;
/// How far a clock is ahead that is wrong.
const WRONG_MS: i64 = 20 * 60 * 1000;
/// The longest time to live that is used.
const TTL_SECONDS: u64 = 20;
/// How long there are calls.
const DURATION: u64 = 30 * SECOND;
/// How long the ring may take to settle, and to free the room.
const SETTLE: u64 = 60 * SECOND;

/// What a caller wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Get,
    Put(u64, Option<u32>),
    Delete,
}

#[derive(Clone, Debug)]
struct Call {
    key: Key,
    mode: Mode,
    action: Action,
    /// What the wall clocks said then, but for their errors.
    begun_ms: u64,
    /// Of a read: what it must not find, and what had been acknowledged.
    dead: BTreeSet<u64>,
    acknowledged: BTreeSet<u64>,
    /// How much had happened to the key.
    changes: u64,
}

/// What is known of a key.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// The newest that was acknowledged: when it expires, or that it was deleted.
    newest: Option<(Version, Until)>,
    acknowledged: BTreeSet<u64>,
    pub dead: BTreeSet<u64>,
    /// The version of each of its values, and of the last delete.
    versions: BTreeMap<u64, Version>,
    pub deleted: Option<Version>,
    /// Calls that may yet change it, or may have, and the deletes among them.
    pending: u64,
    deletes: u64,
    changes: u64,
}

impl Record {
    /// A call that may have changed it has ended, and it is known how.
    fn ended(&mut self, action: &Action) {
        self.pending -= 1;
        self.deletes -= u64::from(*action == Action::Delete);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    Deleted,
    Always,
    /// Milliseconds of versions.
    UnixMs(u64),
}

#[derive(Default)]
pub struct Callers {
    open: BTreeMap<(usize, RequestId), Call>,
    pub records: BTreeMap<Key, Record>,
    /// When each value expires, once that is known.
    until: BTreeMap<u64, Until>,
    pub count: u64,
    /// Whether mode `one` may find nothing that is dead, either.
    pub is_settled: bool,
    /// A process whose clock is wrong, and what it said before.
    wrong: Option<(usize, i64)>,
    /// How far others believed it, from then on.
    believed_ms: u64,
    /// Reads that found gone what expires.
    missed: u64,
    failure: Option<String>,
}

impl Callers {
    pub fn begin(&mut self, world: &mut World) {
        let alive: Vec<usize> = world.alive().map(|(index, _)| index).collect();
        let Some(index) = world.random.pick(&alive) else {
            return;
        };
        self.count += 1;
        // In mode `one` nobody else has a say, until the time comes that it believes in.
        let is_wrong = self.wrong.is_some_and(|(wrong, _)| wrong == index);
        let (bucket, modes): (&str, &[Mode]) = match world.random.below(6) {
            0 if !is_wrong => ("one", &[Mode::One]),
            1 | 2 => ("register", &[Mode::Linearizable, Mode::Quorum]),
            _ => ("a", &[Mode::Quorum]),
        };
        let mode = world.random.pick(modes).unwrap_or_default();
        let key = Key::new(format!("{bucket}/{}", world.random.below(3))).unwrap();
        let action = match world.random.below(12) {
            0 => Action::Put(self.count, None),
            1..=2 => {
                let ttl = world.random.between(1, TTL_SECONDS) as u32;
                Action::Put(self.count, Some(ttl))
            }
            3 if world.random.chance(0.3) => Action::Delete,
            _ => Action::Get,
        };
        self.call(world, index, key, mode, action);
    }

    pub fn call(&mut self, world: &mut World, index: usize, key: Key, mode: Mode, action: Action) {
        let now = world.now_of(index);
        let Some(node) = &mut world.processes[index].node else {
            return;
        };
        let record = self.records.entry(key.clone()).or_default();
        let (dead, acknowledged) = (record.dead.clone(), record.acknowledged.clone());
        if action != Action::Get {
            record.pending += 1;
            record.deletes += u64::from(action == Action::Delete);
            record.changes += 1;
        }
        let changes = record.changes;
        let request = match &action {
            Action::Get => node.get(key.clone(), mode, now),
            Action::Delete => node.delete(key.clone(), mode, now),
            Action::Put(value, ttl) => {
                let ttl = ttl.map(|ttl| ttl.try_into().unwrap());
                let terms = Terms { ttl, ..mode.into() };
                let value = Some(value.to_string().into_bytes());
                node.write(key.clone(), value, terms, now)
            }
        };
        world.log(|| format!("p{index} {request:?} {action:?} {key} {mode:?}"));
        let begun_ms = world.unix_ms();
        let call = Call {
            key,
            mode,
            action,
            begun_ms,
            dead,
            acknowledged,
            changes,
        };
        self.open.insert((index, request), call);
        for (index, event) in world.drain(index) {
            self.on_event(world, index, event);
        }
    }

    fn on_event(&mut self, world: &World, index: usize, event: Event) {
        let Event::Reply { request, reply } = event else {
            return;
        };
        let Some(call) = self.open.remove(&(index, request)) else {
            return;
        };
        world.log(|| format!("p{index} {request:?} {} -> {reply:?}", call.key));
        let words = match reply {
            Reply::Written { version, .. } => {
                self.on_written(&call, version);
                None
            }
            Reply::Found { value, .. } => self.check_found(world, &call, &value),
            Reply::Missing if call.mode != Mode::One => self.check_missing(world, &call),
            Reply::Failed(RequestError::OutcomeUnknown) => None,
            Reply::Failed(_) if call.action != Action::Get => {
                self.record(&call).ended(&call.action);
                None
            }
            Reply::Missing | Reply::Listed(_) | Reply::Watched(_) => None,
            Reply::Failed(_) | Reply::Evicted => None,
        };
        if let Some(words) = words {
            let key = &call.key;
            let words = format!("p{index} {request:?} {key} {:?}: {words}", call.mode);
            self.failure.get_or_insert(words);
        }
    }

    fn record(&mut self, call: &Call) -> &mut Record {
        self.records.entry(call.key.clone()).or_default()
    }

    fn on_written(&mut self, call: &Call, version: Version) {
        let until = match call.action {
            Action::Put(_, Some(ttl)) => Until::UnixMs(version.unix_ms() + u64::from(ttl) * 1000),
            Action::Put(_, None) => Until::Always,
            Action::Get | Action::Delete => Until::Deleted,
        };
        let value = match call.action {
            Action::Put(value, _) => Some(value),
            Action::Get | Action::Delete => None,
        };
        self.until.extend(value.map(|value| (value, until)));
        let record = self.record(call);
        record.ended(&call.action);
        record.changes += 1;
        record.acknowledged.extend(value);
        record.versions.extend(value.map(|value| (value, version)));
        if call.action == Action::Delete {
            record.deleted = record.deleted.max(Some(version));
            // By clocks that differ a later write may be the newer one.
            let versions = &record.versions;
            let before = |value: &&u64| versions.get(*value).is_some_and(|own| *own < version);
            let dead = call.acknowledged.iter().filter(before).copied();
            record.dead.extend(dead);
        }
        if record.newest.is_none_or(|(newest, _)| newest < version) {
            record.newest = Some((version, until));
        }
    }

    fn check_found(&self, world: &World, call: &Call, value: &[u8]) -> Option<String> {
        let value = std::str::from_utf8(value).ok()?.parse().ok()?;
        if (call.mode != Mode::One || self.is_settled) && call.dead.contains(&value) {
            return Some(format!("{value} came back after it was missing"));
        }
        let behind = self.lowest_clock(world, call.begun_ms);
        match self.until.get(&value) {
            Some(Until::UnixMs(at)) if *at < behind => {
                Some(format!("{value} was found {} ms too late", behind - at))
            }
            _ => None,
        }
    }

    fn check_missing(&mut self, world: &World, call: &Call) -> Option<String> {
        let ahead = self.highest_clock(world);
        let record = self.records.entry(call.key.clone()).or_default();
        // A delete that is under way may be found by one read, and not by the next.
        if record.deletes == 0 {
            record.dead.extend(&call.acknowledged);
        }
        let (_, until) = record.newest?;
        self.missed += u64::from(matches!(until, Until::UnixMs(_)));
        if record.pending > 0 || record.changes != call.changes {
            return None;
        }
        match until {
            Until::Deleted => None,
            Until::Always => Some("is missing, though it never expires".into()),
            Until::UnixMs(at) if at > ahead => {
                Some(format!("was missing {} ms too early", at - ahead))
            }
            Until::UnixMs(_) => None,
        }
    }

    /// Processes are gone: nobody knows what became of their requests.
    pub fn forget_gone(&mut self, world: &World) {
        let runs = |index: usize| world.processes[index].node.is_some();
        self.open.retain(|(index, _), _| runs(*index));
    }

    pub fn advance(&mut self, world: &mut World, by: u64) -> Result<(), String> {
        let until = world.now + by;
        world.run_until(until, &mut |world, index, event| {
            self.on_event(world, index, event);
        });
        self.failure.take().map_or(Ok(()), Err)
    }
}

impl Callers {
    /// How far the clocks are ahead that are right, or nearly so.
    fn skews(&self, world: &World) -> impl Iterator<Item = i64> {
        let wrong = self.wrong.map(|(index, _)| index);
        let right = world.processes.iter().enumerate();
        let right = right.filter(move |(index, _)| Some(*index) != wrong);
        right.map(|(_, process)| process.clock_skew_ms)
    }

    /// What the clock that is farthest behind said at some time.
    fn lowest_clock(&self, world: &World, unix_ms: u64) -> u64 {
        let skew = self.skews(world).min().unwrap_or(0);
        unix_ms.saturating_add_signed(skew)
    }

    /// The latest time that anybody may believe in.
    fn highest_clock(&self, world: &World) -> u64 {
        let skew = self.skews(world).max().unwrap_or(0);
        (world.unix_ms() + self.believed_ms).saturating_add_signed(skew)
    }

    fn set_right(&mut self, world: &mut World) {
        if let Some((index, skew)) = self.wrong.take() {
            world.processes[index].clock_skew_ms = skew;
        }
    }
}

/// Runs one seed; says what went wrong.
pub fn run(seed: u64) -> Result<(), String> {
    let base = Scenario::general(seed);
    let mut world = World::new(seed, base.weather.clone());
    let mut random = Random::new(seed ^ 0xe4b1);
    let mut skew = move || random.between(0, 2 * SKEW_MS) as i64 - SKEW_MS as i64;
    let faults = match seed % 3 {
        0 => Faults::OneAtATime,
        1 => Faults::Partitions,
        _ => Faults::Moves,
    };
    for _ in 0..3 + seed % 2 {
        world.add(Class::Durable, skew());
    }
    for _ in 0..base.pages % 3 {
        world.add(Class::Transient, skew());
    }
    let random = Random::new(seed ^ 0xdead);
    let mut breaker = Breaker::new(faults, 3, 8 * SECOND, random);
    let (mut workload, mut checker) = (Workload::default(), Checker::default());
    let mut callers = Callers::default();
    callers.advance(&mut world, 4 * SECOND)?;
    if seed % 5 == 4 {
        callers.wrong = Some((2, world.processes[2].clock_skew_ms));
        callers.believed_ms = CLOCK_AHEAD_MS_MAX;
        world.processes[2].clock_skew_ms = WRONG_MS;
    }
    while world.now < DURATION || !breaker.is_idle() {
        if world.now < DURATION {
            callers.begin(&mut world);
        }
        breaker.step(&mut world, &mut workload, &mut checker);
        callers.forget_gone(&world);
        let pause = world.random.between(MS, 40 * MS);
        callers.advance(&mut world, pause)?;
    }
    callers.set_right(&mut world);
    world.weather.loss = 0.0;
    world.weather.resent = 0.0;
    settle(&mut world, &mut callers)?;
    let last = Key::new("a/last").unwrap();
    let put = Action::Put(callers.count + 1, Some(1));
    callers.call(&mut world, 0, last.clone(), Mode::Quorum, put);
    // Meanwhile some caller looks, here and there.
    let over = world.now + 2 * SKEW_MS * MS + TTL_SECONDS * SECOND;
    while world.now < over {
        callers.begin_read(&mut world);
        callers.advance(&mut world, SECOND)?;
    }
    free(&mut world, &mut callers)?;
    callers.missed = 0;
    callers.call(&mut world, 0, last, Mode::Quorum, Action::Get);
    callers.advance(&mut world, SECOND)?;
    match callers.missed {
        0 => Err("the last record did not expire".into()),
        _ => Ok(()),
    }
}

impl Callers {
    pub fn begin_read(&mut self, world: &mut World) {
        let alive: Vec<usize> = world.alive().map(|(index, _)| index).collect();
        let keys: Vec<Key> = self.records.keys().cloned().collect();
        let place = world.random.below(keys.len() as u64) as usize;
        if let (Some(index), Some(key)) = (world.random.pick(&alive), keys.get(place)) {
            let mode = match key.bucket() {
                "one" => Mode::One,
                _ => Mode::Quorum,
            };
            self.call(world, index, key.clone(), mode, Action::Get);
        }
    }
}

/// The ring becomes whole, and all copies alike.
pub fn settle(world: &mut World, callers: &mut Callers) -> Result<(), String> {
    // A version that was believed is refused by who is behind, until its time comes.
    let deadline = world.now + SETTLE + callers.believed_ms * MS;
    let keys: Vec<Key> = callers.records.keys().cloned().collect();
    loop {
        callers.advance(world, 200 * MS)?;
        let settled = Checker::default().settled(world, &keys);
        match settled.and_then(|()| keys.iter().try_for_each(|key| level(world, key))) {
            Ok(()) => return Ok(()),
            Err(words) if world.now >= deadline => {
                show(world);
                return Err(format!("not settled: {words}"));
            }
            Err(_) => {}
        }
    }
}

/// All that has expired is gone from every disk.
fn free(world: &mut World, callers: &mut Callers) -> Result<(), String> {
    let deadline = world.now + SETTLE;
    loop {
        callers.advance(world, SECOND)?;
        let behind = callers.lowest_clock(world, world.unix_ms());
        let kept = world.alive().find_map(|(index, _)| {
            let mut keys = callers.records.keys();
            let expires = |key: &Key| world.processes[index].disk.expires(key);
            let key = keys.find(|key| expires(key).is_some_and(|at| at < behind))?;
            Some(format!("p{index} keeps {key}, though it has expired"))
        });
        match kept {
            None => return settle(world, callers),
            Some(words) if world.now >= deadline => return Err(words),
            Some(_) => {}
        }
    }
}
