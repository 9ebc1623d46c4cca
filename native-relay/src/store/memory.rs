//! Storage without a disk.

use std::collections::BTreeMap;

use roundelay_core::store::{Read, StoreError, StoreOp, Stored};

use super::overlay::scan;

/// A map in memory.
#[derive(Debug)]
pub(super) struct Memory {
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
    epoch: u64,
}

impl Memory {
    pub(super) fn new(unix_ms: u64) -> Self {
        Self {
            entries: BTreeMap::new(),
            epoch: unix_ms,
        }
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(super) fn submit(&mut self, op: StoreOp) -> Result<Stored, StoreError> {
        match op {
            StoreOp::Read(Read::Get { key }) => Ok(Stored::Value(self.entries.get(&key).cloned())),
            StoreOp::Read(Read::Scan { from, to, limit }) => {
                if from >= to {
                    return Ok(Stored::Entries(Vec::new()));
                }
                let entries = self
                    .entries
                    .range(from..to)
                    .map(|(key, value)| Ok((key.clone(), Some(value.clone()))));
                scan(entries, limit)
            }
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
}
