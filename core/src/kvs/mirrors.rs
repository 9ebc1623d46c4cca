//! Which pages mirror which slots: worked out where it is asked, since each page
//! that comes or goes changes some of it.

use alloc::vec::Vec;

use super::key::{SLOT_COUNT, Slot};
use crate::id::NodeId;
use crate::status::Class;

/// Members of any class, from the start of a slot, that hold copies.
const COPY_COUNT: usize = 3;

/// All members in the order of their ids, this node among them.
#[derive(Debug, Default)]
pub(super) struct Mirrors {
    round: Vec<(NodeId, Class)>,
}

/// The pages among the first members from some place of the ring on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pages([Option<NodeId>; COPY_COUNT]);

impl Pages {
    pub(super) fn iter(self) -> impl Iterator<Item = NodeId> {
        self.0.into_iter().flatten()
    }

    pub(super) fn contains(self, id: &NodeId) -> bool {
        self.iter().any(|page| page == *id)
    }

    fn among<'a>(members: impl Iterator<Item = &'a (NodeId, Class)>) -> Self {
        let mut pages = Self::default();
        for (place, (id, class)) in pages.0.iter_mut().zip(members) {
            *place = (*class == Class::Transient).then_some(*id);
        }
        pages
    }
}

impl Mirrors {
    /// Of the other members, in order, and this node.
    pub(super) fn new(others: impl Iterator<Item = (NodeId, Class)>, own: (NodeId, Class)) -> Self {
        let mut round: Vec<(NodeId, Class)> = others.collect();
        if let Err(place) = round.binary_search_by_key(&own.0, |(id, _)| *id) {
            round.insert(place, own);
        }
        Self { round }
    }

    /// The pages among the first three members at or after a slot's start.
    pub(super) fn of(&self, slot: Slot) -> Pages {
        let start = slot.start();
        let (before, after) = self
            .round
            .split_at(self.round.partition_point(|(id, _)| *id < start));
        Pages::among(after.iter().chain(before))
    }

    /// The same for all slots, as runs in order: first slot, last slot, pages.
    pub(super) fn runs(&self) -> impl Iterator<Item = (u16, u16, Pages)> + '_ {
        let round = self.round.iter();
        // Slots after the last member's belong to the first, round the ring.
        let ends = round.clone().map(|(id, _)| Slot::of(id).number());
        let ends = ends.chain(self.round.first().map(|_| SLOT_COUNT - 1));
        let second = round.clone().cycle().skip(1);
        let third = round.clone().cycle().skip(2);
        let mut from = 0;
        let runs = ends.zip(round.cycle().zip(second).zip(third));
        runs.filter_map(move |(last, ((one, two), three))| {
            // Two members in one slot: the second comes first for none.
            let first = (from <= last).then_some(from)?;
            from = last + 1;
            let members = [one, two, three].into_iter();
            Some((first, last, Pages::among(members.take(self.round.len()))))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(first: u8, second: u8) -> NodeId {
        let mut bytes = [0; 32];
        (bytes[0], bytes[1]) = (first, second);
        NodeId::from_bytes(bytes)
    }

    fn mirrors(pages: &[NodeId], own: NodeId) -> Mirrors {
        let pages = pages.iter().map(|page| (*page, Class::Transient));
        Mirrors::new(pages, (own, Class::Durable))
    }

    #[test]
    fn members_in_one_slot_mirror_all_slots() {
        // Slots are the first 12 bits: these three lie in one.
        let pages = [id(7, 1), id(7, 2)];
        let mirrors = mirrors(&pages, id(7, 3));
        for slot in [id(0, 0), id(7, 0), id(200, 0)] {
            assert!(mirrors.of(Slot::of(&slot)).iter().eq(pages));
        }
        assert_eq!(mirrors.runs().count(), 2);
    }

    #[test]
    fn the_first_three_members_of_a_slot_are_asked() {
        let mirrors = mirrors(&[id(10, 0), id(20, 0), id(30, 0)], id(15, 0));
        let of = |first| -> Vec<NodeId> { mirrors.of(Slot::of(&id(first, 0))).iter().collect() };
        assert_eq!(of(5), [id(10, 0), id(20, 0)]);
        assert_eq!(of(16), [id(20, 0), id(30, 0), id(10, 0)]);
        assert_eq!(of(31), [id(10, 0), id(20, 0)]);
    }

    #[test]
    fn runs_say_of_each_slot_what_is_said_of_it_alone() {
        let all: Vec<NodeId> = (0..60u8).map(|n| id(n.wrapping_mul(77), n)).collect();
        for count in [0, 1, 2, 3, 9, 60] {
            let mut pages: Vec<NodeId> = all.iter().take(count).copied().collect();
            pages.sort_unstable();
            let mirrors = mirrors(&pages, id(40, 1));
            let mut next = 0;
            for (first, last, pages) in mirrors.runs() {
                assert_eq!(first, next, "{count} pages");
                for slot in (first..=last).filter_map(Slot::new) {
                    assert_eq!(mirrors.of(slot), pages, "{count} pages, slot {slot:?}");
                }
                next = last + 1;
            }
            assert_eq!(next, SLOT_COUNT);
        }
    }
}
