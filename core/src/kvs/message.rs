//! What members say to one another about keys.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::id::NodeId;
use crate::kvs::branch::Branch;
use crate::kvs::entry::Entry;
use crate::kvs::expiry::{Expiry, Ttl};
use crate::kvs::handover::HandOver;
use crate::kvs::horizon::{Collected, HorizonMessage};
use crate::kvs::key::Key;
use crate::kvs::list::{List, ListVote, Page};
use crate::kvs::mirror::MirrorMessage;
use crate::kvs::pull::Weed;
use crate::kvs::request::{Condition, Copies, Mode, RequestError};
use crate::kvs::slots::SlotSet;
use crate::kvs::version::Version;
use crate::kvs::view::{Ballot, SlotView, View};
use crate::kvs::watch::{News, Watch};

/// A message of the store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Message {
    /// A request for whoever coordinates the key. Sent again with the same id
    /// when no answer comes; a write is carried out once.
    Ask { id: u64, op: Op },
    /// How it ended.
    Answer { id: u64, outcome: Outcome },
    /// Between the coordinator and the voters of a slot.
    Vote(Vote),
    /// About views.
    View(ViewMessage),
    /// One node brings its entries up to those of another.
    Pull(Pull),
    /// One who writes keeps a mirror level.
    Mirror(MirrorMessage),
    /// One who has no part in a slot any more gives its entries away.
    HandOver(HandOver),
    /// Up to which time tombstones are collected.
    Horizon(HorizonMessage),
}

impl Message {
    /// The name under which it is counted when it is sent.
    pub(crate) const fn counter(&self) -> &'static str {
        match self {
            Self::Ask { .. } => "sent_kv_ask",
            Self::Answer { .. } => "sent_kv_answer",
            Self::Vote(_) => "sent_kv_vote",
            Self::View(_) => "sent_kv_view",
            Self::Pull(_) => "sent_kv_pull",
            Self::Mirror(_) => "sent_kv_mirror",
            Self::HandOver(_) => "sent_kv_hand_over",
            Self::Horizon(_) => "sent_kv_horizon",
        }
    }
}

/// What a caller wants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Op {
    Get {
        key: Key,
        mode: Mode,
    },
    /// Without a value: delete. The caller's node chooses the version, so that
    /// a write that is tried twice, even by two coordinators, is one write.
    Put {
        key: Key,
        value: Option<Vec<u8>>,
        mode: Mode,
        version: Version,
        /// For how long after its version the value lives; without it, for ever.
        ttl: Option<Ttl>,
        /// In mode `linearizable` alone.
        condition: Option<Condition>,
    },
    /// A page of a bucket.
    List(List),
    /// A piece of a watch, held until there is one.
    Watch(Watch),
}

impl Op {
    /// The key, which names the slot; of a list it is the bucket's own.
    pub(crate) const fn key(&self) -> &Key {
        match self {
            Self::Get { key, .. } | Self::Put { key, .. } => key,
            Self::List(list) => list.key(),
            Self::Watch(watch) => watch.list.key(),
        }
    }

    pub(crate) const fn mode(&self) -> Mode {
        match self {
            Self::Get { mode, .. } | Self::Put { mode, .. } => *mode,
            Self::List(list) => list.mode(),
            Self::Watch(_) => Mode::Quorum,
        }
    }

    /// The entry that a write is to leave.
    pub(crate) fn entry(&self) -> Option<Entry> {
        let Self::Put {
            value,
            version,
            ttl,
            ..
        } = self
        else {
            return None;
        };
        let ttl = ttl.filter(|_| value.is_some());
        Some(Entry {
            version: *version,
            value: value.clone(),
            expires: ttl.map(|ttl| Expiry::after(*version, ttl)),
        })
    }

    pub(crate) const fn is_write(&self) -> bool {
        matches!(self, Self::Put { .. })
    }
}

/// How a request ended at its coordinator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    Found {
        value: Vec<u8>,
        version: Version,
    },
    Missing,
    Listed(Page),
    Watched(News),
    Written {
        version: Version,
        copies: Copies,
    },
    Failed(RequestError),
    /// A newer version is there already: raise the clock, and try again.
    Newer(Version),
    /// Not applied: the version is too far ahead of this wall clock.
    Ahead {
        unix_ms: u64,
    },
    /// Not applied: this node does not serve the slot; here is its view.
    Moved(SlotView),
    /// This node will serve the slot, but does not now: ask again, or another.
    NotReady {
        /// Whether a write was begun, and may come to light after all.
        perhaps: bool,
    },
}

impl Outcome {
    /// Whether a read was answered.
    pub(crate) const fn is_read(&self) -> bool {
        matches!(
            self,
            Self::Found { .. } | Self::Missing | Self::Listed(_) | Self::Watched(_)
        )
    }
}

