//! Starting: what storage remembers comes first, then the ring.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::Node;
use crate::config::RingEntry;
use crate::event::{Event, Output};
use crate::id::RingId;
use crate::identity::Record;
use crate::kvs::{self, HORIZONS_KEY, VIEWS_KEY};
use crate::ring::Ring;
use crate::status::Class;
use crate::store::{Read, StoreError, StoreOp, Stored, Write};
use crate::time::Now;
use crate::trouble::{Trouble, TroubleKind};
use crate::wire;

/// Where the ring and its members are kept.
const RING_KEY: &[u8] = b"m/ring";
/// Bytes read at once.
const SCAN_BYTES: usize = 1 << 20;
/// The tokens of the node's own orders; the store's are below.
const TOKEN: u64 = 1 << 63;
const KEPT_TOKEN: u64 = TOKEN | 1;

/// What a node remembers of its ring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Memory {
    ring: RingId,
    /// The durable members known last; a page, which joins by relays, keeps
    /// none.
    members: Vec<Record>,
}

/// How far the start has come.
#[derive(Debug)]
pub(super) struct Start {
    step: Step,
    memory: Option<Memory>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Ring,
    Views,
    Horizons,
    Entries,
}

impl Start {
    pub(super) fn begin() -> (Self, VecDeque<Output>) {
        let start = Self {
            step: Step::Ring,
            memory: None,
        };
        let key = RING_KEY.to_vec();
        (start, [read(Read::Get { key })].into())
    }
}

impl Node {
    pub(super) fn on_stored(&mut self, token: u64, result: Result<Stored, StoreError>, now: Now) {
        if token & TOKEN == 0 {
            return self.kvs.on_stored(token, result, now);
        }
        if let Some(start) = self.start.take_if(|_| token == TOKEN) {
            self.on_read(start, result, now);
        } else if result.is_err() {
            self.counters.add("store_errors");
        }
    }

    fn on_read(&mut self, mut start: Start, result: Result<Stored, StoreError>, now: Now) {
        let next = match (start.step, result) {
            (Step::Ring, Ok(Stored::Value(value))) => {
                if let Some(bytes) = value {
                    start.memory = wire::decode(&bytes).ok();
                    if start.memory.is_none() {
                        return self.give_up(start, "the ring's id");
                    }
                }
                start.step = Step::Views;
                let key = VIEWS_KEY.to_vec();
                Read::Get { key }
            }
            (Step::Views, Ok(Stored::Value(value))) => {
                if value.is_some_and(|bytes| !self.kvs.load_views(&bytes)) {
                    return self.give_up(start, "the views");
                }
                start.step = Step::Horizons;
                let key = HORIZONS_KEY.to_vec();
                Read::Get { key }
            }
            (Step::Horizons, Ok(Stored::Value(value))) => {
                if value.is_some_and(|bytes| !self.kvs.load_horizons(&bytes)) {
                    return self.give_up(start, "the horizons");
                }
                start.step = Step::Entries;
                let (from, to) = kvs::entries_range();
                let limit = SCAN_BYTES;
                Read::Scan { from, to, limit }
            }
            (Step::Entries, Ok(Stored::Entries(entries))) => {
                let Some((last, _)) = entries.last() else {
                    return self.run(start.memory, now);
                };
                let from = [last.as_slice(), &[0]].concat();
                for (key, value) in &entries {
                    if !self.kvs.load_entry(key, value, now) {
                        return self.give_up(start, "a record");
                    }
                }
                let (_, to) = kvs::entries_range();
                let limit = SCAN_BYTES;
                Read::Scan { from, to, limit }
            }
            _ => return self.give_up(start, "the data"),
        };
        self.start = Some(start);
        self.outputs.push_back(read(next));
    }

    /// What is kept cannot be read: the node stays out, and says so, rather
    /// than vote without what it promised.
    fn give_up(&mut self, start: Start, what: &str) {
        self.start = Some(start);
        self.counters.add("store_errors");
        let words = alloc::format!(
            "{what} in storage cannot be read: restore the data directory, or start on an empty one"
        );
        let trouble = Trouble::new(TroubleKind::Storage, words);
        self.outputs
            .push_back(Output::Event(Event::Trouble(trouble)));
    }

    /// All is read: the node takes part from here on.
    fn run(&mut self, memory: Option<Memory>, now: Now) {
        let known = memory.filter(|_| self.config.entry != RingEntry::Renew);
        let rng = self.links.me.rng.fork();
        let network = self.config.network.clone();
        let before = known.as_ref().map(|memory| memory.ring);
        // A page alone is no ring: it joins anew, but only the one that its
        // share and views are of.
        let goes_on = before.filter(|_| self.config.class == Class::Durable);
        self.ring = Ring::new(self.record().clone(), network, goes_on, rng, now.mono);
        if let Some(ring) = before {
            self.ring.return_to(ring);
        }
        match known {
            Some(memory) => {
                for record in &memory.members {
                    if record.verify(&self.config.network).is_ok() {
                        self.links.learn(record, now.mono);
                    }
                }
                self.kept = Some(memory);
            }
            None if self.config.entry != RingEntry::Join => {
                self.ring.genesis();
                self.kvs.genesis();
            }
            None => {}
        }
        self.handle_input(crate::event::Input::Timeout, now);
    }

    /// Keeps the ring's id, and a durable node its durable members, when they
    /// changed.
    pub(super) fn keep_memory(&mut self) {
        let Some(ring) = self.ring.id() else {
            return;
        };
        let keeps = |record: &Record| {
            self.config.class == Class::Durable && record.facts().class == Class::Durable
        };
        let members = self.ring.members().alive();
        let durable = members.filter(|(_, record)| keeps(record));
        let memory = Memory {
            ring,
            members: durable.map(|(_, record)| record.clone()).collect(),
        };
        let poorer = self.kept.as_ref().is_some_and(|kept| {
            kept.ring == ring && (memory.members.is_empty() || *kept == memory)
        });
        if poorer {
            return;
        }
        let write = Write {
            key: RING_KEY.to_vec(),
            value: Some(wire::encode(&memory)),
        };
        self.kept = Some(memory);
        let (token, op) = (KEPT_TOKEN, StoreOp::Commit([write].into()));
        self.outputs.push_back(Output::Store { token, op });
    }
}

fn read(read: Read) -> Output {
    Output::Store {
        token: TOKEN,
        op: StoreOp::Read(read),
    }
}
