//! Storage in memory, for drivers that have no other.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::{Read, StoreOp, Stored};

/// A map in memory. It answers at once, and never refuses.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl MemoryStore {
    /// What is kept under a key.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&Vec<u8>> {
        self.entries.get(key)
    }

    /// Carries out an order.
    pub fn submit(&mut self, op: StoreOp) -> Stored {
        match op {
            StoreOp::Read(Read::Get { key }) => Stored::Value(self.get(&key).cloned()),
            StoreOp::Read(Read::Scan { from, to, limit }) => {
                Stored::Entries(self.scan(from, to, limit))
            }
            StoreOp::Commit(writes) => {
                for write in writes {
                    match write.value {
                        Some(value) => self.entries.insert(write.key, value),
                        None => self.entries.remove(&write.key),
                    };
                }
                Stored::Done
            }
        }
    }

    fn scan(&self, from: Vec<u8>, to: Vec<u8>, limit: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut found: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        // A range that ends before it begins would panic.
        if from >= to {
            return found;
        }
        let mut bytes = 0;
        for (key, value) in self.entries.range(from..to) {
            bytes += key.len() + value.len();
            if bytes > limit && !found.is_empty() {
                break;
            }
            found.push((key.clone(), value.clone()));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::store::Write;

    #[test]
    fn a_scan_stops_at_its_limit_but_gives_one_entry() {
        let mut store = MemoryStore::default();
        let write = |key: u8, value: Option<Vec<u8>>| Write {
            key: vec![key],
            value,
        };
        let writes = (0..4).map(|key| write(key, Some(vec![key; 9]))).collect();
        assert_eq!(store.submit(StoreOp::Commit(writes)), Stored::Done);
        let removed = StoreOp::Commit(vec![write(1, None)]);
        assert_eq!(store.submit(removed), Stored::Done);
        let mut scan = |from: u8, to: u8, limit| -> Vec<u8> {
            let (from, to) = (vec![from], vec![to]);
            match store.submit(StoreOp::Read(Read::Scan { from, to, limit })) {
                Stored::Entries(entries) => entries.iter().map(|(key, _)| key[0]).collect(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(scan(0, 9, 20), [0, 2]);
        assert_eq!(scan(2, 9, 1), [2]);
        assert_eq!(scan(9, 0, 20), []);
    }
}
