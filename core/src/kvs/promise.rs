//! The acceptor's side of linearizable writes: promises, one for a key.
//!
//! Every key is a register of its own (Rystsov, *CASPaxos*, 2018; the
//! acceptor of Lamport 2001). Who asks for a promise is told what is held, and
//! from then on nothing of a lower version is taken: neither a plain write nor
//! a copy from elsewhere. What takes the promised version's place ends the
//! promise. A promise is of one view, as a vote is: the next one begins with
//! none, and versions of a later view outrank all of an earlier one.

use alloc::vec::Vec;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::Kvs;
use super::entry::Entry;
use super::key::Key;
use super::message::{Message, Prepare, Vote, VoteError};
use super::storage::{Pending, promise_removal, promise_write};
use super::version::Version;
use crate::event::Lane;
use crate::flat::FlatMap;
use crate::id::NodeId;
use crate::store::StoreOp;
use crate::time::{Instant, Now};
use crate::wire;

/// Promises held at once; then no further one is made.
const PROMISE_COUNT_MAX: usize = 8192;
/// A promise that nothing followed for so long is ended by this voter itself:
/// who asked for it is gone, and copies wait for it.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(6);

/// The promises of a voter.
#[derive(Debug, Default)]
pub(super) struct Promises {
    by_key: FlatMap<Key, Promise>,
}

#[derive(Debug)]
struct Promise {
    terms: Terms,
    /// When to end it, if nothing does.
    end_at: Instant,
}

/// A promise as it is kept in storage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Terms {
    view: u64,
    ballot: Version,
    /// Who asked for it.
    proposer: NodeId,
    /// Whether another one may still count on an earlier promise.
    displaced: bool,
}

impl Promises {
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.by_key.values().map(|promise| promise.end_at).min()
    }

    /// The version below which nothing is taken for a key, in a view.
    fn ballot(&self, key: &Key, view: u64) -> Version {
        let promise = self.by_key.get(key);
        let promise = promise.filter(|promise| promise.terms.view == view);
        promise.map_or(Version::ZERO, |promise| promise.terms.ballot)
    }

    /// Something was taken for a key. Returns whether that ends a promise.
    pub(super) fn fulfil(&mut self, key: &Key, version: Version) -> bool {
        let promise = self.by_key.get(key);
        let ended = promise.is_some_and(|promise| promise.terms.ballot <= version);
        ended && self.by_key.remove(key).is_some()
    }

    /// Takes back a promise that was kept.
    pub(super) fn load(&mut self, key: Key, bytes: &[u8], now: Instant) -> bool {
        let Ok(terms) = wire::decode::<Terms>(bytes) else {
            return false;
        };
        let end_at = now + FORGOTTEN_AFTER;
        self.by_key.insert(key, Promise { terms, end_at });
        true
    }
}

impl Kvs {
    /// Whether a copy of this version may be taken: none below a promise.
    pub(super) fn admits(&self, key: &Key, version: Version) -> bool {
        let view = self.views.get(key.slot()).view.number;
        version >= self.promises.ballot(key, view)
    }

    /// The version below which this voter takes nothing for a key.
    pub(super) fn promised(&self, key: &Key) -> Version {
        let view = self.views.get(key.slot()).view.number;
        self.promises.ballot(key, view)
    }

