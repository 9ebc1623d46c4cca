//! Maps and sets that are sorted vectors.
//!
//! Each pair of types that a `BTreeMap` is used with brings a tree of its own
//! into the page, 5 to 10 KB of code, and there are dozens of them. Here the
//! keys are one vector and the values another, as in C++'s `std::flat_map`, so
//! that the search is compiled once for each type of keys, and what is left for
//! each pair is little more than the calls.
//!
//! An insertion or a removal moves everything after it: these are for what is
//! bounded by some thousand entries, or whose keys grow; where there may be
//! many, what is large goes into boxes. What others may make larger stays a
//! `BTreeMap`. The order of iteration is the same.

mod order;
mod set;
#[cfg(test)]
mod tests;

use alloc::vec::{self, Vec};
use core::borrow::Borrow;
use core::fmt;
use core::iter::Zip;
use core::mem;
use core::ops::{Bound, RangeBounds};
use core::slice;

use serde::{Serialize, Serializer};

use self::order::Order;

pub use self::set::FlatSet;

/// A map from sorted keys, with the methods of a `BTreeMap`.
#[derive(Clone, PartialEq, Eq)]
pub struct FlatMap<K, V> {
    /// In order, and no two alike.
    keys: Vec<K>,
    /// As many, each at the place of its key.
    values: Vec<V>,
}

/// The entries of a map, in order.
pub type Iter<'a, K, V> = Zip<slice::Iter<'a, K>, slice::Iter<'a, V>>;
/// Likewise, the values to be changed.
pub type IterMut<'a, K, V> = Zip<slice::Iter<'a, K>, slice::IterMut<'a, V>>;

/// A key's place in a map, taken or not.
#[derive(Debug)]
pub struct Entry<'a, K, V> {
    map: &'a mut FlatMap<K, V>,
    key: K,
}

/// Where a key is, or would have to be.
#[inline(never)]
fn find<K, Q>(keys: &[K], key: &Q) -> Result<usize, usize>
where
    K: Borrow<Q>,
    Q: Ord + ?Sized,
{
    // Keys often come in order.
    match keys.last() {
        Some(last) if last.borrow() < key => Err(keys.len()),
        _ => keys.binary_search_by(|one| one.borrow().cmp(key)),
    }
}

/// The places of the keys within bounds.
#[inline(never)]
fn within<K: Ord>(keys: &[K], bounds: (Bound<&K>, Bound<&K>)) -> (usize, usize) {
    let from = match bounds.0 {
        Bound::Included(key) => find(keys, key).unwrap_or_else(|at| at),
        Bound::Excluded(key) => find(keys, key).map_or_else(|at| at, |at| at + 1),
        Bound::Unbounded => 0,
    };
    let to = match bounds.1 {
        Bound::Included(key) => find(keys, key).map_or_else(|at| at, |at| at + 1),
        Bound::Excluded(key) => find(keys, key).unwrap_or_else(|at| at),
        Bound::Unbounded => keys.len(),
    };
    (from, to.max(from))
}

impl<K, V> FlatMap<K, V> {
    /// An empty one, without memory of its own.
    pub const fn new() -> Self {
        Self {
            keys: Vec::new(),
            values: Vec::new(),
        }
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Forgets all, but keeps the memory.
    pub fn clear(&mut self) {
        self.keys.clear();
        self.values.clear();
    }

    /// The keys, in order.
    pub fn keys(&self) -> slice::Iter<'_, K> {
        self.keys.iter()
    }

    /// The values, in the order of their keys.
    pub fn values(&self) -> slice::Iter<'_, V> {
        self.values.iter()
    }

    /// The values, to be changed.
    pub fn values_mut(&mut self) -> slice::IterMut<'_, V> {
        self.values.iter_mut()
    }

    /// The values alone, in the order of their keys.
    pub fn into_values(self) -> vec::IntoIter<V> {
        self.values.into_iter()
    }

    /// All, in order.
    pub fn iter(&self) -> Iter<'_, K, V> {
        self.keys.iter().zip(&self.values)
    }

    /// All, in order, the values to be changed.
    pub fn iter_mut(&mut self) -> IterMut<'_, K, V> {
        self.keys.iter().zip(&mut self.values)
    }

    /// Takes the first.
    pub fn pop_first(&mut self) -> Option<(K, V)> {
        (!self.is_empty()).then(|| self.take(0))
    }

    /// Keeps those that a condition holds for, which may change them.
    pub fn retain(&mut self, mut keeps: impl FnMut(&K, &mut V) -> bool) {
        let mut kept = 0;
        for at in 0..self.keys.len() {
            let (Some(key), Some(value)) = (self.keys.get(at), self.values.get_mut(at)) else {
                break;
            };
            if keeps(key, value) {
                self.keys.swap(kept, at);
                self.values.swap(kept, at);
                kept += 1;
            }
        }
        self.keys.truncate(kept);
        self.values.truncate(kept);
    }

    /// Takes out those that a condition holds for.
    pub fn extract(&mut self, mut goes: impl FnMut(&K, &mut V) -> bool) -> Vec<(K, V)> {
        let mut gone = Vec::new();
        for (key, mut value) in mem::take(self) {
            if goes(&key, &mut value) {
                gone.push((key, value));
            } else {
                self.keys.push(key);
                self.values.push(value);
            }
        }
        gone
    }

    fn take(&mut self, at: usize) -> (K, V) {
        (self.keys.remove(at), self.values.remove(at))
    }
}

