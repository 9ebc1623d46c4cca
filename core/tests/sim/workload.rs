//! What callers do, and what they were told.

use std::collections::BTreeMap;

use roundelay_core::NodeId;
use roundelay_core::kvs::{Condition, Key, Mode, Reply, RequestError, RequestId, Version};

use crate::checker::Checker;
use crate::history::{History, Step};
use crate::lists::Lists;
use crate::watchers::Watchers;
use crate::world::World;

/// The buckets of keys that are written in mode `quorum`.
pub const BUCKETS: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Get,
    Put(Vec<u8>),
    Delete,
    Swap(Condition, Vec<u8>),
}

/// One request, from its start to its end.
#[derive(Clone, Debug)]
pub struct Call {
    pub key: Key,
    pub mode: Mode,
    pub action: Action,
    /// The newest version that was acknowledged before it began.
    pub floor: Version,
    begun_at: u64,
}

/// The bucket of keys that are written in mode `linearizable`.
pub const REGISTERS: &str = "register";

/// All callers: each process has many.
#[derive(Default)]
pub struct Workload {
    open: BTreeMap<(usize, RequestId), Call>,
    count: u64,
    pub done: u64,
    pub failed: u64,
    /// How long reads took, in microseconds, and how many failed.
    pub get_times: Vec<u64>,
    pub gets_failed: usize,
    /// Whether there are linearizable calls among them.
    pub linearizes: bool,
    /// Whether there are lists among them.
    pub does_list: bool,
    pub lists: Lists,
    pub watchers: Watchers,
    pub history: History,
    /// A version of each key that some caller saw last.
    seen: BTreeMap<Key, Version>,
}

impl Workload {
    /// Starts a random request at a random live node.
    pub fn begin(&mut self, world: &mut World, checker: &mut Checker) {
        let alive = world.alive().map(|(index, _)| index);
        let awake: Vec<usize> = alive.filter(|index| !world.is_frozen(*index)).collect();
        let Some(index) = world.random.pick(&awake) else {
            return;
        };
        self.count += 1;
        if self.does_list && world.random.chance(0.4) {
            return self.begin_list(world, checker, index);
        }
        if self.linearizes && world.random.chance(0.6) {
            return self.begin_linearizable(world, checker, index);
        }
        let mode = match world.random.below(4) {
            // Where nobody else has a say, a clock that is wrong is right.
            0 if !world.is_wrong(index) => Mode::One,
            _ => Mode::Quorum,
        };
        // Keys of mode `one` are apart: it promises less.
        let bucket = match mode {
            Mode::One => "one",
            _ => BUCKETS[world.random.below(3) as usize],
        };
        let key = Key::new(format!("{bucket}/{}", world.random.below(4))).unwrap();
        let action = match world.random.below(10) {
            0..=3 => Action::Get,
            4..=8 => {
                let mut value = format!("{key}#{}", self.count).into_bytes();
                if world.random.chance(0.02) {
                    value.resize(100_000, b'.');
                }
                Action::Put(value)
            }
            _ => Action::Delete,
        };
        self.call(world, checker, index, key, mode, action);
    }

    /// A few keys that all contend for.
    fn begin_linearizable(&mut self, world: &mut World, checker: &mut Checker, index: usize) {
        let name = world.random.below(3);
        let key = Key::new(format!("{REGISTERS}/{name}")).unwrap();
        let value = format!("{key}#{}", self.count).into_bytes();
        let known = self.seen.get(&key).copied();
        let action = match world.random.below(10) {
            0..=3 => Action::Get,
            4 => Action::Put(value),
            5 if world.random.chance(0.5) => Action::Delete,
            6 => Action::Swap(Condition::Absent, value),
            _ => match known {
                Some(version) => Action::Swap(Condition::Version(version), value),
                None => Action::Put(value),
            },
        };
        self.call(world, checker, index, key, Mode::Linearizable, action);
    }

    /// Reads a random key at a random live node.
    pub fn read(&mut self, world: &mut World, checker: &mut Checker) {
        let alive: Vec<usize> = world.alive().map(|(index, _)| index).collect();
        let Some(index) = world.random.pick(&alive) else {
            return;
        };
        let bucket = BUCKETS[world.random.below(3) as usize];
        let key = Key::new(format!("{bucket}/{}", world.random.below(4))).unwrap();
        self.call(world, checker, index, key, Mode::Quorum, Action::Get);
    }

    pub fn call(
        &mut self,
        world: &mut World,
        checker: &mut Checker,
        index: usize,
        key: Key,
        mode: Mode,
        action: Action,
    ) {
        let now = world.now_of(index);
        let Some(node) = &mut world.processes[index].node else {
            return;
        };
        let request = match action.clone() {
            Action::Get => node.get(key.clone(), mode, now),
            Action::Put(value) => node.put(key.clone(), value, mode, now),
            Action::Delete => node.delete(key.clone(), mode, now),
            Action::Swap(condition, value) => {
                node.compare_and_set(key.clone(), condition, Some(value), now)
            }
        };
        world.log(|| {
            format!("p{index} {request:?} {action:?} {key} {mode:?}")
                .chars()
                .take(120)
                .collect()
        });
        let floor = checker.begin(&key, &action);
        let call = Call {
            key,
            mode,
            action,
            floor,
            begun_at: world.now,
        };
        self.open.insert((index, request), call);
        self.on_called(world, checker, index);
    }

