//! The puller's way from slots that differ to the few entries that do: large
//! branches are split, small ones are listed.

use alloc::vec::Vec;

use super::Kvs;
use super::branch::{Branch, Difference};
use super::key::Slot;
use super::message::Split;
use super::pulling::{Pulling, Step};
use super::source::BRANCH_COUNT_MAX;
use crate::id::NodeId;
use crate::time::Now;

impl Pulling {
    /// What is to be done next: first what was found already, so that little is
    /// ever remembered.
    pub(super) fn next_step(&mut self) -> Option<Step> {
        if !self.wanted.is_empty() {
            return Some(Step::Fetching);
        }
        if let Some((first, after)) = self.differing.pop_front() {
            let mut branches: Vec<Branch> = [first].into();
            while branches.len() < BRANCH_COUNT_MAX
                && let Some((branch, None)) = self.differing.front()
            {
                branches.push(*branch);
                self.differing.pop_front();
            }
            return Some(Step::Listing { branches, after });
        }
        let count = self.narrowing.len().min(BRANCH_COUNT_MAX);
        let branches: Vec<Difference> = self.narrowing.drain(..count).collect();
        (count > 0).then_some(Step::Splitting { branches })
    }

    fn sort(&mut self, differences: impl DoubleEndedIterator<Item = Difference>) {
        for difference in differences.rev() {
            if difference.is_large() {
                self.narrowing.push_front(difference);
            } else {
                self.differing.push_front((difference.branch, None));
            }
        }
    }
}

impl Kvs {
    /// These slots differ; so many entries the source has in each.
    pub(super) fn sort_slots(&mut self, id: u64, slots: Vec<(u16, u32)>) {
        let index = &self.index;
        let difference = |(slot, count): (u16, u32)| {
            let own = Slot::new(slot).map_or(0, |slot| index.slot_count(slot));
            // Who has next to nothing needs to be told all of it.
            let few = own < u64::from(count) / 2;
            Difference {
                branch: Branch::whole(slot),
                count: if few { 0 } else { count },
            }
        };
        let differences: Vec<Difference> = slots.into_iter().map(difference).collect();
        if let Some(pulling) = self.pulls.active.get_mut(&id) {
            pulling.sort(differences.into_iter());
        }
    }

    /// The source says in which parts there is a difference.
    pub(super) fn on_split(
        &mut self,
        from: NodeId,
        (id, question): (u64, u32),
        parts: &[Branch],
        now: Now,
    ) {
        let active = self.pulls.active.get_mut(&id);
        let Some(pulling) = active.filter(|pulling| pulling.is_asked(&from, question)) else {
            return;
        };
        let Step::Splitting { branches } = pulling.step.clone() else {
            return;
        };
        let asked = branches.iter().flat_map(|difference| {
            let parts = difference.branch.parts();
            parts.map(|part| difference.part(part))
        });
        // In the order of the question, each of them once.
        let mut named = parts.iter().peekable();
        let differing = asked.filter(|part| named.next_if_eq(&&part.branch).is_some());
        let differing: Vec<Difference> = differing.collect();
        if named.next().is_some() {
            self.pulls.active.remove(&id);
            return self.counters.add("kvs_malformed");
        }
        pulling.sort(differing.into_iter());
        self.go_on(id, None, now);
    }

