//! Three voters for unit tests, their disks and clocks.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use super::fixture::{drain_with, id, voter_of};
use super::message::Message;
use super::version::Version;
use super::{Key, Kvs, Mode, Reply, RequestId, Terms};
use crate::id::NodeId;
use crate::store::{MemoryStore, StoreOp};
use crate::time::{Instant, Now};

pub(super) const HOUR: u64 = 60 * 60 * 1000;
pub(super) const MINUTE: u64 = 60 * 1000;

pub(super) fn key() -> Key {
    Key::new("a/0").unwrap()
}

/// Three voters with disks, between which messages take no time.
pub(super) struct Three {
    pub(super) nodes: [(Kvs, MemoryStore); 3],
    /// How far each wall clock is ahead, in milliseconds.
    pub(super) ahead: [u64; 3],
    pub(super) millis: u64,
    requests: u64,
    /// One that hears nothing.
    pub(super) deaf: Option<usize>,
    /// Messages from one to another, and orders to storage that changed something.
    pub(super) messages: u64,
    pub(super) commits: u64,
}

impl Three {
    pub(super) fn new(ahead: [u64; 3]) -> Self {
        Self {
            nodes: [1, 2, 3].map(|own| (voter_of(own), MemoryStore::default())),
            ahead,
            millis: HOUR,
            requests: 0,
            deaf: None,
            messages: 0,
            commits: 0,
        }
    }

    pub(super) fn now(&self, index: usize) -> Now {
        Now {
            mono: Instant::default() + Duration::from_millis(self.millis),
            unix_ms: self.millis + self.ahead[index],
        }
    }

    /// Hands messages on until nothing more is said; returns the replies.
    pub(super) fn settle(&mut self) -> Vec<Reply> {
        let mut replies = Vec::new();
        let mut mail: VecDeque<(usize, NodeId, Message)> = VecDeque::new();
        loop {
            for index in 0..3 {
                let now = self.now(index);
                let (kvs, disk) = &mut self.nodes[index];
                let mut commits = 0;
                let said = drain_with(kvs, now, |op| {
                    let StoreOp::Commit(writes) = &op else {
                        return Ok(disk.submit(op));
                    };
                    commits += u64::from(!writes.is_empty());
                    Ok(disk.submit(op))
                });
                self.commits += commits;
                replies.extend(said.replies);
                let sent = said.messages.into_iter();
                mail.extend(sent.map(|(to, message)| (index, to, message)));
            }
            let Some((from, to, message)) = mail.pop_front() else {
                return replies;
            };
            let ids = [1, 2, 3].map(id);
            let to = ids.iter().position(|id| *id == to);
            self.messages += u64::from(to != Some(from));
            if let Some(to) = to.filter(|to| self.deaf != Some(*to)) {
                let now = self.now(to);
                self.nodes[to].0.on_message(ids[from], message, now);
            }
        }
    }

    /// Lets time pass, in which timers run, in small steps.
    pub(super) fn pass(&mut self, millis: u64) -> Vec<Reply> {
        let until = self.millis + millis;
        let mut replies = Vec::new();
        while self.millis < until {
            self.millis = (self.millis + 10).min(until);
            for index in 0..3 {
                let now = self.now(index);
                self.nodes[index].0.on_timeout(now);
            }
            replies.extend(self.settle());
        }
        replies
    }

    pub(super) fn ended(&mut self) -> Reply {
        let mut replies = self.settle();
        for _ in 0..600 {
            if let Some(reply) = replies.pop() {
                return reply;
            }
            replies = self.pass(10);
        }
        panic!("no reply");
    }

    pub(super) fn put(&mut self, index: usize, value: &str, terms: Terms) -> Reply {
        self.requests += 1;
        let (request, now) = (RequestId(self.requests), self.now(index));
        let value = Some(value.into());
        self.nodes[index].0.put(request, key(), value, terms, now);
        self.ended()
    }

    pub(super) fn delete(&mut self, index: usize, mode: Mode) -> Reply {
        self.requests += 1;
        let (request, now) = (RequestId(self.requests), self.now(index));
        let kvs = &mut self.nodes[index].0;
        kvs.put(request, key(), None, mode.into(), now);
        self.ended()
    }

    pub(super) fn get(&mut self, index: usize, mode: Mode) -> Option<Vec<u8>> {
        self.requests += 1;
        let (request, now) = (RequestId(self.requests), self.now(index));
        self.nodes[index].0.get(request, key(), mode, now);
        match self.ended() {
            Reply::Found { value, .. } => Some(value),
            Reply::Missing => None,
            other => panic!("{other:?}"),
        }
    }

    /// The version that is held, and whether it is a tombstone's.
    pub(super) fn held(&self, index: usize) -> (Version, bool) {
        let meta = self.nodes[index].0.index.get(&key());
        meta.map_or((Version::ZERO, true), |meta| (meta.version, meta.deleted))
    }
}
