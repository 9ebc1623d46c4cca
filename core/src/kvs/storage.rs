//! Orders to storage, and what happens when they are carried out.

use alloc::vec::Vec;

use super::coordinator::CoordinationId;
use super::entry::{Entry, Meta};
use super::key::{Key, Slot};
use super::message::{Message, ViewMessage, Vote, VoteError};
use super::view::SlotState;
use super::{Kvs, KvsAction};
use crate::event::Lane;
use crate::id::NodeId;
use crate::store::{Read, StoreError, StoreOp, Stored, Write};
use crate::time::Now;
use crate::wire;

/// Where the views are kept.
pub(crate) const VIEWS_KEY: &[u8] = b"m/views";

/// What an order to storage was for.
#[derive(Debug)]
pub(super) enum Pending {
    /// An entry that a coordinator or mirror keeps.
    Keep {
        key: Key,
        entry_version: super::Version,
        before: Option<Meta>,
        then: Then,
    },
    /// A batch of entries that were pulled.
    Pulled { pull: u64 },
    /// Views; these messages may be sent now.
    Views(Vec<(NodeId, ViewMessage)>),
    /// A value that a coordinator reads.
    OwnRead { coordination: CoordinationId },
    /// A value that a voter was asked for.
    VoteRead { to: NodeId, id: u64, view: u64 },
    /// A value that a puller fetches.
    Fetched { fetch: u64, key: Key },
}

/// What happens when an entry is durable.
#[derive(Debug)]
pub(super) enum Then {
    /// Nothing.
    Rest,
    /// This node's own vote.
    OwnVote(CoordinationId),
    /// A vote for another node, if this one still serves that view.
    Vote { to: NodeId, id: u64, view: u64 },
}

impl Kvs {
    /// Storage answered.
    pub(crate) fn on_stored(&mut self, token: u64, result: Result<Stored, StoreError>, now: Now) {
        let Some(pending) = self.pending.remove(&token) else {
            return;
        };
        if result.is_err() {
            self.counters.add("store_errors");
        }
        match pending {
            Pending::Keep {
                key,
                entry_version,
                before,
                then,
            } => {
                if result.is_err() && self.index.version(&key) == entry_version {
                    self.index.set(&key, before);
                }
                self.on_kept(&key, then, result.is_ok(), now);
            }
            Pending::Pulled { pull } => self.on_pulled_kept(pull, result.is_ok(), now),
            Pending::Views(messages) => {
                for (to, message) in messages.into_iter().filter(|_| result.is_ok()) {
                    self.send(to, Lane::Control, Message::View(message));
                }
            }
            Pending::OwnRead { coordination } => {
                self.on_own_read(coordination, decoded(result), now);
            }
            Pending::VoteRead { to, id, view } => {
                let newer = decoded(result).ok().flatten();
                let vote = Vote::ReadDone { id, view, newer };
                self.send(to, Lane::Kv, Message::Vote(vote));
            }
            Pending::Fetched { fetch, key } => {
                self.on_fetched(fetch, key, decoded(result).ok().flatten());
            }
        }
        self.settle(now);
    }

    fn on_kept(&mut self, key: &Key, then: Then, kept: bool, now: Now) {
        match then {
            Then::Rest => {}
            Then::OwnVote(coordination) => self.on_own_vote(coordination, kept, now),
            Then::Vote { to, id, view } => {
                let vote = if !kept {
                    let why = VoteError::Full;
                    Vote::Refused { id, why }
                } else if self.votes_in(key.slot(), view) {
                    Vote::Wrote { id, view }
                } else {
                    let why = VoteError::View(self.views.known_of(key.slot()));
                    Vote::Refused { id, why }
                };
                self.send(to, Lane::Kv, Message::Vote(vote));
            }
        }
    }

    /// Whether this node votes on a slot in this view, and no other.
    pub(super) fn votes_in(&self, slot: Slot, view: u64) -> bool {
        let votes = self.views.serving(slot) == Some(view);
        #[cfg(planted_bugs)]
        let votes = votes || crate::planted::is("vote_from_other_view");
        votes
    }

    /// Keeps an entry, and does `then` when it is durable.
    pub(super) fn keep(&mut self, key: Key, entry: &Entry, then: Then, now: Now) {
        let before = self.index.set(&key, Some(Meta::of(&key, entry)));
        let writes = [entry_write(&key, entry)].into();
        self.copy_to_mirrors(&key, entry, now);
        #[cfg(planted_bugs)]
        let then = if crate::planted::is("reply_before_sync") {
            self.on_kept(&key, then, true, now);
            Then::Rest
        } else {
            then
        };
        let pending = Pending::Keep {
            key,
            entry_version: entry.version,
            before,
            then,
        };
        self.store(StoreOp::Commit(writes), pending);
    }

    /// Reads the entry of a key.
    pub(super) fn read(&mut self, key: &Key, pending: Pending) {
        let key = entry_key(key);
        self.store(StoreOp::Read(Read::Get { key }), pending);
    }

    /// Keeps the views, and sends messages when they are durable.
    pub(super) fn save_views(&mut self, then: Vec<(NodeId, ViewMessage)>) {
        let write = Write {
            key: VIEWS_KEY.to_vec(),
            value: Some(wire::encode(&self.views.save())),
        };
        self.store(StoreOp::Commit([write].into()), Pending::Views(then));
    }

    pub(super) fn store(&mut self, op: StoreOp, pending: Pending) {
        let token = self.new_id();
        self.pending.insert(token, pending);
        self.actions.push_back(KvsAction::Store { token, op });
    }

    /// Takes back the views that were kept. Returns whether they make sense.
    pub(crate) fn load_views(&mut self, bytes: &[u8]) -> bool {
        let saved: Result<Vec<(u16, u16, SlotState)>, _> = wire::decode(bytes);
        saved.is_ok_and(|saved| {
            self.views.load(&saved);
            true
        })
    }

    /// Takes back an entry that was kept. Returns whether it makes sense.
    pub(crate) fn load_entry(&mut self, key: &[u8], value: &[u8], now: Now) -> bool {
        let key = key.get(ENTRY_KEY_HEAD..).map(Key::from_utf8);
        let (Some(Ok(key)), Ok(entry)) = (key, wire::decode::<Entry>(value)) else {
            return false;
        };
        self.clock.observe(entry.version, now.unix_ms);
        self.index.set(&key, Some(Meta::of(&key, &entry)));
        true
    }
}

/// The length of what precedes the key's text in storage.
const ENTRY_KEY_HEAD: usize = 3;

/// The range of all entries in storage.
pub(crate) fn entries_range() -> (Vec<u8>, Vec<u8>) {
    (b"r".to_vec(), b"s".to_vec())
}

/// `r`, the slot, then the key.
fn entry_key(key: &Key) -> Vec<u8> {
    let [high, low] = key.slot().number().to_be_bytes();
    let mut bytes = [b'r', high, low].to_vec();
    bytes.extend(key.as_str().bytes());
    bytes
}

pub(super) fn entry_write(key: &Key, entry: &Entry) -> Write {
    Write {
        key: entry_key(key),
        value: Some(wire::encode(entry)),
    }
}

fn decoded(result: Result<Stored, StoreError>) -> Result<Option<Entry>, StoreError> {
    match result? {
        Stored::Value(Some(bytes)) => wire::decode(&bytes)
            .map(Some)
            .map_err(|_| StoreError::Failed),
        Stored::Value(None) => Ok(None),
        Stored::Entries(_) | Stored::Done => Err(StoreError::Failed),
    }
}