impl<K: Ord, V> FlatMap<K, V> {
    /// The value of a key.
    pub fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.values.get(find(&self.keys, key).ok()?)
    }

    /// The value of a key, to be changed.
    pub fn get_mut<Q>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.values.get_mut(find(&self.keys, key).ok()?)
    }

    /// Whether there is such a key.
    pub fn contains_key<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        find(&self.keys, key).is_ok()
    }

    /// Returns the value that was there before.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match find(&self.keys, &key) {
            Ok(at) => self.values.get_mut(at).map(|old| mem::replace(old, value)),
            Err(at) => {
                self.keys.insert(at, key);
                self.values.insert(at, value);
                None
            }
        }
    }

    /// Takes the value of a key.
    pub fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let at = find(&self.keys, key).ok()?;
        Some(self.take(at).1)
    }

    /// The place of a key, to be filled if it is free.
    pub const fn entry(&mut self, key: K) -> Entry<'_, K, V> {
        Entry { map: self, key }
    }

    /// The entries whose keys are within bounds; none if the bounds cross.
    pub fn range(&self, bounds: impl RangeBounds<K>) -> Iter<'_, K, V> {
        let (from, to) = within(&self.keys, (bounds.start_bound(), bounds.end_bound()));
        let keys = self.keys.get(from..to).unwrap_or_default();
        keys.iter()
            .zip(self.values.get(from..to).unwrap_or_default())
    }

    /// Likewise, the values to be changed.
    pub fn range_mut(&mut self, bounds: impl RangeBounds<K>) -> IterMut<'_, K, V> {
        let (from, to) = within(&self.keys, (bounds.start_bound(), bounds.end_bound()));
        let keys = self.keys.get(from..to).unwrap_or_default();
        keys.iter()
            .zip(self.values.get_mut(from..to).unwrap_or_default())
    }
}

impl<'a, K: Ord, V> Entry<'a, K, V> {
    /// The value there, or else the one that is made.
    pub fn or_insert_with(self, make: impl FnOnce() -> V) -> &'a mut V {
        let Self { map, key } = self;
        let at = match find(&map.keys, &key) {
            Ok(at) => at,
            Err(at) => {
                map.keys.insert(at, key);
                map.values.insert(at, make());
                at
            }
        };
        #[expect(clippy::indexing_slicing, reason = "it is there, or was put there")]
        &mut map.values[at]
    }

    /// The value there, or else this one.
    pub fn or_insert(self, value: V) -> &'a mut V {
        self.or_insert_with(|| value)
    }

    /// The value there, or else the default.
    pub fn or_default(self) -> &'a mut V
    where
        V: Default,
    {
        self.or_insert_with(V::default)
    }
}

impl<K, V> Default for FlatMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for FlatMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Serialize, V: Serialize> Serialize for FlatMap<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self)
    }
}

impl<K: Ord, V> Extend<(K, V)> for FlatMap<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        for (key, value) in entries {
            self.insert(key, value);
        }
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for FlatMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for (key, value) in entries {
            keys.push(key);
            values.push(value);
        }
        // Not one by one: others may choose how many, and in which order.
        if let Some(order) = Order::of(&keys) {
            order.apply(&mut keys);
            order.apply(&mut values);
        }
        Self { keys, values }
    }
}

impl<K: Ord, V, const N: usize> From<[(K, V); N]> for FlatMap<K, V> {
    fn from(entries: [(K, V); N]) -> Self {
        entries.into_iter().collect()
    }
}

impl<K, V> IntoIterator for FlatMap<K, V> {
    type Item = (K, V);
    type IntoIter = Zip<vec::IntoIter<K>, vec::IntoIter<V>>;

    fn into_iter(self) -> Self::IntoIter {
        self.keys.into_iter().zip(self.values)
    }
}

impl<'a, K, V> IntoIterator for &'a FlatMap<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a, K, V> IntoIterator for &'a mut FlatMap<K, V> {
    type Item = (&'a K, &'a mut V);
    type IntoIter = IterMut<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}
