//! What has to hold, whatever happens. Checkers know nothing of faults.

use std::collections::{BTreeMap, BTreeSet};

use roundelay_core::kvs::{Key, Mode, Reply, Slot, Version};
use roundelay_core::status::{Class, Location, MemberState};
use roundelay_core::{Node, NodeId, TOMBSTONE_GRACE};

use crate::workload::{Action, BUCKETS, Call, REGISTERS, ring_order};
use crate::world::{SECOND, World};

/// What was promised for one key.
#[derive(Clone, Debug, Default)]
struct Promise {
    acknowledged: Option<(Version, bool)>,
    /// Deletes that are under way, or whose outcome nobody knows.
    deletes: u64,
    /// The newest that one of two voters acknowledged alone, and how many of those
    /// deleted. If both lived, and were parted, the other may serve what is older, or
    /// newer, until both have compared.
    alone: Option<(Version, bool)>,
    alone_deletes: u64,
}

/// The voters of a slot's views, and when each view was first seen.
type Views = BTreeMap<u64, (Vec<NodeId>, u64)>;

#[derive(Default)]
pub struct Checker {
    promises: BTreeMap<Key, Promise>,
    values: BTreeMap<(Key, Version), Vec<u8>>,
    views: BTreeMap<u16, Views>,
    pub failure: Option<String>,
    /// When a disk was lost: an acknowledgement that was on its way then may
    /// arrive to find one copy fewer.
    pub disk_lost_at: Option<u64>,
    /// How many passed their places on in time, and how many did not.
    pub retired: u64,
    pub not_retired: u64,
    /// How many of each process's removals were looked at.
    removals: BTreeMap<usize, usize>,
}

/// How long after a fault copies may be few.
const MENDING: u64 = 15 * SECOND;

impl Checker {
    pub fn fail(&mut self, words: String) {
        self.failure.get_or_insert(words);
    }

    /// A request begins. Returns the version below which no answer may fall.
    pub fn begin(&mut self, key: &Key, action: &Action) -> Version {
        let promise = self.promises.entry(key.clone()).or_default();
        if *action == Action::Delete {
            promise.deletes += 1;
        }
        promise
            .acknowledged
            .map_or(Version::ZERO, |(version, _)| version)
    }

    /// Nobody knows whether a request was applied.
    pub fn unknown(&mut self, _call: &Call) {}

    /// A request was surely not applied.
    pub fn not_applied(&mut self, call: &Call) {
        if call.action == Action::Delete
            && let Some(promise) = self.promises.get_mut(&call.key)
        {
            promise.deletes -= 1;
        }
    }

    pub fn on_reply(&mut self, world: &World, index: usize, call: &Call, reply: &Reply) {
        self.observe_all(world);
        match reply {
            Reply::Written { version, copies } => {
                let alone = call.mode != Mode::One && copies.of == 2 && copies.have == 1;
                let deleted = call.action == Action::Delete;
                if let Action::Put(value) | Action::Swap(_, value) = &call.action {
                    self.values
                        .insert((call.key.clone(), *version), value.clone());
                }
                if call.mode != Mode::One {
                    // A view of two may go on with one.
                    if copies.have < copies.of / 2 + 1 && !alone {
                        self.fail(format!("{} acknowledged with {copies:?}", call.key));
                    }
                    let lost = self
                        .disk_lost_at
                        .is_some_and(|at| world.now < at + 5 * SECOND);
                    if !lost && !alone {
                        self.check_durable(world, &call.key, *version, usize::from(copies.of));
                    }
                }
                let promise = self.promises.entry(call.key.clone()).or_default();
                let place = match alone {
                    true => &mut promise.alone,
                    false => &mut promise.acknowledged,
                };
                *place = (*place).max(Some((*version, deleted)));
                match alone {
                    true => promise.alone_deletes += u64::from(deleted),
                    false => promise.deletes -= u64::from(deleted),
                }
            }
            Reply::Found { value, version } => {
                let known = self.values.get(&(call.key.clone(), *version));
                if known.is_some_and(|known| known != value) {
                    self.fail(format!("{} at {version} has another value", call.key));
                }
                if call.mode != Mode::One && *version < call.floor {
                    let floor = call.floor;
                    self.fail(format!(
                        "p{index} read {} at {version}, after {floor} was acknowledged",
                        call.key
                    ));
                }
            }
            Reply::Missing if call.mode != Mode::One => self.check_missing(index, call),
            Reply::Missing | Reply::Listed(_) | Reply::Watched(_) => {}
            Reply::Evicted | Reply::Failed(_) => {}
        }
    }

    /// What one of two acknowledged alone holds for all once both have compared.
    fn hold_alone(&mut self, world: &World) {
        let alone = |promise: &Promise| promise.alone.is_some();
        if !self.promises.values().any(alone) || !world.alive().all(|(_, node)| is_whole(node)) {
            return;
        }
        for promise in self.promises.values_mut() {
            promise.acknowledged = promise.acknowledged.max(promise.alone.take());
            promise.deletes -= std::mem::take(&mut promise.alone_deletes);
        }
    }

