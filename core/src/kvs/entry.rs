//! What is kept for a key, in memory and in storage.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::vec::Vec;
use core::ops::Bound;

use serde::{Deserialize, Serialize};

use crate::flat::FlatMap;
use crate::kvs::expiry::Expiry;
use crate::kvs::key::{Key, Slot};
use crate::kvs::list::List;
use crate::kvs::slots::SlotSet;
use crate::kvs::version::Version;

/// A version of a key's value; without a value it is a tombstone, of a delete or
/// of a record that expired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) version: Version,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) expires: Option<Expiry>,
}

/// What the index knows of an entry in storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) version: Version,
    pub(crate) deleted: bool,
    /// When its value expires.
    pub(crate) expires: Option<Expiry>,
    bytes: u64,
}

impl Meta {
    pub(crate) fn of(key: &Key, entry: &Entry) -> Self {
        let value = entry.value.as_ref().map_or(0, Vec::len);
        Self {
            version: entry.version,
            deleted: entry.value.is_none(),
            expires: entry.expires.filter(|_| entry.value.is_some()),
            bytes: (key.as_str().len() + value) as u64,
        }
    }

    /// Bytes of key and value.
    pub(crate) const fn bytes(self) -> u64 {
        self.bytes
    }
}

/// The versions of all entries held, by slot: values stay in storage.
#[derive(Debug, Default)]
pub(crate) struct Index {
    slots: FlatMap<Slot, Part>,
    /// Those that expire, the first in front.
    expiring: BTreeSet<(Expiry, Key)>,
    count: u64,
    bytes: u64,
}

#[derive(Debug, Default)]
struct Part {
    entries: BTreeMap<Key, Meta>,
    sum: u64,
    /// Tombstones among them.
    deleted: u64,
}

impl Index {
    pub(crate) fn get(&self, key: &Key) -> Option<Meta> {
        self.slots.get(&key.slot())?.entries.get(key).copied()
    }

    /// The version of a key, [`Version::ZERO`] when there is none.
    pub(crate) fn version(&self, key: &Key) -> Version {
        self.get(key).map_or(Version::ZERO, |meta| meta.version)
    }

    /// Sets or removes what is known of a key; returns what was.
    pub(crate) fn set(&mut self, key: &Key, meta: Option<Meta>) -> Option<Meta> {
        let part = self.slots.entry(key.slot()).or_default();
        let old = match meta {
            Some(meta) => part.entries.insert(key.clone(), meta),
            None => part.entries.remove(key),
        };
        if let Some(old) = old {
            part.sum = part.sum.wrapping_sub(sum(key, old.version));
            part.deleted -= u64::from(old.deleted);
            self.count -= 1;
            self.bytes -= old.bytes;
            if let Some(expiry) = old.expires {
                self.expiring.remove(&(expiry, key.clone()));
            }
        }
        if let Some(new) = meta {
            part.sum = part.sum.wrapping_add(sum(key, new.version));
            part.deleted += u64::from(new.deleted);
            self.count += 1;
            self.bytes += new.bytes;
            if let Some(expiry) = new.expires {
                self.expiring.insert((expiry, key.clone()));
            }
        }
        if part.entries.is_empty() {
            self.slots.remove(&key.slot());
        }
        old
    }

    /// Fingerprints of the slots of a set that hold anything.
    pub(crate) fn sums(&self, slots: &SlotSet) -> FlatMap<u16, u64> {
        let held = self.slots.iter().filter(|(slot, _)| slots.contains(**slot));
        held.map(|(slot, part)| (slot.number(), part.sum)).collect()
    }

    /// The fingerprint of what a slot holds up to a time.
    pub(crate) fn sum_to(&self, slot: Slot, unix_ms: u64) -> u64 {
        let held = self.list(slot, None);
        let old = held.filter(|(_, version)| version.unix_ms() <= unix_ms);
        old.fold(0, |all, (key, version)| all.wrapping_add(sum(key, version)))
    }