    pub(super) fn on_split_message(&mut self, from: NodeId, message: Split, now: Now) {
        match message {
            Split::Sums {
                id,
                question,
                branches,
                sums,
            } => self.on_sums(from, (id, question), &branches, &sums),
            Split::Differ {
                id,
                question,
                parts,
            } => self.on_split(from, (id, question), &parts, now),
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::kvs::KvsAction;
    use crate::kvs::entry::{Entry, Meta};
    use crate::kvs::fixture::{at, id, voter_of};
    use crate::kvs::horizon::Horizon;
    use crate::kvs::key::{Key, SLOT_COUNT};
    use crate::kvs::message::{Prepare, Pull};
    use crate::kvs::slots::SlotSet;
    use crate::kvs::storage::entry_write;
    use crate::kvs::version::{CLOCK_AHEAD_MS_MAX, Clock, Version};
    use crate::store::{MemoryStore, StoreOp};
    use crate::wire;

    /// Two voters, their disks, and what they said to one another.
    struct Two {
        nodes: [Kvs; 2],
        disks: [MemoryStore; 2],
        bytes: usize,
        messages: usize,
    }

    impl Two {
        fn new() -> Self {
            Self {
                nodes: [voter_of(1), voter_of(2)],
                disks: Default::default(),
                bytes: 0,
                messages: 0,
            }
        }

        fn put(&mut self, place: usize, key: &Key, entry: &Entry) {
            let before = self.nodes[place].index.set(key, Some(Meta::of(key, entry)));
            assert_eq!(before, None);
            self.disks[place].submit(StoreOp::Commit([entry_write(key, entry)].into()));
        }

        /// The first asks the second alone.
        fn begin(&mut self) {
            let node = &mut self.nodes[0];
            node.pulls.forget_all();
            node.pulls
                .pulled
                .insert(id(3), node.views.shared_with(&id(3)));
            node.schedule_pulls(at(0).mono);
        }

        /// The first pulls from the second.
        fn pull(&mut self) {
            self.begin();
            while self.step(0) || self.step(1) {}
        }

        fn step(&mut self, own: usize) -> bool {
            let Some(action) = self.nodes[own].actions.pop_front() else {
                return false;
            };
            let (own_id, other) = (self.nodes[own].own, 1 - own);
            match action {
                KvsAction::Store { token, op } => {
                    let stored = self.disks[own].submit(op);
                    self.nodes[own].on_stored(token, Ok(stored), at(0));
                }
                KvsAction::Send { to, message, .. } if to == self.nodes[other].own => {
                    self.messages += 1;
                    self.bytes += wire::encode(&message).len();
                    self.nodes[other].on_message(own_id, message, at(0));
                }
                _ => {}
            }
            true
        }
    }

    fn entry(clock: &mut Clock, len: usize) -> Entry {
        Entry {
            version: clock.tick(1),
            value: Some(alloc::vec![7; len]),
            expires: None,
        }
    }

    /// As the acceptance of the store has it, in one bucket and in many: a hundredth
    /// of all records was missed.
    #[test]
    fn what_is_exchanged_is_in_proportion_to_what_differs() {
        for buckets in [1, 100, 4000] {
            let mut two = Two::new();
            let mut clock = Clock::new(&id(3));
            let mut missed = 0;
            for number in 0..20_000 {
                let key = alloc::format!("bucket-{}/record-{number}", number % buckets);
                let key = Key::new(key).unwrap();
                let entry = entry(&mut clock, 1024);
                two.put(1, &key, &entry);
                if number % 101 == 7 {
                    missed += wire::encode(&(&key, &entry)).len();
                } else {
                    two.put(0, &key, &entry);
                }
            }
            two.pull();
            let [here, there] = &two.nodes;
            assert_eq!(here.index.count(), there.index.count());
            assert_eq!(here.views_digest(), there.views_digest());
            let all = SlotSet::all();
            assert_eq!(here.index.sums(&all), there.index.sums(&all));
            let Two {
                bytes, messages, ..
            } = two;
            std::println!("{buckets} buckets: {missed} B missed, {bytes} B in {messages} messages");
            assert!(bytes < 2 * missed, "{bytes} B for {missed}");
        }
    }

    /// A fellow was away for a moment: what the comparison alone costs, beside the
    /// records, is a sum of each slot.
    #[test]
    fn a_short_absence_costs_a_sum_of_each_slot() {
        for missed in [1, 10, 100] {
            let mut two = Two::new();
            let mut clock = Clock::new(&id(3));
            let mut records = 0;
            for number in 0..20_000 {
                let key = Key::new(alloc::format!("bucket-{}/{number}", number % 4000)).unwrap();
                let entry = entry(&mut clock, 100);
                two.put(1, &key, &entry);
                if number % (20_000 / missed) == 7 {
                    records += wire::encode(&(&key, &entry)).len();
                } else {
                    two.put(0, &key, &entry);
                }
            }
            two.pull();
            let [here, there] = &two.nodes;
            assert_eq!(here.index.count(), there.index.count());
            let Two {
                bytes, messages, ..
            } = two;
            std::println!("{missed} missed: {records} B, {bytes} B in {messages} messages");
            let slots = usize::from(SLOT_COUNT) * 13;
            assert!(bytes < slots + 3 * records, "{bytes} B for {records}");
            assert!(messages < 20, "{messages} messages");
        }
    }

    #[test]
    fn parts_that_nobody_asked_about_end_the_pull() {
        let mut two = Two::new();
        let mut clock = Clock::new(&id(3));
        for number in 0..100 {
            let key = Key::new(alloc::format!("b/{number}")).unwrap();
            let entry = entry(&mut clock, 1);
            two.put(1, &key, &entry);
            if number > 0 {
                two.put(0, &key, &entry);
            }
        }
        two.begin();
        let node = &mut two.nodes[0];
        let pull = *node.pulls.active.keys().next().unwrap();
        let slot = Key::new("b").unwrap().slot().number();
        let differ = Pull::Differ {
            id: pull,
            slots: [(slot, 100)].into(),
            sealed: true,
            collected: Vec::new(),
        };
        node.on_pull(id(2), differ, at(0));
        let question = node.pulls.active.get(&pull).unwrap().question;
        let parts = [Branch::whole(slot)].into();
        let split = Split::Differ {
            id: pull,
            question,
            parts,
        };
        let malformed = |node: &Kvs| {
            let mut counters = node.counters.iter();
            counters.any(|(name, _)| name == "kvs_malformed")
        };
        assert!(!malformed(node));
        node.on_pull(id(2), Pull::Split(split), at(0));
        assert!(malformed(node));
        assert!(!node.pulls.active.contains_key(&pull));
    }

    /// One of them has forgotten what the other holds, and is the one that pulls, or
    /// the one that is pulled from. A third key is on both.
    #[test]
    fn what_was_forgotten_goes_and_does_not_come_back() {
        let names = ["a/dead", "a/both", "a/new"];
        let [dead, both, new] = names.map(|name| Key::new(name).unwrap());
        for pulls in [0, 1] {
            let mut two = Two::new();
            let mut clock = Clock::new(&id(3));
            let [old, level] = [(); 2].map(|()| entry(&mut clock, 1));
            let late = Entry {
                version: clock.tick(2000),
                ..entry(&mut clock, 1)
            };
            let (holder, forgetful) = (pulls, 1 - pulls);
            two.put(holder, &dead, &old);
            two.put(0, &both, &level);
            two.put(1, &both, &level);
            two.put(1, &new, &late);
            let slots = SlotSet::from_slots([dead.slot()].into_iter());
            let horizon = Horizon::raised_to(1000);
            two.nodes[forgetful].horizons.adopt(&slots, horizon);
            two.pull();
            let node = &two.nodes[0];
            assert!(node.index.get(&dead).is_none());
            assert!(node.index.get(&both).is_some() && node.index.get(&new).is_some());
            assert_eq!(node.horizons.get(dead.slot()), horizon);
            assert!(node.pulls.has_pulled(&id(2)));
            let on_disk = |key: &Key| entry_write(key, &old).key;
            assert_eq!(two.disks[0].get(&on_disk(&dead)), None);
            assert!(two.disks[0].get(&on_disk(&new)).is_some());
        }
    }

    #[test]
    fn a_tombstone_that_was_pulled_will_have_to_go() {
        let mut two = Two::new();
        let version = Clock::new(&id(3)).tick(1);
        let deleted = Entry {
            version,
            value: None,
            expires: None,
        };
        two.put(1, &Key::new("a/0").unwrap(), &deleted);
        assert_eq!(two.nodes[0].horizons.poll_timeout(), None);
        two.pull();
        assert!(two.nodes[0].horizons.poll_timeout().is_some());
    }

    #[test]
    fn a_pull_that_a_promise_kept_something_off_is_in_vain() {
        let mut two = Two::new();
        let mut clock = Clock::new(&id(3));
        let key = Key::new("a/0").unwrap();
        two.put(1, &key, &entry(&mut clock, 1));
        let (ballot, have) = (clock.tick(2), Version::ZERO);
        let asked = Prepare {
            id: 1,
            view: 3,
            key: key.clone(),
            ballot: Some(ballot),
            have,
        };
        two.nodes[0].on_prepare(id(2), asked, at(0));
        two.pull();
        assert!(!two.nodes[0].pulls.has_pulled(&id(2)));
        two.nodes[0].on_release(id(2), &key, ballot);
        two.pull();
        assert!(two.nodes[0].pulls.has_pulled(&id(2)));
        assert_eq!(two.nodes[0].index.count(), 1);
    }

    /// Whoever does not believe a version yet does not say that it holds all.
    #[test]
    fn a_pull_of_what_is_too_far_ahead_is_in_vain() {
        let mut two = Two::new();
        let mut clock = Clock::new(&id(3));
        let [near, far] = ["a/near", "a/far"].map(|name| Key::new(name).unwrap());
        two.put(1, &near, &entry(&mut clock, 1));
        let ahead = Entry {
            version: clock.tick(CLOCK_AHEAD_MS_MAX + 1),
            ..entry(&mut clock, 1)
        };
        two.put(1, &far, &ahead);
        two.pull();
        let node = &two.nodes[0];
        assert!(node.index.get(&near).is_some() && node.index.get(&far).is_none());
        assert!(!node.pulls.has_pulled(&id(2)));
    }
}
