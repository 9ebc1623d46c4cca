//! Who is how many in the table of members, kept up with every change, so that
//! nobody has to count.

use alloc::collections::VecDeque;

use super::members::Member;
use crate::flat::{FlatMap, FlatSet};
use crate::id::NodeId;
use crate::status::{Class, MemberState};
use crate::time::Instant;

/// Counts of the entries of a table.
#[derive(Debug, Default)]
pub(super) struct Census {
    /// Who lives or is suspected.
    pub(super) living: usize,
    pub(super) suspects: FlatSet<NodeId>,
    /// The gone, the first to go first; some may be back since.
    pub(super) gone: VecDeque<(Instant, NodeId)>,
    /// Pages that live, by octave of distance.
    pages: FlatMap<u32, usize>,
}

impl Census {
    /// An entry came into the table.
    pub(super) fn add(&mut self, own: &NodeId, id: &NodeId, member: &Member) {
        if !member.lives() {
            return self.gone.push_back((member.since, *id));
        }
        self.living += 1;
        if member.state == MemberState::Suspect {
            self.suspects.insert(*id);
        }
        if member.is_page() {
            *self.pages.entry(octave_of(own, id)).or_default() += 1;
        }
    }

    /// An entry left the table, as it was.
    pub(super) fn remove(&mut self, own: &NodeId, id: &NodeId, member: &Member) {
        self.suspects.remove(id);
        if !member.lives() {
            return;
        }
        self.living -= 1;
        if member.is_page() {
            let octave = octave_of(own, id);
            if let Some(count) = self.pages.get_mut(&octave) {
                *count -= 1;
                if *count == 0 {
                    self.pages.remove(&octave);
                }
            }
        }
    }

    /// Whether an octave has about as many pages as the fullest, so that some are
    /// let go: of the others, the nearest ones, the table holds all.
    pub(super) fn is_crowded(&self, octave: u32) -> bool {
        let most = self.pages.values().max().copied().unwrap_or_default();
        let count = self.pages.get(&octave).copied().unwrap_or_default();
        count.saturating_mul(4) >= most.saturating_mul(3)
    }

    /// The octave of distance with the most pages.
    pub(super) fn fullest(&self) -> Option<u32> {
        let fullest = self.pages.iter().max_by_key(|(_, count)| **count);
        fullest.map(|(octave, _)| *octave)
    }
}

impl Member {
    pub(super) fn is_page(&self) -> bool {
        let class = self.record.as_ref().map(|record| record.facts().class);
        class != Some(Class::Durable)
    }
}

/// How near two members are: the number of halvings of the ring between them.
pub(super) fn octave_of(own: &NodeId, other: &NodeId) -> u32 {
    let way = |from: &NodeId, to: &NodeId| NodeId::from_bytes(from.distance_to(to)).head();
    way(own, other).min(way(other, own)).leading_zeros()
}

/// A point within an octave of distance, on either side, that `choice` chooses.
pub(super) fn within(own: &NodeId, octave: u32, choice: &NodeId) -> NodeId {
    // The octave is as wide as it is far away.
    let width = 1u64 << (u64::BITS - 1).saturating_sub(octave);
    let away = width.wrapping_add(choice.head() % width.max(1));
    let clockwise = choice.as_bytes().last().is_some_and(|byte| byte % 2 == 0);
    own.clockwise_by(if clockwise { away } else { away.wrapping_neg() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn a_point_lies_in_its_octave() {
        let mut rng = Rng::from_seed([4; 32]);
        for octave in 1..40 {
            for _ in 0..50 {
                let own = NodeId::from_bytes(rng.bytes());
                let point = within(&own, octave, &NodeId::from_bytes(rng.bytes()));
                assert_eq!(octave_of(&own, &point), octave);
            }
        }
    }
}