    fn check_missing(&mut self, index: usize, call: &Call) {
        if call.floor > Version::ZERO && !self.may_be_missing(&call.key, call.floor) {
            self.fail(format!(
                "p{index} found {} missing, after it was acknowledged",
                call.key
            ));
        }
    }

    /// Whether a key may have been deleted since that version of it was
    /// acknowledged.
    pub fn may_be_missing(&self, key: &Key, floor: Version) -> bool {
        let promise = self.promises.get(key).cloned().unwrap_or_default();
        let deleted =
            promise.deletes > 0 || promise.acknowledged.is_none_or(|(_, deleted)| deleted);
        // A delete that was acknowledged since may have been overwritten by
        // now: then the newest promise is newer than the floor.
        let newest = promise.acknowledged;
        deleted || newest.is_some_and(|(version, _)| version > floor)
    }

    /// The time of the newest version that was acknowledged, in Unix milliseconds.
    pub fn newest_ms(&self) -> u64 {
        let promises = self.promises.values();
        let acknowledged = promises.filter_map(|promise| promise.acknowledged.max(promise.alone));
        let times = acknowledged.map(|(version, _)| version.unix_ms());
        times.max().unwrap_or(0)
    }

    /// What is acknowledged of a bucket's keys: versions, deleted or not.
    pub fn floors(&self, bucket: &str) -> BTreeMap<Key, (Version, bool)> {
        let keys = self.promises.iter();
        keys.filter(|(key, _)| key.bucket() == bucket)
            .filter_map(|(key, promise)| Some((key.clone(), promise.acknowledged?)))
            .collect()
    }

    /// What is acknowledged by voters of a view is synced on most of them.
    fn check_durable(&mut self, world: &World, key: &Key, version: Version, of: usize) {
        let views = self
            .views
            .get(&key.slot().number())
            .cloned()
            .unwrap_or_default();
        // Views of different sizes are different views, since they only grow.
        let mut same = views.values().filter(|(voters, _)| voters.len() == of);
        let is_durable = |(voters, _): &(Vec<NodeId>, u64)| {
            let synced = voters.iter().filter(|voter| {
                let disk = world.index(voter).map(|index| &world.processes[index].disk);
                let held = disk.and_then(|disk| disk.synced_version(key));
                // An answer may come after what it tells of was deleted and forgotten.
                let forgotten = disk.and_then(|disk| disk.forgotten_version(key));
                held.max(forgotten) >= Some(version)
            });
            synced.count() > voters.len() / 2
        };
        if !same.any(is_durable) {
            self.fail(format!(
                "{key} at {version} was acknowledged, but is not on a majority"
            ));
        }
    }

    /// Looks at every node's view of every key's slot.
    pub fn observe_all(&mut self, world: &World) {
        let [a, b, c] = BUCKETS;
        let keys = [a, b, c, REGISTERS].map(|bucket| Key::new(bucket).unwrap());
        let alive: Vec<usize> = world.alive().map(|(index, _)| index).collect();
        for (index, key) in alive
            .iter()
            .flat_map(|index| keys.iter().map(|key| (*index, key)))
        {
            self.observe(world, index, key);
        }
        for index in alive {
            self.check_removals(world, index);
        }
        self.hold_alone(world);
    }

    /// Whatever a node handed over is held by as many durable nodes as its slot
    /// has voters, unless one went or came lately, or refuses it for its clock.
    fn check_removals(&mut self, world: &World, index: usize) {
        if world.grace < TOMBSTONE_GRACE {
            // What was forgotten is dropped by whoever was away.
            return;
        }
        let removed = &world.processes[index].disk.removed;
        let seen = self.removals.insert(index, removed.len()).unwrap_or(0);
        let durable: Vec<usize> = world
            .alive()
            .map(|(index, _)| index)
            .filter(|index| world.processes[*index].class == Class::Durable)
            .collect();
        for (key, version) in removed.iter().skip(seen) {
            let holds = |other: &&usize| {
                let held = world.processes[**other].disk.synced_version(key);
                **other != index && held >= Some(*version)
            };
            let count = durable.iter().filter(holds).count();
            let views = self.views.get(&key.slot().number());
            let newest = views.and_then(|views| views.values().next_back());
            let voters = newest.map_or(&[][..], |(voters, _)| voters).iter();
            let is_right = |voter: &&NodeId| {
                let index = world.index(voter);
                index.is_some_and(|index| !world.is_wrong(index))
            };
            let voters = voters.filter(is_right).count();
            if count < voters && world.now > world.broken_at + MENDING {
                self.fail(format!(
                    "p{index} dropped {key} at {version} before it was taken: \
                     {count} durable nodes hold it"
                ));
            }
        }
    }

