//! The key-value store: copies on the voters of a key's slot, and on mirrors.
//!
//! A request goes to a **coordinator**: a voter of the key's slot that serves
//! it. A `quorum` write is acknowledged when a majority of the slot's
//! view holds it durably; a `quorum` read asks a majority. Who votes
//! is said by views alone, never by the ring. Values live in the driver's
//! storage; only versions are held here.
//!
//! ```text
//! caller -> client -> coordinator -> voters     (write: commit, then vote)
//!                          \-------> mirrors    (further copies, no vote)
//! change: a new voter learns, the next view is chosen, the last is fetched
//! pull:   one node brings itself up to another, by fingerprints of slots
//! plan:   who should vote; handover: who holds what it need not
//! list, watch: what a majority holds of a bucket, and what becomes of it
//! register: linearizable calls; expiry: records that live for a while
//! horizon: up to which time tombstones were collected
//! ```

mod branch;
mod change;
mod client;
mod coordinator;
mod entry;
mod evict;
mod expiry;
#[cfg(test)]
mod fixture;
mod handover;
mod horizon;
mod key;
mod lesson;
mod list;
mod message;
mod mirror;
mod mirrors;
mod narrow;
mod pair;
mod peers;
mod plan;
mod promise;
mod pull;
mod pulling;
mod register;
mod request;
mod retire;
mod slots;
mod source;
mod storage;
#[cfg(test)]
mod three;
mod version;
mod view;
mod voter;
mod waits;
mod watch;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use self::change::Changes;
use self::client::Clients;
use self::coordinator::Coordinations;
use self::entry::Index;
use self::evict::Evictions;
use self::expiry::Sweeper;
pub use self::expiry::{TTL_SECONDS_MAX, Ttl, TtlError};
use self::handover::HandOvers;
use self::horizon::Horizons;
pub use self::key::{KEY_LEN_MAX, Key, KeyError, SLOT_COUNT, Slot, VALUE_LEN_MAX};
pub use self::list::{List, ListError, PAGE_BYTES_MAX, PAGE_KEY_COUNT_MAX, Page};
pub(crate) use self::message::Message;
use self::message::Op;
use self::mirror::CopyCounts;
use self::mirrors::{Mirrors, Pages};
pub(crate) use self::peers::Living;
use self::peers::Peers;
use self::promise::Promises;
use self::pulling::Pulls;
use self::register::Registers;
pub use self::request::{Condition, Copies, Mode, Reply, RequestError, RequestId, Terms};
use self::retire::Retirements;
use self::source::Fetches;
use self::storage::Pending;
pub(crate) use self::storage::{HORIZONS_KEY, VIEWS_KEY, entries_range};
use self::version::Clock;
pub use self::version::{CLOCK_AHEAD_MS_MAX, ParseVersionError, Version};
use self::view::Views;
use self::watch::Feed;
pub use self::watch::{Change, News, ParseTokenError, TOKEN_LEN_MAX, Token, Watch, WatchError};
use crate::counter::Counters;
use crate::event::Lane;
use crate::flat::{FlatMap, FlatSet};
use crate::id::NodeId;
use crate::rng::Rng;
use crate::status::{Class, Location, StoreState, StoreStatus};
use crate::store::StoreOp;
use crate::time::{Instant, Now};

/// What the store asks of the node, or tells it.
#[derive(Debug)]
pub(crate) enum KvsAction {
    /// Send a message.
    Send {
        to: NodeId,
        lane: Lane,
        message: Message,
    },
    /// Read or commit.
    Store { token: u64, op: StoreOp },
    /// A member does not answer: does it live?
    Doubt { peer: NodeId },
    /// A request of this node's own callers has ended.
    Reply { request: RequestId, reply: Reply },
}

/// One node's part of the store.
#[derive(Debug)]
pub(crate) struct Kvs {
    own: NodeId,
    class: Class,
    clock: Clock,
    index: Index,
    views: Views,
    peers: Peers,
    /// The pages that keep further copies of each slot.
    mirrors: Mirrors,
    copy_counts: CopyCounts,
    clients: Clients,
    coordinations: Coordinations,
    feed: Feed,
    registers: Registers,
    promises: Promises,
    changes: Changes,
    pulls: Pulls,
    fetches: Fetches,
    hand_overs: HandOvers,
    evictions: Evictions,
    retirements: Retirements,
    horizons: Horizons,
    sweeper: Sweeper,
    pending: FlatMap<u64, Box<Pending>>,
    /// Ids of store orders and of messages: never used twice by one epoch.
    next_id: u64,
    rng: Rng,
    /// Messages to this node itself.
    inbox: VecDeque<Message>,
    pub(crate) actions: VecDeque<KvsAction>,
    pub(crate) counters: Counters,
}

