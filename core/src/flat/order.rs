//! How what came in any order is put in order.

use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Ordering;

/// What brings a list in order: the places to exchange, one pair after another,
/// and how many then stay. The same can be done to a second list, and what is
/// compiled for each type of lists is no more than the exchange.
pub(super) struct Order {
    swaps: Vec<(usize, usize)>,
    len: usize,
}

impl Order {
    /// What the order of keys takes; of equal ones the last stays. None if they
    /// are in order already, and no two alike.
    pub(super) fn of<K: Ord>(keys: &[K]) -> Option<Self> {
        let sorted = keys.is_sorted_by(|one, next| one < next);
        let compare = |one: usize, other: usize| keys.get(one).cmp(&keys.get(other));
        (!sorted).then(|| Self::by(keys.len(), &compare))
    }

    fn by(count: usize, compare: &dyn Fn(usize, usize) -> Ordering) -> Self {
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_by(|one, other| compare(*one, *other));
        let (mut kept, mut doubles) = (Vec::with_capacity(count), Vec::new());
        for (nth, at) in order.iter().enumerate() {
            let next = order.get(nth + 1);
            let is_double = next.is_some_and(|next| compare(*at, *next).is_eq());
            let list = if is_double { &mut doubles } else { &mut kept };
            list.push(*at);
        }
        let len = kept.len();
        let mut targets = vec![0; count];
        for (to, from) in kept.into_iter().chain(doubles).enumerate() {
            if let Some(target) = targets.get_mut(from) {
                *target = to;
            }
        }
        // Each exchange brings one to where it belongs.
        let mut swaps = Vec::new();
        for at in 0..count {
            while let Some(to) = targets.get(at).copied().filter(|to| *to != at) {
                swaps.push((at, to));
                targets.swap(at, to);
            }
        }
        Self { swaps, len }
    }

    pub(super) fn apply<T>(&self, list: &mut Vec<T>) {
        for (one, other) in &self.swaps {
            list.swap(*one, *other);
        }
        list.truncate(self.len);
    }
}