    pub(super) fn on_prepare(&mut self, from: NodeId, asked: Prepare, now: Now) {
        let (id, view, key) = (asked.id, asked.view, &asked.key);
        if let Some(why) = self.objection(key, view) {
            return self.refuse(from, id, why);
        }
        let Some(ballot) = asked.ballot else {
            return self.tell(from, &asked);
        };
        if !self.clock.observe(ballot, now.unix_ms) {
            let unix_ms = now.unix_ms;
            return self.refuse(from, id, VoteError::Ahead { unix_ms });
        }
        if let Some(fence) = self.fence(key, ballot) {
            return self.refuse(from, id, VoteError::Newer(fence));
        }
        let newest = self.index.version(key).max(self.promised(key));
        #[cfg(planted_bugs)]
        let newest = if crate::planted::is("stale_ballot") {
            Version::ZERO
        } else {
            newest
        };
        if newest > ballot {
            return self.refuse(from, id, VoteError::Newer(newest));
        }
        let promises = &mut self.promises.by_key;
        let before = promises.get(key).filter(|one| one.terms.view == view);
        if before.is_none() && promises.len() >= PROMISE_COUNT_MAX {
            return self.refuse(from, id, VoteError::NotReady);
        }
        let before = before.map(|promise| &promise.terms);
        let terms = Terms {
            view,
            ballot,
            proposer: from,
            displaced: before.is_some_and(|terms| {
                terms.displaced || (terms.ballot, terms.proposer) != (ballot, from)
            }),
        };
        let write = promise_write(key, &terms);
        let end_at = now.mono + self.rng.jitter(FORGOTTEN_AFTER) + FORGOTTEN_AFTER / 2;
        promises.insert(key.clone(), Promise { terms, end_at });
        let pending = Pending::Promise { to: from, asked };
        self.store(StoreOp::Commit([write].into()), pending);
    }

    /// A promise is durable, or could not be kept.
    pub(super) fn on_promise_kept(&mut self, to: NodeId, asked: &Prepare, kept: bool) {
        let (id, key) = (asked.id, &asked.key);
        if !kept {
            // Of a promise nothing comes to light but that it was made.
            return self.refuse(to, id, VoteError::Full);
        }
        if let Some(why) = self.objection(key, asked.view) {
            return self.refuse(to, id, why);
        }
        let promised = self.promised(key);
        if Some(promised) > asked.ballot {
            return self.refuse(to, id, VoteError::Newer(promised));
        }
        self.tell(to, asked);
    }

    /// Tells what this voter holds of a key: the entry, too, where it is newer
    /// than what the asker has.
    fn tell(&mut self, to: NodeId, asked: &Prepare) {
        let (id, view) = (asked.id, asked.view);
        let version = self.index.version(&asked.key);
        if version > asked.have {
            return self.read(&asked.key, Pending::Told { to, id, view });
        }
        let newer = None;
        let vote = Vote::Promised {
            id,
            view,
            version,
            newer,
        };
        self.send(to, Lane::Kv, Message::Vote(vote));
    }

    /// Storage gave what is to be told.
    pub(super) fn on_told(&mut self, to: NodeId, (id, view): (u64, u64), entry: Option<Entry>) {
        let Some(entry) = entry else {
            return self.refuse(to, id, VoteError::NotReady);
        };
        let vote = Vote::Promised {
            id,
            view,
            version: entry.version,
            newer: Some(entry),
        };
        self.send(to, Lane::Kv, Message::Vote(vote));
    }

    /// Who asked for a promise will not make use of it.
    pub(super) fn on_release(&mut self, from: NodeId, key: &Key, ballot: Version) {
        let promises = &mut self.promises.by_key;
        let released = promises.get(key).is_some_and(|promise| {
            let terms = &promise.terms;
            (terms.ballot, terms.proposer) == (ballot, from) && !terms.displaced
        });
        if released && promises.remove(key).is_some() {
            self.store(
                StoreOp::Commit([promise_removal(key)].into()),
                Pending::Rest,
            );
        }
    }

    pub(super) fn on_promise_timeout(&mut self, now: Now) {
        let due = self.promises.by_key.iter_mut();
        let due = due.filter(|(_, promise)| promise.end_at <= now.mono);
        let due: Vec<(Key, u64)> = due
            .map(|(key, promise)| {
                promise.end_at = now.mono + FORGOTTEN_AFTER;
                (key.clone(), promise.terms.view)
            })
            .collect();
        for (key, view) in due {
            let is_old = self.views.get(key.slot()).view.number > view;
            if is_old || self.promises.fulfil(&key, self.index.version(&key)) {
                self.promises.by_key.remove(&key);
                self.store(
                    StoreOp::Commit([promise_removal(&key)].into()),
                    Pending::Rest,
                );
            } else if self.votes_in(key.slot(), view) {
                self.counters.add("promises_ended");
                self.complete(key, now);
            }
        }
    }
}
