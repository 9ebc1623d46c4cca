//! Lists during whatever happens, and what their pages have to hold.

use std::collections::BTreeMap;

use roundelay_core::kvs::{Key, List, Mode, Page, Reply, RequestId, Version};

use crate::checker::Checker;
use crate::scenario::pass;
use crate::workload::{BUCKETS, REGISTERS, Workload};
use crate::world::{SECOND, World};

/// A page that was asked for, and what had been acknowledged by then: of each
/// key its newest version, and whether that is a tombstone.
struct Call {
    list: List,
    mode: Mode,
    floors: BTreeMap<Key, (Version, bool)>,
}

/// All lists under way.
#[derive(Default)]
pub struct Lists {
    open: BTreeMap<(usize, RequestId), Call>,
    pub done: u64,
    pub failed: u64,
    /// Pages after which there was another.
    pub cut: u64,
}

impl Workload {
    /// Lists a random bucket at a live node.
    pub fn begin_list(&mut self, world: &mut World, checker: &mut Checker, index: usize) {
        let [a, b, c] = BUCKETS;
        let buckets = [a, b, c, "one", REGISTERS];
        let bucket = buckets[world.random.below(5) as usize];
        let limit = world.random.between(1, 5) as usize;
        let mode = match world.random.chance(0.2) {
            true => Mode::One,
            false => Mode::Quorum,
        };
        let list = List::new(bucket).unwrap().with_limit(limit).unwrap();
        self.list(world, checker, index, list.with_mode(mode).unwrap(), mode);
    }

    fn list(
        &mut self,
        world: &mut World,
        checker: &mut Checker,
        index: usize,
        list: List,
        mode: Mode,
    ) {
        let now = world.now_of(index);
        let Some(node) = &mut world.processes[index].node else {
            return;
        };
        let floors = checker.floors(list.bucket());
        let request = node.list(list.clone(), now);
        world.log(|| format!("p{index} {request:?} {list:?}"));
        let call = Call { list, mode, floors };
        self.lists.open.insert((index, request), call);
        self.on_called(world, checker, index);
    }

    /// Checks an answer, and may turn the page. Returns whether it was one to a
    /// list.
    pub fn on_listed(
        &mut self,
        world: &mut World,
        checker: &mut Checker,
        (index, request): (usize, RequestId),
        reply: &Reply,
    ) -> bool {
        let Some(call) = self.lists.open.remove(&(index, request)) else {
            return false;
        };
        world.log(|| format!("p{index} {request:?} {} -> {reply:?}", call.list.bucket()));
        let Reply::Listed(page) = reply else {
            self.lists.failed += 1;
            return true;
        };
        self.lists.done += 1;
        if let Err(words) = check(&call, page, checker) {
            checker.fail(format!("p{index} {words}"));
        }
        if let Some(next) = &page.next {
            self.lists.cut += 1;
            let list = call.list.with_after(next.as_str()).unwrap();
            self.list(world, checker, index, list, call.mode);
        }
        true
    }
}

impl Lists {
    pub fn open_count(&self) -> usize {
        self.open.len()
    }

    pub fn on_crash(&mut self, index: usize) {
        self.open.retain(|(own, _), _| *own != index);
    }
}

/// Whether a page holds what it has to.
fn check(call: &Call, page: &Page, checker: &Checker) -> Result<(), String> {
    let keys = || page.keys.iter().map(|(key, _)| key);
    let ordered = keys().is_sorted_by(|key, next| key < next);
    let asked = keys().chain(&page.next).all(|key| call.list.contains(key));
    let last = keys().next_back();
    let goes_on = page.next.is_none() || page.next.as_ref() >= last;
    if !ordered || !asked || !goes_on || page.keys.len() > call.list.limit() {
        return Err(format!("answered {page:?} to {:?}", call.list));
    }
    if call.mode == Mode::One || call.list.bucket() == "one" {
        return Ok(());
    }
    let found: BTreeMap<&Key, Version> = page.keys.iter().map(|(key, at)| (key, *at)).collect();
    let within = |key: &Key| page.next.as_ref().is_none_or(|next| key <= next);
    for (key, (floor, deleted)) in &call.floors {
        if !call.list.contains(key) || !within(key) {
            continue;
        }
        match found.get(key) {
            Some(at) if at < floor || (*deleted && at == floor) => {
                return Err(format!(
                    "lists {key} at {at}, after {floor} was acknowledged"
                ));
            }
            None if !deleted && !checker.may_be_missing(key, *floor) => {
                return Err(format!("lists no {key}, after {floor} was acknowledged"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Every node lists every bucket.
pub fn read_back(
    world: &mut World,
    workload: &mut Workload,
    checker: &mut Checker,
) -> Result<(), String> {
    let alive: Vec<usize> = world.alive().map(|(index, _)| index).collect();
    let failed = workload.lists.failed;
    for index in alive {
        for bucket in BUCKETS.into_iter().chain([REGISTERS]) {
            let list = List::new(bucket).unwrap().with_limit(2).unwrap();
            workload.list(world, checker, index, list, Mode::Quorum);
        }
    }
    pass(world, workload, checker, 8 * SECOND)?;
    let lists = &workload.lists;
    if lists.failed > failed || lists.open_count() > 0 {
        return Err(format!("{} lists failed at the end", lists.failed - failed));
    }
    if lists.done == 0 || lists.cut == 0 {
        return Err("no list was answered, or all were of one page".into());
    }
    Ok(())
}
