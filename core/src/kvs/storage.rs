//! Orders to storage, and what happens when they are carried out.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::coordinator::CoordinationId;
use super::entry::{Entry, Meta};
use super::horizon::HorizonMessage;
use super::key::{Key, Slot};
use super::message::{Message, Prepare, ViewMessage, Vote, VoteError};
use super::promise::Terms;
use super::version::Version;
use super::view::SlotState;
use super::{Kvs, KvsAction};
use crate::event::Lane;
use crate::id::NodeId;
use crate::store::{Read, StoreError, StoreOp, Stored, Write};
use crate::time::Now;
use crate::wire;

/// Where the views are kept.
pub(crate) const VIEWS_KEY: &[u8] = b"m/views";
/// Where the horizons are kept.
pub(crate) const HORIZONS_KEY: &[u8] = b"m/horizons";

/// What an order to storage was for.
#[derive(Debug)]
pub(super) enum Pending {
    /// An entry that a voter or mirror keeps.
    Keep { placed: Placed, then: Then },
    /// An entry that was kept before, or is being kept: durable when this order
    /// is done, unless an earlier one was refused.
    Await {
        key: Key,
        version: Version,
        /// Why the order that was to keep it was refused.
        refused: Option<StoreError>,
        then: Then,
    },
    /// A batch of entries that were pulled.
    Pulled { pull: u64, placed: Vec<Placed> },
    /// All that was ordered before a pull ended.
    PullEnd { pull: u64 },
    /// Entries that were handed over.
    Dropped,
    /// Nothing that anybody waits for.
    Rest,
    /// A promise, and who is to be told what.
    Promise { to: NodeId, asked: Prepare },
    /// An entry that a proposer is told.
    Told { to: NodeId, id: u64, view: u64 },
    /// Views; these messages may be sent now.
    Views(Vec<(NodeId, ViewMessage)>),
    /// Horizons; this may be said now.
    Horizon(NodeId, HorizonMessage),
    /// A value that a coordinator reads.
    OwnRead { coordination: CoordinationId },
    /// A value that a voter was asked for.
    VoteRead { to: NodeId, id: u64, view: u64 },
    /// A value that a puller fetches.
    Fetched { fetch: u64, key: Key },
}

/// An entry that the index names, although storage may still refuse it.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) key: Key,
    pub(super) version: Version,
    /// What the index said before.
    pub(super) before: Option<Meta>,
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