impl Kvs {
    pub(crate) fn new(own: NodeId, class: Class, grace: Duration, mut rng: Rng) -> Self {
        // From the upper half, so that ids of two starts rarely meet.
        let next_id = rng.next_u64() >> 1;
        let mut clock = Clock::new(&own);
        clock.vary(rng.next_u64());
        Self {
            own,
            class,
            clock,
            index: Index::default(),
            views: Views::new(own),
            peers: Peers::default(),
            mirrors: Mirrors::default(),
            copy_counts: CopyCounts::default(),
            clients: Clients::default(),
            coordinations: Coordinations::default(),
            feed: Feed::new(next_id),
            registers: Registers::default(),
            promises: Promises::default(),
            changes: Changes::default(),
            pulls: Pulls::default(),
            fetches: Fetches::default(),
            hand_overs: HandOvers::default(),
            evictions: Evictions::default(),
            retirements: Retirements::default(),
            horizons: Horizons::new(grace),
            sweeper: Sweeper::default(),
            pending: FlatMap::new(),
            next_id,
            rng,
            inbox: VecDeque::new(),
            actions: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Makes the first view of all slots: this node alone.
    pub(crate) fn genesis(&mut self) {
        self.views.genesis();
        self.save_views(Vec::new());
    }

    /// A read by this node's own callers.
    pub(crate) fn get(&mut self, request: RequestId, key: Key, mode: Mode, now: Now) {
        self.start_request(request, Op::Get { key, mode }, now);
        self.settle(now);
    }

    /// A list by this node's own callers.
    pub(crate) fn list(&mut self, request: RequestId, list: List, now: Now) {
        self.start_request(request, Op::List(list), now);
        self.settle(now);
    }

    /// A piece of a watch by this node's own callers.
    pub(crate) fn watch(&mut self, request: RequestId, watch: Watch, now: Now) {
        self.start_request(request, Op::Watch(watch), now);
        self.settle(now);
    }

    /// A write by this node's own callers; without a value: delete.
    pub(crate) fn put(
        &mut self,
        request: RequestId,
        key: Key,
        value: Option<Vec<u8>>,
        terms: Terms,
        now: Now,
    ) {
        let version = self.clock.tick(now.unix_ms);
        let op = Op::Put {
            key,
            value,
            mode: terms.effective_mode(),
            version,
            ttl: terms.ttl,
            condition: terms.condition,
        };
        self.start_request(request, op, now);
        self.settle(now);
    }

    /// Which members live; those not named do not.
    pub(crate) fn set_members(&mut self, alive: FlatMap<NodeId, Living>, now: Now) {
        let news = self.peers.set(alive, now.mono);
        for peer in &news.gone {
            self.pulls.on_gone(peer);
            self.copy_counts.on_gone(peer);
            self.retirements.on_gone(peer);
            self.changes.passed_over.on_gone(peer);
            self.horizons.forget(|known| known == peer);
            self.requeue_requests(peer, now);
        }
        if !news.is_empty() {
            self.on_voters_gone();
            self.evictions.on_alive(|id| self.peers.is_alive(id));
            self.stop_change(&news.gone, now);
            self.mirrors = self.peers.mirrors((self.own, self.class));
            self.owe_all(now);
            self.changes.review_at = Some(now.mono);
            self.hand_overs.review(now.mono);
            self.horizons.review(now.mono);
            self.confirm_views();
            self.schedule_pulls(now.mono);
        }
        self.settle(now);
    }

    /// This node did nothing for a while, in which the other voter of a view of two
    /// may have gone on alone.
    pub(crate) fn on_thaw(&mut self, now: Now) {
        self.peers.forget_agreed();
        self.pulls.forget_all();
        self.schedule_pulls(now.mono);
        self.settle(now);
    }

    /// Takes note of how long a peer may take to answer.
    pub(crate) fn set_timeout(&mut self, peer: &NodeId, timeout: Duration) {
        self.peers.set_timeout(peer, timeout);
    }

    pub(crate) fn on_message(&mut self, from: NodeId, message: Message, now: Now) {
        self.dispatch(from, message, now);
        self.settle(now);
    }

    pub(crate) fn on_timeout(&mut self, now: Now) {
        self.on_client_timeout(now);
        self.on_coordinator_timeout(now);
        self.on_register_timeout(now);
        self.on_promise_timeout(now);
        self.on_change_timeout(now);
        self.on_pull_timeout(now);
        self.on_mirror_timeout(now);
        self.on_hand_over_timeout(now);
        self.on_evict_timeout(now);
        self.on_retire_timeout(now);
        self.on_horizon_timeout(now);
        self.on_sweep_timeout(now);
        self.on_watch_timeout(now);
        self.settle(now);
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        [
            self.clients.poll_timeout(),
            self.coordinations.poll_timeout(),
            self.registers.poll_timeout(),
            self.promises.poll_timeout(),
            self.changes.poll_timeout(),
            self.pulls.poll_timeout(),
            self.copy_counts.poll_timeout(),
            self.hand_overs.poll_timeout(),
            self.evictions.poll_timeout(),
            self.retirements.poll_timeout(),
            self.horizons.poll_timeout(),
            self.sweeper.poll_timeout(),
            self.feed.poll_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// A neighbour knows other views than this node.
    pub(crate) fn on_differs(&mut self, peer: NodeId) {
        self.exchange_views(peer);
    }

    /// The digest of views that neighbours compare.
    pub(crate) fn views_digest(&self) -> u64 {
        self.views.digest()
    }

    /// The others with whom this node votes on anything.
    pub(crate) fn co_voters(&self) -> FlatSet<NodeId> {
        self.views.co_voters()
    }

    /// Whether this node knows who votes on what, serves wherever it votes
    /// itself, and holds what its live fellow voters hold.
    pub(crate) fn is_ready(&self) -> bool {
        let co_voters = self.views.co_voters();
        self.views.is_known_all()
            && self.views.is_serving_all()
            && co_voters
                .iter()
                .all(|peer| !self.peers.is_alive(peer) || self.pulls.has_pulled(peer))
    }

    pub(crate) fn status(&self) -> StoreStatus {
        StoreStatus {
            records: self.index.count(),
            bytes: self.index.bytes(),
            under_replicated: self.under_replicated(),
            degraded: self.degraded(),
            state: StoreState::default(),
        }
    }

    /// Where a key lives, as far as this node knows.
    pub(crate) fn locate(&self, key: &Key) -> Location {
        let slot = key.slot();
        let view = &self.views.get(slot).view;
        Location {
            slot: slot.number(),
            view: view.number,
            voters: view.voters.clone(),
            mirrors: self.mirrors(slot).iter().collect(),
        }
    }

    /// The pages among the first three members clockwise of a slot's start.
    fn mirrors(&self, slot: Slot) -> Pages {
        self.mirrors.of(slot)
    }

    /// Records, in slots where this node votes, that are not on min(3,
    /// durable members) live, filled voters, and writes that one of those has
    /// not taken in time.
    fn under_replicated(&self) -> u64 {
        let durable = self.peers.durable_count() + usize::from(self.class == Class::Durable);
        let wanted = durable.min(view::VOTER_COUNT_MAX);
        let held = self.index.held().filter(|slot| {
            let state = self.views.get(*slot);
            let others = state.view.voters.iter();
            let others = others
                .filter(|voter| self.peers.has_caught_up(voter))
                .count();
            self.views.votes(state) && others + usize::from(self.views.serves(state)) < wanted
        });
        let records: u64 = held.map(|slot| self.index.slot_count(slot)).sum();
        records + self.coordinations.overdue().count() as u64
    }

    // ---- details ----

    fn dispatch(&mut self, from: NodeId, message: Message, now: Now) {
        match message {
            Message::Ask { id, op } => self.on_ask(from, id, op, now),
            Message::Answer { id, outcome } => self.on_answer(from, id, outcome, now),
            Message::Vote(vote) => self.on_vote(from, vote, now),
            Message::View(message) => self.on_view(from, message, now),
            Message::Pull(pull) => self.on_pull(from, pull, now),
            Message::Mirror(message) => self.on_mirror(from, message, now),
            Message::HandOver(message) => self.on_hand_over(from, message, now),
            Message::Horizon(message) => self.on_horizon(from, message, now),
        }
    }

    /// Carries out what this node has to say to itself.
    fn settle(&mut self, now: Now) {
        self.clock.follow(now);
        while let Some(message) = self.inbox.pop_front() {
            self.dispatch(self.own, message, now);
        }
    }

    fn send(&mut self, to: NodeId, lane: Lane, message: Message) {
        if to == self.own {
            self.inbox.push_back(message);
        } else {
            self.actions
                .push_back(KvsAction::Send { to, lane, message });
        }
    }

    /// Has it found out whether a member lives that should have answered.
    fn doubt(&mut self, peer: NodeId) {
        self.actions.push_back(KvsAction::Doubt { peer });
    }

    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}
