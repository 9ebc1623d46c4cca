//! Maps and sets do what those of the standard library do.

use alloc::collections::{BTreeMap, BTreeSet};
use core::ops::Bound;

use super::*;
use crate::rng::Rng;

/// Numbers below a bound: few enough keys that they meet.
struct Dice(Rng);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0.next_u64() % below
    }

    fn entries(&mut self, below: u64) -> Vec<(u64, u64)> {
        let count = self.roll(40);
        (0..count).map(|n| (self.roll(below), n)).collect()
    }

    fn bound(&mut self, below: u64) -> Bound<u64> {
        match self.roll(3) {
            0 => Bound::Unbounded,
            1 => Bound::Included(self.roll(below)),
            _ => Bound::Excluded(self.roll(below)),
        }
    }
}

/// Bounds that a `BTreeMap` does not panic at.
fn makes_sense(bounds: &(Bound<u64>, Bound<u64>)) -> bool {
    match bounds {
        (Bound::Excluded(from), Bound::Excluded(to)) => from < to,
        (
            Bound::Included(from) | Bound::Excluded(from),
            Bound::Included(to) | Bound::Excluded(to),
        ) => from <= to,
        _ => true,
    }
}

fn assert_alike(flat: &FlatMap<u64, u64>, tree: &BTreeMap<u64, u64>) {
    assert!(flat.iter().eq(tree));
    assert!(flat.iter().rev().eq(tree.iter().rev()));
    assert!(flat.keys().eq(tree.keys()) && flat.values().eq(tree.values()));
    assert_eq!((flat.len(), flat.is_empty()), (tree.len(), tree.is_empty()));
}

/// Does the same to both, and compares what they return.
fn change(
    dice: &mut Dice,
    below: u64,
    flat: &mut FlatMap<u64, u64>,
    tree: &mut BTreeMap<u64, u64>,
) {
    let (key, value) = (dice.roll(below), dice.roll(1000));
    match dice.roll(12) {
        0..4 => assert_eq!(flat.insert(key, value), tree.insert(key, value)),
        4 | 5 => assert_eq!(flat.remove(&key), tree.remove(&key)),
        6 => {
            *flat.entry(key).or_insert(value) += 1;
            *tree.entry(key).or_insert(value) += 1;
        }
        7 => {
            *flat.entry(key).or_default() += 1;
            *tree.entry(key).or_default() += 1;
        }
        8 => assert_eq!(flat.pop_first(), tree.pop_first()),
        9 => {
            let keeps = |key: &u64, number: &mut u64| {
                *number += 1;
                !(*key + value).is_multiple_of(8)
            };
            flat.retain(keeps);
            tree.retain(keeps);
        }
        10 => {
            let goes = |key: &u64, number: &mut u64| {
                *number += 1;
                (*key + value).is_multiple_of(8)
            };
            let gone: Vec<_> = tree.extract_if(.., goes).collect();
            assert_eq!(flat.extract(goes), gone);
        }
        _ => {
            let entries = dice.entries(below);
            flat.extend(entries.iter().copied());
            tree.extend(entries);
        }
    }
}

/// Asks both the same.
fn ask(dice: &mut Dice, below: u64, flat: &mut FlatMap<u64, u64>, tree: &mut BTreeMap<u64, u64>) {
    let key = dice.roll(below);
    assert_eq!(flat.get(&key), tree.get(&key));
    assert_eq!(flat.get_mut(&key), tree.get_mut(&key));
    assert_eq!(flat.contains_key(&key), tree.contains_key(&key));
    let bounds = (dice.bound(below), dice.bound(below));
    if makes_sense(&bounds) {
        assert!(flat.range(bounds).eq(tree.range(bounds)));
        assert!(flat.range_mut(bounds).eq(tree.range_mut(bounds)));
    } else {
        assert_eq!(flat.range(bounds).count(), 0);
    }
}

#[test]
fn a_map_is_like_a_tree() {
    for seed in 0..60 {
        let mut dice = Dice(Rng::from_seed([seed; 32]));
        let below = 1 + dice.roll(50);
        let entries = dice.entries(below);
        let mut flat: FlatMap<u64, u64> = entries.iter().copied().collect();
        let mut tree: BTreeMap<u64, u64> = entries.into_iter().collect();
        for _ in 0..300 {
            assert_alike(&flat, &tree);
            change(&mut dice, below, &mut flat, &mut tree);
            ask(&mut dice, below, &mut flat, &mut tree);
        }
        assert!(flat.clone().into_iter().eq(tree.clone()));
        flat.values_mut()
            .chain(tree.values_mut())
            .for_each(|n| *n += 1);
        assert!(flat.iter_mut().eq(tree.iter_mut()));
        assert!(flat.into_values().eq(tree.into_values()));
    }
}

#[test]
fn a_set_is_like_a_tree() {
    for seed in 0..60 {
        let mut dice = Dice(Rng::from_seed([seed; 32]));
        let below = 1 + dice.roll(50);
        let mut sets = [(); 2].map(|()| {
            let keys = dice.entries(below).into_iter().map(|(key, _)| key);
            let keys: Vec<u64> = keys.collect();
            let flat: FlatSet<u64> = keys.iter().copied().collect();
            (flat, BTreeSet::from_iter(keys))
        });
        for _ in 0..100 {
            let [(flat, tree), (others, other_tree)] = &mut sets;
            assert!(flat.iter().eq(&*tree) && flat.len() == tree.len());
            assert!(flat.union(others).eq(tree.union(other_tree)));
            let key = dice.roll(below);
            assert_eq!(flat.contains(&key), tree.contains(&key));
            match dice.roll(2) {
                0 => assert_eq!(flat.insert(key), tree.insert(key)),
                _ => assert_eq!(flat.remove(&key), tree.remove(&key)),
            }
            sets.reverse();
        }
    }
}

#[test]
fn many_in_the_worst_order_take_no_longer_than_others() {
    let falling = (0..300_000_u64).rev().map(|key| (key / 2, key));
    let map: FlatMap<u64, u64> = falling.collect();
    assert_eq!(map.len(), 150_000);
    assert!(map.iter().all(|(key, value)| *value == 2 * key));
}