/// Between the coordinator and the voters of a slot. Every vote names its
/// view, and is refused in another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Vote {
    /// Keep this, and say so when it is durable.
    Write {
        id: u64,
        view: u64,
        key: Key,
        entry: Entry,
    },
    /// It is durable, in this view.
    Wrote { id: u64, view: u64 },
    /// Is there anything newer than this version?
    Read {
        id: u64,
        view: u64,
        key: Key,
        have: Version,
    },
    /// The answer: the newer entry, if there is one.
    ReadDone {
        id: u64,
        view: u64,
        newer: Option<Entry>,
    },
    /// What is held of a bucket?
    List(ListVote),
    /// What is held of a key? With a ballot: take nothing below it from now on.
    Prepare(Prepare),
    /// The version that is held, and the entry if it is newer than what the
    /// asker has.
    Promised {
        id: u64,
        view: u64,
        version: Version,
        newer: Option<Entry>,
    },
    /// Nothing will follow with this ballot.
    Release { key: Key, ballot: Version },
    /// No vote.
    Refused { id: u64, why: VoteError },
}

/// What a voter is asked before a linearizable read or write.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Prepare {
    pub(crate) id: u64,
    pub(crate) view: u64,
    pub(crate) key: Key,
    /// Without one, only what is held is to be told.
    pub(crate) ballot: Option<Version>,
    /// What the asker holds itself.
    pub(crate) have: Version,
}

/// Why a voter does not vote.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum VoteError {
    /// It knows another view.
    View(SlotView),
    /// It holds a newer version, or, asked for a promise, has made a newer one.
    Newer(Version),
    /// It has promised to take nothing below this; that may come to nothing.
    Promised(Version),
    /// It is sealed, not filled, or not sure yet that its view is the last.
    NotReady,
    /// The version is too far ahead of its wall clock, or the record has surely
    /// not expired by it.
    Ahead { unix_ms: u64 },
    /// Its storage is full: nothing was kept.
    Full,
    /// Its storage failed: it may be kept all the same.
    Failed,
}

/// About views: learning, one Paxos instance for each next view, and news.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum ViewMessage {
    /// Fill yourself from the sender: you are to become a voter.
    Learn { change: u64, slots: SlotSet },
    /// Done, but for what is written meanwhile.
    Learned { change: u64 },
    /// Paxos phase 1a, for the successor of view `number`.
    Prepare(Proposal),
    /// Phase 1b.
    Promise {
        change: u64,
        ballot: Ballot,
        accepted: Vec<(SlotSet, Ballot, View)>,
    },
    /// Phase 2a. Who accepts serves view `number` no more.
    Accept { proposal: Proposal, next: View },
    /// Phase 2b.
    Accepted { change: u64, ballot: Ballot },
    /// A higher ballot or another view is known.
    Rejected { change: u64, promised: Ballot },
    /// All views known to the sender; to be answered with the receiver's own.
    Known { views: Vec<SlotView>, answer: bool },
    /// Views that were just chosen.
    Chosen { views: Vec<SlotView> },
    /// The sender will leave, and passes its places on.
    Retire,
    /// A voter is given up for lost, by an operator.
    Evict { id: NodeId },
}

/// One ballot of one instance, for many slots at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Proposal {
    pub(crate) change: u64,
    pub(crate) slots: SlotSet,
    pub(crate) number: u64,
    pub(crate) ballot: Ballot,
}

/// A step of a pull that narrows down where two members differ.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Split {
    /// The puller's sums of all parts of these branches.
    Sums {
        id: u64,
        question: u32,
        branches: Vec<Branch>,
        sums: Vec<u64>,
    },
    /// The parts in which the source has something else.
    Differ {
        id: u64,
        question: u32,
        parts: Vec<Branch>,
    },
}

/// The steps of a pull; the puller drives, and has one question open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Pull {
    /// Fingerprints of the puller's non-empty slots among `slots`.
    /// With a view's number, a question about sealing, else zero.
    Compare {
        id: u64,
        slots: SlotSet,
        view: u64,
        sums: Vec<(u16, u64)>,
    },
    /// The slots whose fingerprints differ, how many entries the source has in
    /// each, whether it votes in no view before the one asked about, and what it
    /// has collected.
    Differ {
        id: u64,
        slots: Vec<(u16, u32)>,
        sealed: bool,
        collected: Vec<Collected>,
    },
    /// Where in these branches is a difference?
    Split(Split),
    /// What is in these branches, in the first of them after a key? Questions are
    /// numbered: an answer may come twice.
    List {
        id: u64,
        question: u32,
        branches: Vec<Branch>,
        after: Option<Key>,
    },
    /// The next keys with their versions, and how many of the branches are listed
    /// to their end.
    Listing {
        id: u64,
        question: u32,
        entries: Vec<(Key, Version)>,
        done: u16,
    },
    /// Send these.
    Fetch {
        id: u64,
        question: u32,
        keys: Vec<Key>,
    },
    /// The first of them, as many as fit.
    Entries {
        id: u64,
        question: u32,
        entries: Vec<(Key, Entry)>,
    },
    /// Do both hold the same, behind the source's horizon?
    Weed(Weed),
    /// The puller now holds all that the source held.
    Caught { slots: SlotSet },
    /// The receiver lacks something that the sender has.
    Please,
}
