//! Fingers: members at distances that double (Stoica et al. 2001, section 4.3).
//!
//! The table of members answers most lookups in one step; fingers say which of
//! its members are worth a lasting path: news and messages for members without
//! a path of their own go by them.

use alloc::vec::Vec;

use super::Ring;
use crate::id::NodeId;

/// Fingers of a node at most: enough for a ring of 2^16 members.
const FINGER_COUNT_MAX: u32 = 16;

impl Ring {
    /// The first member at or after each of the points half the ring away, a
    /// quarter, and so on, until that is the successor.
    pub(crate) fn fingers(&self) -> Vec<NodeId> {
        let mut fingers = Vec::new();
        let head = self.successors.head();
        for power in 1..=FINGER_COUNT_MAX {
            let point = self.own_id.clockwise_by(1 << (u64::BITS - power));
            let finger = self.members.clockwise(&point).next();
            let Some(finger) = finger.filter(|id| Some(*id) != head) else {
                break;
            };
            fingers.push(finger);
        }
        fingers.dedup();
        fingers
    }

    /// One of the fingers.
    pub(super) fn random_finger(&mut self) -> Option<NodeId> {
        let fingers = self.fingers();
        let index = self.rng.next_u64().checked_rem(fingers.len() as u64)?;
        fingers.get(usize::try_from(index).ok()?).copied()
    }
}
