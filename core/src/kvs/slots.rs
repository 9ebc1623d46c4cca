//! Sets of slots, and maps from all slots, as ranges: most of the time many
//! slots are alike.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::flat::FlatMap;
use crate::kvs::key::{SLOT_COUNT, Slot};

/// A set of slots, as ranges `(first, last)` in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SlotSet {
    ranges: Vec<(u16, u16)>,
}

impl SlotSet {
    #[cfg(test)]
    pub(crate) fn all() -> Self {
        Self {
            ranges: [(0, SLOT_COUNT - 1)].into(),
        }
    }

    /// The set of these slots, which come in order.
    pub(crate) fn from_slots(slots: impl Iterator<Item = Slot>) -> Self {
        let mut set = Self::default();
        for slot in slots {
            set.push(slot.number(), slot.number());
        }
        set
    }

    /// Adds a range that comes after all others.
    pub(crate) fn push(&mut self, first: u16, last: u16) {
        match self.ranges.last_mut() {
            Some((_, end)) if end.checked_add(1) == Some(first) => *end = last,
            _ => self.ranges.push((first, last)),
        }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    pub(crate) fn contains(&self, slot: Slot) -> bool {
        let number = slot.number();
        let after = self.ranges.partition_point(|(first, _)| *first <= number);
        after
            .checked_sub(1)
            .and_then(|at| self.ranges.get(at))
            .is_some_and(|(_, last)| number <= *last)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Slot> + '_ {
        self.ranges
            .iter()
            .flat_map(|(first, last)| *first..=*last)
            .filter_map(Slot::new)
    }

    /// Makes something of each range.
    pub(crate) fn runs<T>(&self, make: impl Fn(u16, u16) -> T) -> Vec<T> {
        let ranges = self.ranges.iter();
        ranges.map(|(first, last)| make(*first, *last)).collect()
    }

    /// Whether a set from the wire is in order and within bounds.
    pub(crate) fn is_valid(&self) -> bool {
        let mut next = 0;
        self.ranges.iter().all(|(first, last)| {
            let valid = *first >= next && first <= last && *last < SLOT_COUNT;
            next = last.saturating_add(1);
            valid
        })
    }
}

/// A value for every slot; neighbours with equal values are kept as one.
#[derive(Clone, Debug)]
pub(crate) struct SlotMap<T> {
    /// By the first slot of a run; there is always one at zero.
    runs: FlatMap<u16, T>,
    fallback: T,
}

impl<T: Clone + PartialEq> SlotMap<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            runs: [(0, value.clone())].into(),
            fallback: value,
        }
    }

    pub(crate) fn get(&self, slot: Slot) -> &T {
        let run = self.runs.range(..=slot.number()).next_back();
        run.map_or(&self.fallback, |(_, value)| value)
    }

    /// Changes the values of a set of slots.
    pub(crate) fn update(&mut self, slots: &SlotSet, mut change: impl FnMut(&mut T)) {
        for (first, last) in &slots.ranges {
            self.split(*first);
            self.split(last.saturating_add(1));
            for (_, value) in self.runs.range_mut(*first..=*last) {
                change(value);
            }
        }
        self.merge();
    }

    /// Runs of equal values: first slot, last slot, value.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (u16, u16, &T)> {
        let ends = self.runs.keys().skip(1).map(|next| next - 1);
        let ends = ends.chain([SLOT_COUNT - 1]);
        self.runs
            .iter()
            .zip(ends)
            .map(|((first, value), last)| (*first, last, value))
    }

    /// The slots whose value satisfies a condition.
    pub(crate) fn slots_where(&self, condition: impl Fn(&T) -> bool) -> SlotSet {
        let mut set = SlotSet::default();
        for (first, last, _) in self.runs().filter(|(_, _, value)| condition(value)) {
            set.push(first, last);
        }
        set
    }

    fn split(&mut self, at: u16) {
        if let Some(slot) = Slot::new(at)
            && !self.runs.contains_key(&at)
        {
            let value = self.get(slot).clone();
            self.runs.insert(at, value);
        }
    }

    fn merge(&mut self) {
        let runs = self.runs.iter().zip(self.runs.iter().skip(1));
        let like_before = runs.filter(|((_, before), (_, value))| before == value);
        let like_before: Vec<u16> = like_before.map(|(_, (first, _))| *first).collect();
        self.runs
            .retain(|first, _| like_before.binary_search(first).is_err());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(number: u16) -> Slot {
        Slot::new(number).unwrap()
    }

    fn set(ranges: &[(u16, u16)]) -> SlotSet {
        SlotSet {
            ranges: ranges.to_vec(),
        }
    }

    #[test]
    fn updates_split_and_merge_runs() {
        let mut map = SlotMap::new(0);
        map.update(&set(&[(5, 9), (4095, 4095)]), |value| *value = 1);
        let runs: Vec<_> = map.runs().map(|(a, b, v)| (a, b, *v)).collect();
        assert_eq!(runs, [(0, 4, 0), (5, 9, 1), (10, 4094, 0), (4095, 4095, 1)]);
        assert_eq!((*map.get(slot(4)), *map.get(slot(9))), (0, 1));
        assert_eq!(
            map.slots_where(|value| *value == 1),
            set(&[(5, 9), (4095, 4095)])
        );
        map.update(&set(&[(0, 4095)]), |value| *value = 2);
        assert_eq!(map.runs().count(), 1);
    }

    #[test]
    fn sets_know_their_members() {
        let numbers = [1, 2, 3, 7];
        let slots = SlotSet::from_slots(numbers.into_iter().map(slot));
        assert_eq!(slots, set(&[(1, 3), (7, 7)]));
        assert!((0..20).all(|n| slots.contains(slot(n)) == numbers.contains(&n)));
        assert_eq!(slots.iter().count(), 4);
        assert!(slots.is_valid() && SlotSet::all().is_valid());
        assert!(!set(&[(3, 2)]).is_valid());
        assert!(!set(&[(3, 5), (5, 6)]).is_valid());
        assert!(!set(&[(0, 4096)]).is_valid());
    }
}
