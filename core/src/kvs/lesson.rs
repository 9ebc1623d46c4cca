//! Candidates for a vote who learn in vain.
//!
//! Whoever is to vote pulls from the leader first, and begins again if it could
//! not keep all: a promise stood in the way, for a moment. One whose clock is wrong
//! refuses the same records every time, and one to whom there is no way never begins.
//! A change that waited for it would keep the leader from all other changes, so that
//! it is passed over for a while, if there is another.

use alloc::vec::Vec;
use core::time::Duration;

use crate::flat::FlatMap;
use crate::id::NodeId;
use crate::time::Instant;

/// How often a candidate may begin: promises that stood in the way are gone by then.
const BEGIN_COUNT_MAX: u32 = 5;
/// How often it is told to, once in half a second, before it has begun at all.
const ASK_COUNT_MAX: u32 = 8;
/// For how long it is passed over then.
const PASSED_OVER: Duration = Duration::from_secs(60);

/// What a candidate learns.
#[derive(Debug, Default)]
pub(super) struct Lesson {
    /// Its last pull; a pull that asks again has the same number.
    pull: Option<u64>,
    begun: u32,
    asked: u32,
}

impl Lesson {
    /// The candidate is told to learn: false if that was in vain too often.
    pub(super) fn ask(&mut self) -> bool {
        self.asked = self.asked.saturating_add(1);
        self.pull.is_some() || self.asked <= ASK_COUNT_MAX
    }

    /// The candidate compares: false if it has begun too often.
    pub(super) fn note(&mut self, pull: u64) -> bool {
        if self.pull != Some(pull) {
            self.pull = Some(pull);
            self.begun = self.begun.saturating_add(1);
        }
        self.begun <= BEGIN_COUNT_MAX
    }
}

/// Members that learned in vain, and until when others are preferred to them. No
/// more than there are members: whoever is gone is forgotten.
#[derive(Debug, Default)]
pub(super) struct PassedOver(FlatMap<NodeId, Instant>);

impl PassedOver {
    pub(super) fn add(&mut self, id: NodeId, now: Instant) {
        self.0.insert(id, now + PASSED_OVER);
    }

    pub(super) fn on_gone(&mut self, id: &NodeId) {
        self.0.remove(id);
    }

    /// When the first of them is no longer passed over: it is to be looked again then.
    pub(super) fn ends_at(&self, now: Instant) -> Option<Instant> {
        self.0.values().copied().filter(|until| now < *until).min()
    }

    pub(super) fn list(&self, now: Instant) -> Vec<NodeId> {
        let passed_over = self.0.iter().filter(|(_, until)| now < **until);
        passed_over.map(|(id, _)| *id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kvs::fixture::{at, id};

    #[test]
    fn who_is_passed_over_gets_its_turn_again() {
        let mut passed_over = PassedOver::default();
        assert_eq!(passed_over.ends_at(at(0).mono), None);
        passed_over.add(id(1), at(0).mono);
        passed_over.add(id(2), at(1_000).mono);
        assert_eq!(passed_over.ends_at(at(1_000).mono), Some(at(60_000).mono));
        assert_eq!(passed_over.list(at(60_000).mono), [id(2)]);
        assert_eq!(passed_over.ends_at(at(60_000).mono), Some(at(61_000).mono));
        passed_over.on_gone(&id(2));
        assert_eq!(passed_over.ends_at(at(60_000).mono), None);
        assert_eq!(passed_over.list(at(0).mono), [id(1)]);
    }
}
