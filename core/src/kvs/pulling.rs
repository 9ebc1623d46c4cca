//! The pulls of a node: what each is for, and how far it has come.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use super::branch::{Branch, Difference};
use super::horizon::Horizon;
use super::key::Key;
use super::slots::{SlotMap, SlotSet};
use crate::flat::{FlatMap, FlatSet};
use crate::id::NodeId;
use crate::time::Instant;

/// How often what is still missing is looked for.
pub(super) const REVIEW: Duration = Duration::from_millis(700);

/// All pulls of this node, and from whom it needs none.
#[derive(Debug, Default)]
pub(super) struct Pulls {
    pub(super) active: FlatMap<u64, Pulling>,
    pub(super) waiting: VecDeque<(NodeId, SlotSet, Purpose)>,
    /// Peers from whom all was pulled since they came, and which slots.
    pub(super) pulled: FlatMap<NodeId, SlotSet>,
    /// Sources that an unfilled voter is done with, by view and slots.
    pub(super) filled_from: Vec<(u64, SlotSet, FlatSet<NodeId>)>,
    pub(super) review_at: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Pulling {
    pub(super) source: NodeId,
    pub(super) slots: SlotSet,
    pub(super) purpose: Purpose,
    pub(super) step: Step,
    /// Branches in which there is a difference, too large to be listed.
    pub(super) narrowing: VecDeque<Difference>,
    /// Branches still to be listed, and after which key.
    pub(super) differing: VecDeque<(Branch, Option<Key>)>,
    /// Whether something was kept off, by a promise or while it was on its way to
    /// storage: the pull is in vain.
    pub(super) lacks: bool,
    /// What the source has collected.
    pub(super) collected: SlotMap<Horizon>,
    /// Whether it was asked whether both hold the same behind its horizon.
    pub(super) is_levelled: bool,
    /// Keys still to be fetched.
    pub(super) wanted: VecDeque<Key>,
    /// The number of the question that is open: the same when it is asked again.
    pub(super) question: u32,
    pub(super) resend_at: Instant,
    pub(super) tries: u32,
}

/// What a pull is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To hold what a fellow holds.
    CatchUp,
    /// To become a voter soon.
    Learn { change: u64 },
    /// To serve as a voter in this view.
    Fill { view: u64 },
    /// To hold what one has who has no part in the slots any more.
    TakeOver { offer: u64 },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Comparing,
    Splitting {
        branches: Vec<Difference>,
    },
    Listing {
        branches: Vec<Branch>,
        after: Option<Key>,
    },
    Fetching,
    Keeping,
    /// Slots, up to which time, and the sums of what is held of them.
    Levelling {
        slots: Vec<(u16, u64, u64)>,
    },
    Ending,
}

impl Pulling {
    /// Whether an answer is that to the open question.
    pub(super) fn is_asked(&self, from: &NodeId, question: u32) -> bool {
        self.source == *from && self.question == question
    }
}

impl Pulls {
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let active = self.active.values().map(|pulling| pulling.resend_at);
        active.chain(self.review_at).min()
    }

    /// Whether all of a fellow voter's entries were pulled.
    pub(super) fn has_pulled(&self, peer: &NodeId) -> bool {
        self.pulled.contains_key(peer)
    }

    /// What was pulled from a peer is to be pulled again.
    pub(super) fn forget(&mut self, peer: &NodeId) {
        self.pulled.remove(peer);
    }

    /// Everything is to be pulled again, also what is being pulled: that may
    /// have begun too early.
    pub(super) fn forget_all(&mut self) {
        self.pulled.clear();
        self.active
            .retain(|_, pulling| pulling.purpose != Purpose::CatchUp);
        self.waiting
            .retain(|(_, _, purpose)| *purpose != Purpose::CatchUp);
    }

    /// Some copies are behind: looks again soon, until none are.
    pub(super) fn review(&mut self, now: Instant) {
        self.review_at = Some(now + REVIEW);
    }

    pub(super) fn on_gone(&mut self, peer: &NodeId) {
        self.pulled.remove(peer);
        self.active.retain(|_, pulling| pulling.source != *peer);
        self.waiting.retain(|(source, _, _)| source != peer);
    }

    pub(super) fn is_under_way(&self, source: &NodeId, slots: &SlotSet, purpose: &Purpose) -> bool {
        let mut active = self.active.values();
        let mut waiting = self.waiting.iter();
        active.any(|own| (&own.source, &own.slots, &own.purpose) == (source, slots, purpose))
            || waiting.any(|own| (&own.0, &own.1, &own.2) == (source, slots, purpose))
    }

    /// The pull with this number, if it is from there and at this step.
    pub(super) fn own(&mut self, from: NodeId, id: u64, step: &Step) -> Option<&mut Pulling> {
        let pulling = self.active.get_mut(&id)?;
        (pulling.source == from && pulling.step == *step).then_some(pulling)
    }
}
