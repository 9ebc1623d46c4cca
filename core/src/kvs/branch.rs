//! Branches: parts of a slot by hashes of keys. Two members that differ in a slot
//! of many entries compare sums of its branches, and of those that differ the
//! branches again, until only a few entries are left to be listed (range-based set
//! reconciliation: Meyer, 2022, with hashes for keys, so that no key marks a
//! range).

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::entry::{self, Index, sum};
use super::key::{Key, Slot};
use super::version::Version;
use crate::flat::FlatMap;

/// By how many bits a branch is split.
const SPLIT_BITS: u8 = 4;
/// Into how many branches.
pub(super) const SPLIT_COUNT: usize = 1 << SPLIT_BITS;
/// Bits of a hash.
const BITS_MAX: u8 = 32;
/// A branch of about so many entries is listed: sums would take more room.
const LISTED: u32 = 8;

/// The entries of a slot whose keys' hashes begin with some bits: all of them
/// with no bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Branch {
    slot: u16,
    bits: u8,
    /// The bits, as a number.
    prefix: u32,
}

/// A branch that differs, and about how many entries it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Difference {
    pub(crate) branch: Branch,
    pub(crate) count: u32,
}

impl Branch {
    pub(crate) const fn whole(slot: u16) -> Self {
        Self {
            slot,
            bits: 0,
            prefix: 0,
        }
    }

    /// Its slot; none when it comes from the wire and makes no sense.
    pub(crate) fn slot(&self) -> Option<Slot> {
        let fits = self.bits <= BITS_MAX && u64::from(self.prefix) >> self.bits == 0;
        Slot::new(self.slot).filter(|_| fits)
    }

    /// Whether a key belongs to it.
    pub(crate) fn holds(&self, key: &Key) -> bool {
        key.slot().number() == self.slot && self.beside(hash(key)) == *self
    }

    /// The branch of as many bits, to which a hash belongs.
    fn beside(&self, hash: u32) -> Self {
        let prefix = u64::from(hash) >> BITS_MAX.saturating_sub(self.bits);
        Self {
            prefix: u32::try_from(prefix).unwrap_or_default(),
            ..*self
        }
    }

    /// What it is split into; nothing when it cannot be.
    pub(super) fn parts(self) -> impl Iterator<Item = Self> {
        let bits = self.bits.saturating_add(SPLIT_BITS);
        let parts = (0..SPLIT_COUNT as u32).filter(move |_| bits <= BITS_MAX);
        parts.map(move |part| Self {
            bits,
            prefix: self.prefix.wrapping_shl(u32::from(SPLIT_BITS)) | part,
            ..self
        })
    }
}

impl Difference {
    /// Whether it pays to split the branch before it is listed.
    pub(super) fn is_large(&self) -> bool {
        self.count > LISTED && self.branch.bits < BITS_MAX
    }

    /// One of the parts of this branch differs.
    pub(super) fn part(&self, branch: Branch) -> Self {
        let count = self.count.div_ceil(SPLIT_COUNT as u32);
        Self { branch, count }
    }
}

impl Index {
    /// The sums of all parts of these branches, in order; none where a branch makes
    /// no sense or cannot be split.
    pub(super) fn branch_sums(&self, branches: &[Branch]) -> Option<Vec<u64>> {
        let mut sums = alloc::vec![[0_u64; SPLIT_COUNT]; branches.len()];
        for (level, places) in levels(branches)? {
            let shift = BITS_MAX.checked_sub(level.bits + SPLIT_BITS)?;
            for (key, version) in self.list(level.slot()?, None) {
                let hash = hash(key);
                let Some(place) = place_of(&places, level.beside(hash)) else {
                    continue;
                };
                let part = (hash >> shift) as usize % SPLIT_COUNT;
                let sums = sums.get_mut(place).and_then(|sums| sums.get_mut(part));
                if let Some(of_part) = sums {
                    *of_part = of_part.wrapping_add(sum(key, version));
                }
            }
        }
        Some(sums.into_iter().flatten().collect())
    }

    /// Keys and versions of each of these branches in order, those of the first
    /// one after a key; of a whole slot no more than `limit`. None where a branch
    /// makes no sense.
    pub(super) fn list_branches(
        &self,
        branches: &[Branch],
        after: Option<&Key>,
        limit: usize,
    ) -> Option<Vec<Vec<(&Key, Version)>>> {
        let mut lists = alloc::vec![Vec::new(); branches.len()];
        for (level, places) in levels(branches)? {
            let slot = level.slot()?;
            if level.bits == 0
                && let [(_, place)] = places[..]
            {
                let after = after.filter(|_| place == 0);
                let list = lists.get_mut(place)?;
                list.extend(self.list(slot, after).take(limit));
                continue;
            }
            for (key, version) in self.list(slot, None) {
                let place = place_of(&places, level.beside(hash(key)));
                let is_past = place == Some(0) && after.is_some_and(|after| key <= after);
                let list = place.and_then(|place| lists.get_mut(place));
                if let Some(list) = list.filter(|_| !is_past) {
                    list.push((key, version));
                }
            }
        }
        Some(lists)
    }
}

