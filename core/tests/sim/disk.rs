//! A disk that forgets, in a crash, what was not synced.

use std::collections::BTreeMap;

use roundelay_core::kvs::{Key, Version};
use roundelay_core::store::{Read, StoreOp, Stored, Write};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// The storage of one process.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    /// What reads see.
    seen: Map,
    /// What a crash leaves.
    synced: Map,
    /// When the last order is carried out: they are done one after another.
    pub busy_until: u64,
}

impl Disk {
    /// What an order will answer; commits are seen at once.
    pub fn order(&mut self, op: &StoreOp) -> Stored {
        match op {
            StoreOp::Read(Read::Get { key }) => Stored::Value(self.seen.get(key).cloned()),
            StoreOp::Read(Read::Scan { from, to, limit }) => {
                let mut left = *limit;
                let entries = self.seen.range(from.clone()..to.clone());
                let entries = entries.take_while(|(key, value)| {
                    let fits = left > 0;
                    left = left.saturating_sub(key.len() + value.len());
                    fits
                });
                Stored::Entries(entries.map(|(k, v)| (k.clone(), v.clone())).collect())
            }
            StoreOp::Commit(writes) => {
                apply(&mut self.seen, writes);
                Stored::Done
            }
        }
    }

    /// A commit is durable.
    pub fn sync(&mut self, writes: &[Write]) {
        apply(&mut self.synced, writes);
    }

    pub fn crash(&mut self) {
        self.seen = self.synced.clone();
        self.busy_until = 0;
    }

    /// The version of a key that a crash would leave.
    pub fn synced_version(&self, key: &Key) -> Option<Version> {
        let [high, low] = key.slot().number().to_be_bytes();
        let mut path = vec![b'r', high, low];
        path.extend(key.as_str().bytes());
        let entry = self.synced.get(&path)?;
        postcard::take_from_bytes(entry)
            .ok()
            .map(|(version, _)| version)
    }
}

fn apply(map: &mut Map, writes: &[Write]) {
    for write in writes {
        match &write.value {
            Some(value) => map.insert(write.key.clone(), value.clone()),
            None => map.remove(&write.key),
        };
    }
}
