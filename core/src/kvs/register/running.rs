//! The requests that have their turn at a key, and how far each has come.

use alloc::boxed::Box;
use alloc::collections::VecDeque;

use super::{Entry, Key, Op, Origin, Version, View};
use crate::flat::{FlatMap, FlatSet};
use crate::id::NodeId;
use crate::time::Instant;

/// The keys with a linearizable request under way.
#[derive(Debug, Default)]
pub(in crate::kvs) struct Registers {
    pub(super) active: FlatMap<Key, Box<Running>>,
    pub(super) by_vote: FlatMap<u64, Key>,
}

#[derive(Debug)]
pub(super) struct Running {
    pub(super) task: Task,
    pub(super) vote: u64,
    pub(super) view: View,
    pub(super) phase: Phase,
    /// Voters that refused what this phase asks.
    pub(super) refused: FlatSet<NodeId>,
    /// Whether the value of a write was sent to voters, ever.
    pub(super) sent: bool,
    /// Whether anything was: a value that was there, under a ballot of its own.
    pub(super) touched: bool,
    /// Whether this node promises only when its promise is the last that is needed:
    /// of a ballot that the others refuse for their clocks nothing is left here.
    pub(super) keeps_last: bool,
    pub(super) tries: u32,
    pub(super) asked: u32,
    pub(super) resend_at: Instant,
    pub(super) deadline: Instant,
    pub(super) waiting: VecDeque<(Origin, Op)>,
}

#[derive(Clone, Debug)]
pub(super) enum Task {
    Request(Origin, Op),
    /// Writes what is there under a ballot, to end what others left undone;
    /// then the request, if there is one, begins anew.
    Complete(Option<(Origin, Op)>),
}

#[derive(Debug)]
pub(super) enum Phase {
    /// Until the instant of the next try.
    Pausing,
    Preparing {
        ballot: Option<Version>,
        told: FlatMap<NodeId, Version>,
        best: Option<Entry>,
    },
    Writing {
        entry: Entry,
        wrote: FlatSet<NodeId>,
    },
}

impl Registers {
    pub(in crate::kvs) fn poll_timeout(&self) -> Option<Instant> {
        let times = self.active.values();
        times.map(|one| one.resend_at.min(one.deadline)).min()
    }

    /// Whether a vote belongs to one of them.
    pub(in crate::kvs) fn has(&self, vote: u64) -> bool {
        self.by_vote.contains_key(&vote)
    }

    pub(super) fn running(&mut self, vote: u64) -> Option<(Key, &mut Running)> {
        let key = self.by_vote.get(&vote)?.clone();
        self.active
            .get_mut(&key)
            .map(|running| (key, &mut **running))
    }
}

impl Running {
    /// Whether it asks voters to keep the tombstone of an expired record.
    pub(super) const fn is_expiring(&self) -> bool {
        match &self.phase {
            Phase::Writing { entry, .. } => entry.is_of_expired(),
            Phase::Pausing | Phase::Preparing { .. } => false,
        }
    }

    /// Takes note that a voter refused. Returns whether the others may be enough:
    /// to begin with, this node has to be among them.
    pub(super) fn can_do_without(&mut self, voter: NodeId, own: NodeId) -> bool {
        self.refused.insert(voter);
        let left = self.view.voters.iter();
        let left = left.filter(|voter| !self.refused.contains(voter)).count();
        let enough = left >= self.view.majority();
        match self.phase {
            Phase::Pausing => true,
            Phase::Preparing { .. } => enough && voter != own,
            Phase::Writing { .. } => enough,
        }
    }
}

/// Whether a tombstone of an expired record is kept by too few others for this
/// node to keep it, too.
pub(super) fn is_early(entry: &Entry, wrote: &FlatSet<NodeId>, need: usize) -> bool {
    entry.is_of_expired() && wrote.len() + 1 < need
}

impl Task {
    pub(super) fn op(&self) -> Option<&Op> {
        match self {
            Self::Request(_, op) => Some(op),
            Self::Complete(_) => None,
        }
    }
}
