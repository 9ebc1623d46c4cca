//! A view of two goes on with one.
//!
//! A majority of two is both. So that a ring of two durable members outlives
//! the death of either, the one that is left serves alone: if it held all that
//! the other held when that one was lost, and has not started again since, nor been
//! frozen.
//! Both are asked again as soon as both live, so that neither misses what the
//! other took alone. Two that are parted from each other, and both live, may
//! each serve alone; what they took is merged by version.

use core::time::Duration;

use super::Kvs;
use super::request::Mode;
use super::view::{SlotState, View};
use crate::time::Instant;

/// How long the other is away before one serves alone.
const ALONE_AFTER: Duration = Duration::from_secs(2);

impl Kvs {
    /// How many votes a request takes.
    pub(super) fn votes_needed(&self, view: &View, mode: Mode, now: Instant) -> usize {
        match mode {
            Mode::One => 1,
            Mode::Quorum if self.serves_alone(view, now) => 1,
            Mode::Quorum | Mode::Linearizable => view.majority(),
        }
    }

    /// Whether this voter goes on without the other of a view of two.
    fn serves_alone(&self, view: &View, now: Instant) -> bool {
        let mut others = view.voters.iter().filter(|voter| **voter != self.own);
        let (Some(other), None) = (others.next(), others.next()) else {
            return false;
        };
        let agreed = self.peers.has_agreed(other);
        #[cfg(planted_bugs)]
        let agreed = agreed || crate::planted::is("alone_without_agreement");
        !self.peers.is_alive(other)
            && agreed
            && self.peers.absent_since(other, now) + ALONE_AFTER <= now
    }

    /// The slots of views of two that have one living voter, which serves.
    pub(super) fn degraded(&self) -> u64 {
        let lone = |state: &SlotState| {
            let mut others = state.view.voters.iter().filter(|id| **id != self.own);
            state.view.voters.len() == 2
                && self.views.serves(state)
                && others.all(|other| !self.peers.is_alive(other) && self.peers.has_agreed(other))
        };
        self.views.slots_where(lone).iter().count() as u64
    }
}
