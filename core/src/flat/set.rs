//! Sets that are sorted vectors.

use alloc::vec::{self, Vec};
use core::borrow::Borrow;
use core::cmp::Ordering;
use core::fmt;
use core::iter;
use core::slice;

use super::find;
use super::order::Order;

/// A set of sorted keys, with the methods of a `BTreeSet`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlatSet<K> {
    /// In order, and no two alike.
    keys: Vec<K>,
}

impl<K> FlatSet<K> {
    /// An empty one, without memory of its own.
    pub const fn new() -> Self {
        Self { keys: Vec::new() }
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
    }

    /// All, in order.
    pub fn iter(&self) -> slice::Iter<'_, K> {
        self.keys.iter()
    }
}

impl<K: Ord> FlatSet<K> {
    /// Whether it is there.
    pub fn contains<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        find(&self.keys, key).is_ok()
    }

    /// Returns whether it is new.
    #[inline(never)]
    pub fn insert(&mut self, key: K) -> bool {
        let place = find(&self.keys, &key);
        if let Err(at) = place {
            self.keys.insert(at, key);
        }
        place.is_err()
    }

    /// Returns whether it was there.
    pub fn remove<Q>(&mut self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let place = find(&self.keys, key);
        if let Ok(at) = place {
            self.keys.remove(at);
        }
        place.is_ok()
    }

    /// The keys of either set, in order.
    pub fn union<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a K> {
        let (mut these, mut those) = (self.iter(), other.iter());
        iter::from_fn(move || {
            let (Some(this), Some(that)) = (these.as_slice().first(), those.as_slice().first())
            else {
                return these.next().or_else(|| those.next());
            };
            match this.cmp(that) {
                Ordering::Less => these.next(),
                Ordering::Greater => those.next(),
                Ordering::Equal => {
                    those.next();
                    these.next()
                }
            }
        })
    }
}

impl<K> Default for FlatSet<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: fmt::Debug> fmt::Debug for FlatSet<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(&self.keys).finish()
    }
}

impl<K: Ord> Extend<K> for FlatSet<K> {
    fn extend<I: IntoIterator<Item = K>>(&mut self, keys: I) {
        for key in keys {
            self.insert(key);
        }
    }
}

impl<K: Ord> FromIterator<K> for FlatSet<K> {
    fn from_iter<I: IntoIterator<Item = K>>(keys: I) -> Self {
        let mut keys: Vec<K> = keys.into_iter().collect();
        if let Some(order) = Order::of(&keys) {
            order.apply(&mut keys);
        }
        Self { keys }
    }
}

impl<K: Ord, const N: usize> From<[K; N]> for FlatSet<K> {
    fn from(keys: [K; N]) -> Self {
        keys.into_iter().collect()
    }
}

impl<K> IntoIterator for FlatSet<K> {
    type Item = K;
    type IntoIter = vec::IntoIter<K>;

    fn into_iter(self) -> Self::IntoIter {
        self.keys.into_iter()
    }
}

impl<'a, K> IntoIterator for &'a FlatSet<K> {
    type Item = &'a K;
    type IntoIter = slice::Iter<'a, K>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
