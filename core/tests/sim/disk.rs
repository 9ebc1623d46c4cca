//! A disk that forgets, in a crash, what was not synced.

use std::collections::BTreeMap;

use roundelay_core::kvs::{Key, Version};
use roundelay_core::store::{MemoryStore, StoreOp, Stored, Write};

/// The storage of one process.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    /// What reads see.
    seen: MemoryStore,
    /// What a crash leaves.
    synced: MemoryStore,
    /// When the last order is carried out: they are done one after another.
    pub busy_until: u64,
    /// Entries that were removed, with their versions.
    pub removed: Vec<(Key, Version)>,
    /// The newest tombstone of each key that was removed.
    forgotten: BTreeMap<Key, Version>,
    /// Which value each version has, of all that was ever written.
    pub values: Vec<(Version, Option<Vec<u8>>)>,
}

impl Disk {
    /// What an order will answer; commits are seen at once.
    pub fn order(&mut self, op: &StoreOp) -> Stored {
        if let StoreOp::Commit(writes) = op {
            let entries = writes.iter().filter(|write| write.key.starts_with(b"r"));
            let entries = entries.filter_map(|write| write.value.as_deref());
            let decoded = entries.filter_map(|entry| postcard::from_bytes(entry).ok());
            self.values.extend(decoded);
        }
        self.seen.submit(op.clone())
    }

    /// A commit is durable.
    pub fn sync(&mut self, writes: Vec<Write>) {
        let gone = writes.iter().filter(|write| write.value.is_none());
        let keys = gone.filter_map(|write| write.key.strip_prefix(b"r"));
        for key in keys.filter_map(|path| Key::from_utf8(path.get(2..)?).ok()) {
            let Some((version, deleted)) = self.synced_entry(&key) else {
                continue;
            };
            if deleted {
                let newest = self.forgotten.entry(key.clone()).or_insert(version);
                *newest = version.max(*newest);
            }
            self.removed.push((key, version));
        }
        self.synced.submit(StoreOp::Commit(writes));
    }

    pub fn crash(&mut self) {
        self.seen = self.synced.clone();
        self.busy_until = 0;
    }

    /// When the value of a key expires, by what a crash would leave.
    pub fn expires(&self, key: &Key) -> Option<u64> {
        let entry = self.synced.get(&path(key))?;
        let (_, value, expires): (Version, Option<Vec<u8>>, Option<u64>) =
            postcard::from_bytes(entry).ok()?;
        expires.filter(|_| value.is_some())
    }

    /// The version of a key that a crash would leave.
    pub fn synced_version(&self, key: &Key) -> Option<Version> {
        self.synced_entry(key).map(|(version, _)| version)
    }

    /// The version of a key that was deleted and forgotten since.
    pub fn forgotten_version(&self, key: &Key) -> Option<Version> {
        self.forgotten.get(key).copied()
    }

    /// The version of a key that a crash would leave, and whether it is deleted.
    fn synced_entry(&self, key: &Key) -> Option<(Version, bool)> {
        let entry = self.synced.get(&path(key))?;
        let ((version, value), _): ((Version, Option<Vec<u8>>), _) =
            postcard::take_from_bytes(entry).ok()?;
        Some((version, value.is_none()))
    }
}

/// Where the entry of a key is kept.
fn path(key: &Key) -> Vec<u8> {
    let [high, low] = key.slot().number().to_be_bytes();
    let mut path = vec![b'r', high, low];
    path.extend(key.as_str().bytes());
    path
}