impl Pending {
    /// The entries that storage may still refuse.
    pub(super) fn placed(&self) -> &[Placed] {
        match self {
            Self::Keep { placed, .. } => core::slice::from_ref(placed),
            Self::Pulled { placed, .. } => placed,
            _ => &[],
        }
    }
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
        match *pending {
            Pending::Keep { placed, then } => {
                let key = placed.key.clone();
                match result {
                    Ok(_) => self.note_change(&key, placed.version, now),
                    Err(error) => self.take_back(placed, error, now),
                }
                self.on_kept(&key, then, result.map(drop), now);
            }
            Pending::Await {
                key, refused, then, ..
            } => {
                // Without that this order failed says nothing of the entry.
                let kept = result.map(drop).map_err(|_| StoreError::Failed);
                self.on_kept(&key, then, refused.map_or(kept, Err), now);
            }
            Pending::Pulled { pull, placed } => {
                for placed in placed {
                    match result {
                        Ok(_) => self.note_change(&placed.key, placed.version, now),
                        Err(error) => self.take_back(placed, error, now),
                    }
                }
                self.on_pulled_kept(pull, result.is_ok(), now);
            }
            Pending::PullEnd { pull } => self.end_pull(pull, result.is_ok(), now),
            Pending::Dropped => self.on_dropped(),
            Pending::Rest => {}
            Pending::Promise { to, asked } => self.on_promise_kept(to, &asked, result.is_ok()),
            Pending::Told { to, id, view } => {
                self.on_told(to, (id, view), named(result).ok());
            }
            Pending::Views(messages) => {
                for (to, message) in messages.into_iter().filter(|_| result.is_ok()) {
                    self.send(to, Lane::Control, Message::View(message));
                }
            }
            Pending::Horizon(to, message) => {
                if result.is_ok() {
                    self.send(to, Lane::Repair, Message::Horizon(message));
                }
            }
            Pending::OwnRead { coordination } => {
                self.on_own_read(coordination, named(result).map(Some), now);
            }
            Pending::VoteRead { to, id, view } => match named(result) {
                Ok(entry) => {
                    let newer = Some(entry);
                    let vote = Vote::ReadDone { id, view, newer };
                    self.send(to, Lane::Kv, Message::Vote(vote));
                }
                // Silence would pass for "nothing newer".
                Err(_) => self.refuse(to, id, VoteError::NotReady),
            },
            Pending::Fetched { fetch, key } => self.on_fetched(fetch, key, decoded(result)),
        }
        self.settle(now);
    }

    fn on_kept(&mut self, key: &Key, then: Then, kept: Result<(), StoreError>, now: Now) {
        match then {
            Then::Rest => {}
            Then::OwnVote(coordination) => self.on_own_vote(coordination, kept, now),
            Then::Vote { to, id, view } => {
                let vote = if let Err(error) = kept {
                    let why = error.into();
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

    /// Keeps an entry, and does `then` when it is durable. One that is held
    /// already is not written again; but it is surely durable only when all
    /// orders so far are done.
    pub(super) fn keep(&mut self, key: Key, entry: &Entry, then: Then, now: Now) {
        let version = entry.version;
        if self.index.version(&key) == version {
            let pending = Pending::Await {
                key,
                version,
                refused: None,
                then,
            };
            return self.store(StoreOp::Commit(Vec::new()), pending);
        }
        let before = self.index.set(&key, Some(Meta::of(&key, entry)));
        self.note_due(entry, now);
        let mut writes: Vec<Write> = [entry_write(&key, entry)].into();
        if self.promises.fulfil(&key, version) {
            writes.push(promise_removal(&key));
        }
        self.review_slot(key.slot(), now.mono);
        self.copy_to_mirrors(&key, entry, now);
        #[cfg(planted_bugs)]
        let then = if crate::planted::is("reply_before_sync") {
            self.on_kept(&key, then, Ok(()), now);
            Then::Rest
        } else {
            then
        };
        let placed = Placed {
            key,
            version,
            before,
        };
        self.store(StoreOp::Commit(writes), Pending::Keep { placed, then });
    }

    /// An entry came that will expire, or a tombstone that will have to go.
    pub(super) fn note_due(&mut self, entry: &Entry, now: Now) {
        self.note_expiry(entry.expires, now);
        if entry.value.is_none() {
            self.note_tombstone(now.mono);
        }
    }

    /// Storage refused an entry: the index says again what it said before. So
    /// do the orders that were given since on the strength of it.
    fn take_back(&mut self, refused: Placed, error: StoreError, now: Now) {
        let Placed {
            key,
            version,
            before,
        } = refused;
        if self.index.version(&key) == version {
            self.index.set(&key, before);
        }
        let correct = |later: &mut Placed| {
            if later.key == key && later.before.is_some_and(|meta| meta.version == version) {
                later.before = before;
            }
        };
        for pending in self.pending.values_mut() {
            match &mut **pending {
                Pending::Keep { placed, .. } => correct(placed),
                Pending::Pulled { placed, .. } => placed.iter_mut().for_each(correct),
                Pending::Await {
                    key: awaited,
                    version: its,
                    refused,
                    ..
                } if (&*awaited, *its) == (&key, version) => *refused = Some(error),
                _ => {}
            }
        }
        // What is there again may itself be on its way.
        let on_its_way = |pending: &Pending| match pending {
            Pending::Keep { placed, .. } => {
                placed.key == key && before.is_some_and(|meta| meta.version == placed.version)
            }
            _ => false,
        };
        if let Some(before) = before
            && !self.pending.values().any(|pending| on_its_way(pending))
        {
            self.note_change(&key, before.version, now);
        }
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
        self.pending.insert(token, Box::new(pending));
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

    /// Takes back an entry or a promise that was kept. Returns whether it makes sense.
    pub(crate) fn load_entry(&mut self, key: &[u8], value: &[u8], now: Now) -> bool {
        let head = key.first().copied();
        let Some(Ok(key)) = key.get(ENTRY_KEY_HEAD..).map(Key::from_utf8) else {
            return false;
        };
        if head == Some(PROMISE_HEAD) {
            return self.promises.load(key, value, now.mono);
        }
        let Ok(entry) = wire::decode::<Entry>(value) else {
            return false;
        };
        self.clock.observe(entry.version, now.unix_ms);
        self.note_due(&entry, now);
        self.index.set(&key, Some(Meta::of(&key, &entry)));
        true
    }
}

/// The length of what precedes the key's text in storage.
const ENTRY_KEY_HEAD: usize = 3;

/// How a promise's key in storage begins.
const PROMISE_HEAD: u8 = b'q';

/// The range of all promises and entries in storage.
pub(crate) fn entries_range() -> (Vec<u8>, Vec<u8>) {
    (b"q".to_vec(), b"s".to_vec())
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

/// `q`, the slot, then the key.
fn promise_key(key: &Key) -> Vec<u8> {
    let mut bytes = entry_key(key);
    if let Some(first) = bytes.first_mut() {
        *first = PROMISE_HEAD;
    }
    bytes
}

pub(super) fn promise_write(key: &Key, terms: &Terms) -> Write {
    Write {
        key: promise_key(key),
        value: Some(wire::encode(terms)),
    }
}

pub(super) fn promise_removal(key: &Key) -> Write {
    Write {
        key: promise_key(key),
        value: None,
    }
}

pub(super) fn entry_removal(key: &Key) -> Write {
    Write {
        key: entry_key(key),
        value: None,
    }
}

impl From<StoreError> for VoteError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full => Self::Full,
            StoreError::Failed => Self::Failed,
        }
    }
}

/// An entry that the index named: without one, storage failed.
fn named(result: Result<Stored, StoreError>) -> Result<Entry, StoreError> {
    decoded(result)?.ok_or(StoreError::Failed)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TOMBSTONE_GRACE;
    use crate::kvs::version::Clock;
    use crate::rng::Rng;
    use crate::status::Class;
    use crate::time::Instant;

    const NOW: Now = Now {
        mono: Instant::from_micros(0),
        unix_ms: 1_763_856_000_000,
    };

    struct Keeper {
        kvs: Kvs,
        clock: Clock,
        key: Key,
    }

    impl Keeper {
        fn new() -> Self {
            let own = NodeId::from_bytes([1; 32]);
            Self {
                kvs: Kvs::new(
                    own,
                    Class::Durable,
                    TOMBSTONE_GRACE,
                    Rng::from_seed([5; 32]),
                ),
                clock: Clock::new(&own),
                key: Key::new("b/k").unwrap(),
            }
        }

        fn newer(&mut self) -> Entry {
            let version = self.clock.tick(NOW.unix_ms);
            let value = Some(alloc::vec![0; 10]);
            let expires = None;
            Entry {
                version,
                value,
                expires,
            }
        }

        /// Keeps an entry; returns the order's token and how much it writes.
        fn keep(&mut self, entry: &Entry) -> (u64, usize) {
            let then = Then::Vote {
                to: NodeId::from_bytes([2; 32]),
                id: 7,
                view: 1,
            };
            self.kvs.keep(self.key.clone(), entry, then, NOW);
            match self.kvs.actions.pop_back() {
                Some(KvsAction::Store {
                    token,
                    op: StoreOp::Commit(writes),
                }) => (token, writes.len()),
                other => panic!("{other:?}"),
            }
        }

        /// Answers an order; returns whether the vote says that storage refused it.
        fn answer(&mut self, token: u64, result: Result<Stored, StoreError>) -> bool {
            matches!(
                self.vote(token, result),
                VoteError::Full | VoteError::Failed
            )
        }

        /// Answers an order; returns why the vote is refused.
        fn vote(&mut self, token: u64, result: Result<Stored, StoreError>) -> VoteError {
            self.kvs.on_stored(token, result, NOW);
            match self.kvs.actions.pop_back() {
                Some(KvsAction::Send {
                    message: Message::Vote(Vote::Refused { why, .. }),
                    ..
                }) => why,
                other => panic!("{other:?}"),
            }
        }

        fn version(&self) -> Version {
            self.kvs.index.version(&self.key)
        }
    }

    #[test]
    fn an_entry_that_is_held_is_not_written_again() {
        let mut keeper = Keeper::new();
        let entry = keeper.newer();
        assert_eq!(keeper.keep(&entry).1, 1);
        assert_eq!(keeper.keep(&entry).1, 0);
    }

    #[test]
    fn what_was_asked_again_is_refused_with_what_was_refused() {
        let mut keeper = Keeper::new();
        let entry = keeper.newer();
        let (first, _) = keeper.keep(&entry);
        let (again, _) = keeper.keep(&entry);
        assert!(keeper.answer(first, Err(StoreError::Full)));
        assert_eq!(keeper.version(), Version::ZERO);
        assert!(keeper.answer(again, Ok(Stored::Done)));
    }

    #[test]
    fn only_a_full_disk_says_that_nothing_was_kept() {
        for (first, again, expected) in [
            (Err(StoreError::Full), Ok(Stored::Done), VoteError::Full),
            (Err(StoreError::Failed), Ok(Stored::Done), VoteError::Failed),
            (
                Err(StoreError::Failed),
                Err(StoreError::Full),
                VoteError::Failed,
            ),
            (Ok(Stored::Done), Err(StoreError::Full), VoteError::Failed),
        ] {
            let mut keeper = Keeper::new();
            let entry = keeper.newer();
            let tokens = [keeper.keep(&entry).0, keeper.keep(&entry).0];
            keeper.vote(tokens[0], first);
            assert_eq!(keeper.vote(tokens[1], again), expected);
        }
    }

    #[test]
    fn two_refused_entries_leave_what_was_there() {
        let mut keeper = Keeper::new();
        let (old, middle, new) = (keeper.newer(), keeper.newer(), keeper.newer());
        let (token, _) = keeper.keep(&old);
        // This node votes in no view: the vote is refused, but not as full.
        assert!(!keeper.answer(token, Ok(Stored::Done)));
        let (first, _) = keeper.keep(&middle);
        let (second, _) = keeper.keep(&new);
        assert!(keeper.answer(first, Err(StoreError::Failed)));
        assert_eq!(keeper.version(), new.version);
        assert!(keeper.answer(second, Err(StoreError::Failed)));
        assert_eq!(keeper.version(), old.version);
    }
}