    /// A node was asked: carries out what it said, and takes in what it answered
    /// at once.
    pub fn on_called(&mut self, world: &mut World, checker: &mut Checker, index: usize) {
        for (index, event) in world.drain(index) {
            if let roundelay_core::Event::Reply { request, reply } = event {
                self.on_reply(world, checker, index, request, reply);
            }
        }
    }

    pub fn on_reply(
        &mut self,
        world: &mut World,
        checker: &mut Checker,
        index: usize,
        request: RequestId,
        reply: Reply,
    ) {
        if self.on_listed(world, checker, (index, request), &reply)
            || self.on_watched(world, checker, (index, request), &reply)
        {
            return;
        }
        let Some(call) = self.open.remove(&(index, request)) else {
            return checker.fail(format!("p{index} answered {request:?} twice or unasked"));
        };
        world.log(|| {
            format!("p{index} {request:?} {} -> {reply:?}", call.key)
                .chars()
                .take(220)
                .collect()
        });
        if call.mode == Mode::Linearizable {
            self.note(&call, Some(&reply), world.now);
        }
        match &reply {
            Reply::Failed(RequestError::ConditionFailed { .. }) => {
                self.done += 1;
                checker.not_applied(&call);
            }
            Reply::Failed(RequestError::OutcomeUnknown) => {
                self.failed += 1;
                checker.unknown(&call);
            }
            Reply::Failed(_) => {
                self.failed += 1;
                checker.not_applied(&call);
            }
            _ => self.done += 1,
        }
        // A newcomer that is in no ring yet has nowhere to look.
        let newcomer = matches!(reply, Reply::Failed(RequestError::NotJoined));
        if call.action == Action::Get && !newcomer {
            let failed = matches!(reply, Reply::Failed(_));
            self.gets_failed += usize::from(failed);
            self.get_times.push(world.now - call.begun_at);
        }
        checker.on_reply(world, index, &call, &reply);
    }

    /// A process is gone: nobody knows what became of its requests.
    pub fn on_crash(&mut self, index: usize, checker: &mut Checker) {
        self.lists.on_crash(index);
        self.watchers.on_crash(index);
        let gone: Vec<_> = self
            .open
            .keys()
            .filter(|(own, _)| *own == index)
            .copied()
            .collect();
        for id in gone {
            if let Some(call) = self.open.remove(&id) {
                self.note(&call, None, 0);
                checker.unknown(&call);
            }
        }
    }

    /// Notes how a linearizable call ended, if it did.
    fn note(&mut self, call: &Call, reply: Option<&Reply>, now: u64) {
        if call.mode != Mode::Linearizable {
            return;
        }
        let written = match &call.action {
            Action::Put(value) | Action::Swap(_, value) => number(value),
            Action::Get | Action::Delete => None,
        };
        let step = match call.action {
            Action::Get => None,
            Action::Put(_) | Action::Delete => Some(Step::Write(written)),
            Action::Swap(condition, _) => Some(Step::Swap(condition, written)),
        };
        let (step, ended) = match reply {
            None | Some(Reply::Failed(RequestError::OutcomeUnknown)) => (step, None),
            Some(Reply::Found { value, version }) => {
                self.history.saw(*version, number(value));
                self.seen.insert(call.key.clone(), *version);
                (Some(Step::Read(number(value))), Some(now))
            }
            Some(Reply::Missing) => (Some(Step::Read(None)), Some(now)),
            Some(Reply::Written { version, .. }) => {
                self.history.saw(*version, written);
                self.seen.insert(call.key.clone(), *version);
                (step, Some(now))
            }
            Some(Reply::Failed(RequestError::ConditionFailed { current })) => {
                self.seen
                    .extend(current.map(|seen| (call.key.clone(), seen)));
                let refused = match call.action {
                    Action::Swap(condition, _) => Some(Step::Refused(condition, *current)),
                    _ => None,
                };
                (refused, Some(now))
            }
            Some(_) => (None, None),
        };
        if let Some(step) = step {
            self.history.add(&call.key, step, call.begun_at, ended);
        }
    }

    /// Whether one order explains what the linearizable calls were told.
    pub fn check_order(&mut self, world: &World) -> Result<(), String> {
        for process in &world.processes {
            for (version, value) in &process.disk.values {
                let number = value.as_deref().and_then(number);
                self.history.saw(*version, number);
            }
        }
        self.history.check()
    }

    pub fn open_count(&self) -> usize {
        self.open.len() + self.lists.open_count()
    }
}

/// The number of a value: each is written once.
fn number(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    text.trim_end_matches('.').rsplit('#').next()?.parse().ok()
}

/// Ids in ring order.
pub fn ring_order(mut ids: Vec<NodeId>) -> Vec<NodeId> {
    ids.sort_unstable();
    ids
}
