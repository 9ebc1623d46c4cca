//! Storage of a page: a map in memory. It answers at once.

use std::collections::BTreeMap;

use roundelay_core::store::{Read, StoreError, StoreOp, Stored};

/// A map in memory, gone with the page.
#[derive(Debug, Default)]
pub(crate) struct Storage {
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Storage {
    /// Carries out an order.
    pub(crate) fn submit(&mut self, op: StoreOp) -> Result<Stored, StoreError> {
        match op {
            StoreOp::Read(Read::Get { key }) => Ok(Stored::Value(self.entries.get(&key).cloned())),
            StoreOp::Read(Read::Scan { from, to, limit }) => Ok(self.scan(&from, &to, limit)),
            StoreOp::Commit(writes) => {
                for write in writes {
                    match write.value {
                        Some(value) => self.entries.insert(write.key, value),
                        None => self.entries.remove(&write.key),
                    };
                }
                Ok(Stored::Done)
            }
        }
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Stored {
        let mut found: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        // A range that ends before it begins would panic.
        if from >= to {
            return Stored::Entries(found);
        }
        let mut bytes = 0;
        for (key, value) in self.entries.range(from.to_vec()..to.to_vec()) {
            bytes += key.len() + value.len();
            if bytes > limit && !found.is_empty() {
                break;
            }
            found.push((key.clone(), value.clone()));
        }
        Stored::Entries(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roundelay_core::store::Write;
    use wasm_bindgen_test::wasm_bindgen_test;

    #[wasm_bindgen_test(unsupported = test)]
    fn a_scan_stops_at_its_limit_but_gives_one_entry() {
        let mut storage = Storage::default();
        let write = |key: u8, value: Option<Vec<u8>>| Write {
            key: vec![key],
            value,
        };
        let writes = (0..4).map(|key| write(key, Some(vec![key; 9]))).collect();
        assert_eq!(storage.submit(StoreOp::Commit(writes)), Ok(Stored::Done));
        let removed = StoreOp::Commit(vec![write(1, None)]);
        assert_eq!(storage.submit(removed), Ok(Stored::Done));
        let mut scan = |from: u8, to: u8, limit| {
            let (from, to) = (vec![from], vec![to]);
            match storage.submit(StoreOp::Read(Read::Scan { from, to, limit })) {
                Ok(Stored::Entries(entries)) => entries.iter().map(|(key, _)| key[0]).collect(),
                _ => Vec::new(),
            }
        };
        assert_eq!(scan(0, 9, 20), [0, 2]);
        assert_eq!(scan(2, 9, 1), [2]);
        assert_eq!(scan(9, 0, 20), Vec::<u8>::new());
    }
}