/// Branches of one slot that have as many bits, in order, and their places in the
/// question.
type Level = Vec<(Branch, usize)>;

/// The branches of a question, and one of each level for all.
fn levels(branches: &[Branch]) -> Option<Vec<(Branch, Level)>> {
    let mut levels: FlatMap<(u16, u8), Level> = FlatMap::new();
    for (place, branch) in branches.iter().enumerate() {
        branch.slot()?;
        let level = levels.entry((branch.slot, branch.bits)).or_default();
        level.push((*branch, place));
    }
    let sorted = levels.into_values().map(|mut level| {
        level.sort_unstable();
        level
    });
    let first = sorted.filter_map(|level| Some((level.first()?.0, level)));
    Some(first.collect())
}

fn place_of(places: &[(Branch, usize)], branch: Branch) -> Option<usize> {
    let at = places.binary_search_by_key(&branch.prefix, |(one, _)| one.prefix);
    at.ok()
        .and_then(|at| places.get(at))
        .map(|(_, place)| *place)
}

fn hash(key: &Key) -> u32 {
    let hash = entry::hash(key.as_str().bytes());
    u32::try_from(hash >> 32).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::NodeId;
    use crate::kvs::entry::{Entry, Meta};
    use crate::kvs::version::Clock;

    /// So many keys of one bucket, but for those that are left out.
    fn index(count: usize, without: impl Fn(usize) -> bool) -> Index {
        let mut clock = Clock::new(&NodeId::from_bytes([1; 32]));
        let mut index = Index::default();
        for number in 0..count {
            let key = Key::new(alloc::format!("b/{number}")).unwrap();
            let entry = Entry {
                version: clock.tick(number as u64),
                value: Some([7].into()),
                expires: None,
            };
            if !without(number) {
                index.set(&key, Some(Meta::of(&key, &entry)));
            }
        }
        index
    }

    fn slot() -> Slot {
        Key::new("b").unwrap().slot()
    }

    #[test]
    fn parts_hold_what_the_whole_holds() {
        let index = index(1000, |_| false);
        let whole = Branch::whole(slot().number());
        let mut branches: Vec<Branch> = whole.parts().collect();
        let last = branches.pop().unwrap();
        branches.extend(last.parts());
        let lists = index.list_branches(&branches, None, 9).unwrap();
        assert_eq!(lists.iter().map(Vec::len).sum::<usize>(), 1000);
        assert!(lists[0].len() > 30, "hashes are not spread");
        let all = index.branch_sums(&[whole]).unwrap().into_iter();
        let slots = crate::kvs::slots::SlotSet::all();
        let sum = all.fold(0, u64::wrapping_add);
        assert_eq!(index.sums(&slots).get(&slot().number()), Some(&sum));
        let (first, after) = (&lists[0], lists[0][3].0);
        let rest = index.list_branches(&branches, Some(after), 9).unwrap();
        assert_eq!(rest[0], first[4..]);
        assert_eq!(rest[1], lists[1]);
        let (_, last) = index.list(slot(), None).enumerate().last().unwrap();
        let all = index.list_branches(&[whole], None, 2000).unwrap();
        assert_eq!((all[0].len(), all[0].last()), (1000, Some(&last)));
        let after = all[0][10].0;
        let some = index.list_branches(&[whole], Some(after), 5).unwrap();
        assert_eq!(some[0], all[0][11..16]);
    }

    #[test]
    fn what_differs_is_found_by_its_branch() {
        let here = index(1000, |number| number == 500);
        let there = index(1000, |_| false);
        let missing = Key::new("b/500").unwrap();
        let mut branch = Branch::whole(slot().number());
        for _ in 0..BITS_MAX / SPLIT_BITS {
            let sums = |index: &Index| index.branch_sums(&[branch]).unwrap();
            let (ours, theirs) = (sums(&here), sums(&there));
            let parts = branch.parts().zip(ours.iter().zip(&theirs));
            let differing: Vec<Branch> = parts
                .filter(|(_, (ours, theirs))| ours != theirs)
                .map(|(part, _)| part)
                .collect();
            assert_eq!(differing.len(), 1);
            branch = differing[0];
            assert!(branch.holds(&missing));
        }
        assert_eq!(branch.parts().count(), 0);
        assert_eq!(here.branch_sums(&[branch]), None);
    }

    #[test]
    fn a_branch_that_makes_no_sense_has_no_slot() {
        let branch = |slot, bits, prefix| Branch { slot, bits, prefix };
        assert!(branch(7, 4, 15).slot().is_some());
        assert!(branch(7, 32, u32::MAX).slot().is_some());
        for senseless in [branch(4096, 0, 0), branch(7, 33, 0), branch(7, 4, 16)] {
            assert_eq!(senseless.slot(), None);
            let index = index(10, |_| false);
            assert_eq!(index.branch_sums(&[senseless]), None);
            assert_eq!(index.list_branches(&[senseless], None, 9), None);
        }
    }
}