    /// The slots that hold tombstones.
    pub(crate) fn tombstones(&self) -> impl Iterator<Item = Slot> + '_ {
        let slots = self.slots.iter().filter(|(_, part)| part.deleted > 0);
        slots.map(|(slot, _)| *slot)
    }

    /// The tombstones of a slot that may go when its horizon is raised to a time,
    /// and from which time each may.
    pub(crate) fn collectable(&self, slot: Slot, at: u64) -> Vec<(u64, Key)> {
        let part = self.slots.get(&slot).into_iter();
        let metas = part.flat_map(|part| &part.entries);
        let due = metas.filter_map(|(key, meta)| Some((meta.collected_at()?, key)));
        let due = due.filter(|(from, _)| *from <= at);
        due.map(|(from, key)| (from, key.clone())).collect()
    }

    /// Keys and versions of a slot in order, after a key.
    pub(crate) fn list(
        &self,
        slot: Slot,
        after: Option<&Key>,
    ) -> impl Iterator<Item = (&Key, Version)> + use<'_> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let range = (from, Bound::Unbounded);
        let part = self.slots.get(&slot);
        let entries = part.map(|part| part.entries.range::<Key, _>(range));
        entries
            .into_iter()
            .flatten()
            .map(|(key, meta)| (key, meta.version))
    }

    /// The entries of a bucket in order, from where a page of it begins: the
    /// bucket's own key, then its names; others of the slot may lie between. Or the
    /// one key that is wanted.
    pub(crate) fn bucket<'a>(&'a self, list: &List) -> impl Iterator<Item = (&'a Key, Meta)> {
        let entries = self.slots.get(&list.slot()).map(|part| &part.entries);
        let names = format!("{}/", list.bucket());
        let first = list.only().unwrap_or_else(|| list.key());
        let first = entries.and_then(|entries| entries.get_key_value(first));
        let first = first.filter(|(key, _)| list.contains(key));
        let after = list.after().map(Key::as_str);
        let from = match after.filter(|after| *after >= names.as_str()) {
            Some(after) => Bound::Excluded(after),
            None => Bound::Included(names.as_str()),
        };
        let rest = entries.filter(|_| list.only().is_none());
        let rest = rest.map(|entries| entries.range::<str, _>((from, Bound::Unbounded)));
        let rest = rest.into_iter().flatten();
        let rest = rest.take_while(move |(key, _)| key.as_str().starts_with(&names));
        first
            .into_iter()
            .chain(rest)
            .map(|(key, meta)| (key, *meta))
    }

    /// Keys whose values expire, in the order of time, after one of them.
    pub(crate) fn expiring(
        &self,
        after: Option<&(Expiry, Key)>,
    ) -> impl Iterator<Item = &(Expiry, Key)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.expiring.range((from, Bound::Unbounded))
    }

    /// Entries held in a slot.
    pub(crate) fn slot_count(&self, slot: Slot) -> u64 {
        self.slots
            .get(&slot)
            .map_or(0, |part| part.entries.len() as u64)
    }

    /// The slots that hold anything.
    pub(crate) fn held(&self) -> impl Iterator<Item = Slot> + '_ {
        self.slots.keys().copied()
    }

    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// A number for one key at one version, of which a slot's fingerprint is the
/// sum. Equal slots have equal sums.
pub(super) fn sum(key: &Key, version: Version) -> u64 {
    let version = version.parts().into_iter().flat_map(u64::to_be_bytes);
    hash(key.as_str().bytes().chain(version))
}

/// FNV-1a of 64 bits, mixed to its first and last bit (the finish of
/// MurmurHash3). Of two versions that differ in their last bit alone the hashes
/// would differ by the same number up or down, and two such keys cancel each
/// other; and of short keys the first bits would be too much alike.
pub(super) fn hash(bytes: impl Iterator<Item = u8>) -> u64 {
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::NodeId;
    use crate::kvs::version::Clock;

    #[test]
    fn sums_tell_what_expired_apart() {
        let mut clock = Clock::new(&NodeId::from_bytes([1; 32]));
        let keys = [0, 1, 2].map(|n| Key::new(alloc::format!("b/{n}")).unwrap());
        let versions = [0, 1, 2].map(|n| clock.tick(n));
        let mut sums = BTreeSet::new();
        for expired in 0..8_u8 {
            let mut index = Index::default();
            for (n, (key, version)) in keys.iter().zip(versions).enumerate() {
                let gone = expired >> n & 1 == 1;
                let entry = Entry {
                    version: if gone { version.expired() } else { version },
                    value: None,
                    expires: None,
                };
                index.set(key, Some(Meta::of(key, &entry)));
            }
            sums.extend(index.sums(&SlotSet::all()).into_values());
        }
        assert_eq!(sums.len(), 8);
    }

    #[test]
    fn sums_tell_versions_apart_but_not_orders() {
        let mut clock = Clock::new(&NodeId::from_bytes([1; 32]));
        let entries: Vec<(Key, Entry)> = (0..3)
            .map(|n| {
                let key = Key::new(alloc::format!("b/{n}")).unwrap();
                let version = clock.tick(n);
                let value = Some(alloc::vec![0; 10]);
                let expires = None;
                let entry = Entry {
                    version,
                    value,
                    expires,
                };
                (key, entry)
            })
            .collect();
        let mut here = Index::default();
        let mut there = Index::default();
        for (key, entry) in &entries {
            here.set(key, Some(Meta::of(key, entry)));
        }
        for (key, entry) in entries.iter().rev() {
            there.set(key, Some(Meta::of(key, entry)));
        }
        let all = SlotSet::all();
        assert_eq!(here.sums(&all), there.sums(&all));
        assert_eq!(here.bytes(), 3 * 13);
        let (key, _) = &entries[0];
        let newer = Entry {
            version: clock.tick(9),
            value: None,
            expires: None,
        };
        here.set(key, Some(Meta::of(key, &newer)));
        assert_ne!(here.sums(&all), there.sums(&all));
        assert_eq!((here.count(), here.bytes()), (3, 2 * 13 + 3));
        for (key, _) in &entries {
            there.set(key, None);
        }
        assert_eq!((there.count(), there.held().count()), (0, 0));
    }
}