    /// Looks at a node's view of a key's slot: views never fork.
    pub fn observe(&mut self, world: &World, index: usize, key: &Key) {
        let Some(node) = &world.processes[index].node else {
            return;
        };
        let location = node.locate(key);
        if location.view == 0 {
            return;
        }
        let views = self.views.entry(location.slot).or_default();
        let seen = views
            .entry(location.view)
            .or_insert_with(|| (location.voters.clone(), world.now));
        if seen.0 != location.voters {
            let (slot, view) = (location.slot, location.view);
            let (here, there) = (location.voters, seen.0.clone());
            self.fail(format!(
                "view {view} of slot {slot} forks: p{index} {here:?}, {there:?}"
            ));
        }
    }

    /// Whether the ring is one and ordered, everyone agrees on it, and every
    /// record has all its copies; says what is missing.
    pub fn settled(&mut self, world: &World, keys: &[Key]) -> Result<(), String> {
        let alive: Vec<usize> = world.alive().map(|(index, _)| index).collect();
        let ring = ring_order(alive.iter().map(|index| world.id(*index)).collect());
        let durable = alive
            .iter()
            .filter(|index| world.processes[**index].class == Class::Durable);
        let durable: Vec<NodeId> = durable.map(|index| world.id(*index)).collect();
        for index in alive {
            let Some(node) = &world.processes[index].node else {
                continue;
            };
            let status = node.status();
            let place = ring.iter().position(|id| *id == node.id()).unwrap_or(0);
            let next = ring[(place + 1) % ring.len()];
            let previous = ring[(place + ring.len() - 1) % ring.len()];
            if ring.len() > 1 {
                if status.successors.first() != Some(&next) {
                    return Err(format!("p{index}: successors {:?}", status.successors));
                }
                if status.predecessor != Some(previous) {
                    return Err(format!("p{index}: predecessor {:?}", status.predecessor));
                }
            }
            if let Some(gone) = status.successors.iter().find(|id| !ring.contains(id)) {
                return Err(format!("p{index}: names {gone:?}, who is gone"));
            }
            let members = node.ring_status().members;
            let all_alive = members
                .iter()
                .all(|member| member.state == MemberState::Alive);
            let ids: Vec<NodeId> = members.iter().map(|member| member.id).collect();
            if ids != ring || !all_alive {
                return Err(format!("p{index}: {members:?} instead of {ring:?}"));
            }
            if !status.ready || status.store.under_replicated > 0 {
                let missing = status.store.under_replicated;
                return Err(format!(
                    "p{index}: ready {}, missing {missing}",
                    status.ready
                ));
            }
            for key in keys {
                self.observe(world, index, key);
                let location = node.locate(key);
                let voters = nearest(&location, &durable);
                if location.voters.iter().collect::<BTreeSet<_>>() != voters.iter().collect() {
                    let found = &location.voters;
                    return Err(format!(
                        "p{index}: {key} has voters {found:?} instead of {voters:?}"
                    ));
                }
            }
        }
        self.promises.keys().try_for_each(|key| level(world, key))
    }

    /// All keys that anybody asked for.
    pub fn all_keys(&self) -> impl Iterator<Item = &Key> {
        self.promises.keys()
    }

    /// Keys for which anything was promised in mode `quorum`.
    pub fn keys(&self) -> Vec<Key> {
        let quorum = self.promises.keys().filter(|key| key.bucket() != "one");
        quorum.cloned().collect()
    }
}

fn is_whole(node: &Node) -> bool {
    let status = node.status();
    status.ready && status.store.under_replicated == 0 && status.store.degraded == 0
}

/// The first three durable members clockwise of the start of a key's slot.
fn nearest(location: &Location, durable: &[NodeId]) -> Vec<NodeId> {
    let start = Slot::new(location.slot).unwrap().start();
    let mut voters = durable.to_vec();
    voters.sort_by_key(|id| start.distance_to(id));
    voters.truncate(3);
    voters
}

/// All copies of a key are of one version, and nobody else holds one.
pub fn level(world: &World, key: &Key) -> Result<(), String> {
    let Some((_, node)) = world.alive().next() else {
        return Ok(());
    };
    let location = node.locate(key);
    let holders = location.voters.iter().chain(&location.mirrors);
    let copies: Vec<(usize, Option<Version>)> = holders
        .filter_map(|holder| world.index(holder))
        .map(|index| (index, world.processes[index].disk.synced_version(key)))
        .collect();
    if copies.windows(2).any(|two| two[0].1 != two[1].1) {
        return Err(format!("copies of {key} differ: {copies:?}"));
    }
    let others = world.alive().map(|(index, _)| index);
    for index in others.filter(|index| !copies.iter().any(|(holder, _)| holder == index)) {
        if let Some(version) = world.processes[index].disk.synced_version(key) {
            return Err(format!("p{index} still holds {key} at {version}"));
        }
    }
    Ok(())
}
