//! Watchers during whatever happens: what they know in the end has to be what
//! is there.

use std::collections::BTreeMap;

use roundelay_core::kvs::{Key, News, Reply, RequestId, Token, Version, Watch};

use crate::checker::Checker;
use crate::scenario::pass;
use crate::workload::Workload;
use crate::world::{MS, SECOND, World};

/// What is watched: buckets, and keys alone.
const TARGETS: [&str; 5] = ["a/", "b/", "register/", "c/1", "register/2"];

/// One watcher. It asks one node, and another after a crash or a while.
struct Watcher {
    target: &'static str,
    at: usize,
    token: Option<Token>,
    /// What it was told of each key: versions, deleted or not.
    known: BTreeMap<Key, (Version, bool)>,
    open: Option<RequestId>,
    asks_at: u64,
}

/// All watchers.
#[derive(Default)]
pub struct Watchers {
    all: Vec<Watcher>,
    pub resets: u64,
    /// Changes told otherwise than after a reset.
    pub followed: u64,
    /// Whether they ask as soon as they can.
    hurries: bool,
}

impl Watchers {
    /// One for each target, and a second one.
    pub fn start(&mut self) {
        let targets = TARGETS.into_iter().chain(TARGETS);
        self.all = targets
            .enumerate()
            .map(|(at, target)| Watcher {
                target,
                at,
                token: None,
                known: BTreeMap::new(),
                open: None,
                asks_at: 0,
            })
            .collect();
    }

    pub fn on_crash(&mut self, index: usize) {
        for watcher in self.all.iter_mut().filter(|watcher| watcher.at == index) {
            watcher.open = None;
        }
    }
}

impl Workload {
    /// Has every watcher ask that is not waiting.
    pub fn watch(&mut self, world: &mut World, checker: &mut Checker) {
        let alive: Vec<usize> = world.alive().map(|(index, _)| index).collect();
        for place in 0..self.watchers.all.len() {
            let watcher = &mut self.watchers.all[place];
            if watcher.open.is_some() || watcher.asks_at > world.now {
                continue;
            }
            if !alive.contains(&watcher.at) || world.random.chance(0.02) {
                watcher.at = world.random.pick(&alive).unwrap_or(0);
            }
            let at = watcher.at;
            let now = world.now_of(at);
            let Some(node) = &mut world.processes[at].node else {
                continue;
            };
            let mut watch = Watch::new(watcher.target).unwrap();
            if let Some(token) = watcher.token.clone() {
                watch = watch.with_token(token);
            }
            let request = node.watch(watch, now);
            watcher.open = Some(request);
            world.log(|| format!("p{at} {request:?} watches {}", TARGETS[place % 5]));
            self.on_called(world, checker, at);
        }
    }

    /// Takes an answer in. Returns whether it was one to a watcher.
    pub fn on_watched(
        &mut self,
        world: &mut World,
        checker: &mut Checker,
        (index, request): (usize, RequestId),
        reply: &Reply,
    ) -> bool {
        let mut all = self.watchers.all.iter_mut();
        let asked = |one: &&mut Watcher| one.at == index && one.open == Some(request);
        let Some(watcher) = all.find(asked) else {
            return false;
        };
        world.log(|| format!("p{index} {request:?} {} -> {reply:?}", watcher.target));
        watcher.open = None;
        let Reply::Watched(news) = reply else {
            watcher.asks_at = world.now + 300 * MS;
            return true;
        };
        if let Err(words) = watcher.take(news) {
            checker.fail(format!("p{index} {words}"));
        }
        // Some are slow, or asleep for longer than they are remembered.
        watcher.asks_at = match world.random.below(40) {
            _ if self.watchers.hurries => world.now,
            0 => world.now + world.random.below(50 * SECOND),
            1..5 => world.now + world.random.below(SECOND),
            _ => world.now,
        };
        let followed = if news.reset { 0 } else { news.changes.len() };
        self.watchers.resets += u64::from(news.reset);
        self.watchers.followed += followed as u64;
        true
    }
}

impl Watcher {
    fn take(&mut self, news: &News) -> Result<(), String> {
        if news.reset {
            self.known.clear();
        }
        for change in &news.changes {
            let (key, version) = (&change.key, change.version);
            let bucket = self.target.strip_suffix('/');
            if key.as_str() != self.target && Some(key.bucket()) != bucket {
                return Err(format!("watched {}, and was told of {key}", self.target));
            }
            let known = self.known.insert(key.clone(), (version, change.deleted));
            if let Some((known, _)) = known.filter(|(known, _)| *known > version) {
                return Err(format!("watched {key} at {known}, then at {version}"));
            }
        }
        self.token = Some(news.token.clone());
        Ok(())
    }

    /// Whether it knows of each key what its voters hold.
    fn check(&self, world: &World, checker: &Checker) -> Result<(), String> {
        let contains = |key: &&Key| match self.target.strip_suffix('/') {
            Some(bucket) => key.bucket() == bucket,
            None => key.as_str() == self.target,
        };
        for key in checker.all_keys().filter(contains) {
            let (_, node) = world.alive().next().ok_or("nobody lives")?;
            let voter = node.locate(key).voters[0];
            let disk = &world.processes[world.index(&voter).unwrap()].disk;
            let held = disk.synced_version(key);
            let written = |version: &Version| {
                let mut values = disk.values.iter();
                values.find(|(other, _)| other == version)
            };
            let alive = held.filter(|at| written(at).is_some_and(|(_, value)| value.is_some()));
            let known = self.known.get(key);
            let known_alive = known.filter(|(_, deleted)| !deleted);
            if known_alive.map(|(version, _)| *version) != alive {
                return Err(format!(
                    "p{}, watching {}, knows {key} at {known:?}, which is at {held:?}",
                    self.at, self.target
                ));
            }
        }
        Ok(())
    }
}

/// Lets watchers catch up, and looks at what they know.
pub fn check(
    world: &mut World,
    workload: &mut Workload,
    checker: &mut Checker,
) -> Result<(), String> {
    workload.watchers.hurries = true;
    for watcher in &mut workload.watchers.all {
        watcher.asks_at = 0;
    }
    let deadline = world.now + 40 * SECOND;
    loop {
        workload.watch(world, checker);
        pass(world, workload, checker, 100 * MS)?;
        let watchers = &workload.watchers;
        let mut all = watchers.all.iter();
        match all.try_for_each(|watcher| watcher.check(world, checker)) {
            Ok(()) if watchers.followed == 0 => return Err("nothing was followed".into()),
            Ok(()) => return Ok(()),
            Err(words) if world.now >= deadline => return Err(words),
            Err(_) => {}
        }
    }
}
