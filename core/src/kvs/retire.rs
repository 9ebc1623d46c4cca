//! Retiring: a durable member that will leave passes its places on first.
//!
//! It says so to all; whoever leads a slot where it votes has another member
//! learn, and vote instead. What it holds is handed over then, and it leaves.

use alloc::vec::Vec;
use core::time::Duration;

use super::Kvs;
use super::message::{Message, ViewMessage};
use super::view::VOTER_COUNT_MAX;
use crate::event::Lane;
use crate::flat::FlatSet;
use crate::id::NodeId;
use crate::time::{Instant, Now};

/// How often it is said, until it is done.
const REMIND: Duration = Duration::from_secs(1);

/// Who is about to leave.
#[derive(Debug, Default)]
pub(super) struct Retirements {
    /// When this node says again that it is.
    own: Option<Instant>,
    /// Others: no more than members that live.
    others: FlatSet<NodeId>,
}

impl Retirements {
    pub(super) const fn poll_timeout(&self) -> Option<Instant> {
        self.own
    }

    pub(super) const fn is_own(&self) -> bool {
        self.own.is_some()
    }

    pub(super) fn others(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.others.iter().copied()
    }

    pub(super) fn contains(&self, id: &NodeId) -> bool {
        self.others.contains(id)
    }

    pub(super) fn on_gone(&mut self, id: &NodeId) {
        self.others.remove(id);
    }
}

impl Kvs {
    /// Begins to pass this node's places on, if there are enough others to
    /// take them. Returns whether it does.
    pub(crate) fn retire(&mut self, now: Now) -> bool {
        if !self.has_heirs() || !self.has_place(&self.own) {
            return false;
        }
        self.retirements.own = Some(now.mono);
        self.on_retire_timeout(now);
        self.settle(now);
        true
    }

    /// Whether all places are passed on, and all entries taken; or too few are
    /// left to take them, as when all members are told to stop at once.
    pub(crate) fn is_retired(&self) -> bool {
        let done = !self.has_place(&self.own) && self.has_given_all();
        self.retirements.is_own() && (done || !self.has_heirs())
    }

    /// Whether as many durable members stay as a view has voters.
    fn has_heirs(&self) -> bool {
        let leaving = self.retirements.others.len();
        self.peers.durable_count().saturating_sub(leaving) >= VOTER_COUNT_MAX
    }

    pub(super) fn on_retire(&mut self, from: NodeId, now: Now) {
        if self.peers.is_alive(&from) && !self.retirements.contains(&from) {
            self.retirements.others.insert(from);
            self.review(now);
            self.stop_change(&[from], now);
        }
    }

    pub(super) fn on_retire_timeout(&mut self, now: Now) {
        if self.retirements.own.is_none_or(|at| at > now.mono) {
            return;
        }
        self.retirements.own = Some(now.mono + REMIND);
        for member in self.peers.alive().collect::<Vec<_>>() {
            let message = Message::View(ViewMessage::Retire);
            self.send(member, Lane::Control, message);
        }
        // What was chosen may not have reached this node.
        for peer in self.views.co_voters() {
            self.exchange_views(peer);
        }
        self.review(now);
    }
}
