//! The successor list.

use alloc::vec::Vec;

use crate::flat::FlatMap;
use crate::id::NodeId;

/// The next members clockwise of this node, nearest first; never this node
/// itself, and none twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SuccessorList {
    own: NodeId,
    list: Vec<NodeId>,
}

impl SuccessorList {
    pub(super) const fn new(own: NodeId) -> Self {
        Self {
            own,
            list: Vec::new(),
        }
    }

    pub(super) fn head(&self) -> Option<NodeId> {
        self.list.first().copied()
    }

    pub(super) fn as_slice(&self) -> &[NodeId] {
        &self.list
    }

    /// Takes a member and its own successors, in one step (Zave 2012, join
    /// and stabilize), up to `len` entries, leaving out those that `lives`
    /// denies. Whom the list named before stays in it: a member that started a
    /// moment ago, or was cut off, knows fewer than this one. Returns whether
    /// the list changed.
    pub(super) fn adopt(
        &mut self,
        head: NodeId,
        tail: &[NodeId],
        len: usize,
        lives: impl Fn(&NodeId) -> bool,
    ) -> bool {
        let own = self.own;
        let way = own.distance_to(&head);
        let named = tail.iter().chain(&self.list);
        let list: FlatMap<[u8; 32], NodeId> = named
            .filter(|id| **id != own && lives(id) && own.distance_to(id) > way)
            .chain([&head])
            .filter(|id| lives(id))
            .map(|id| (own.distance_to(id), *id))
            .collect();
        let list: Vec<NodeId> = list.into_values().take(len).collect();
        let changed = list != self.list;
        self.list = list;
        changed
    }

    /// Drops a member; the next becomes head.
    pub(super) fn remove(&mut self, id: &NodeId) -> bool {
        let before = self.list.len();
        self.list.retain(|entry| entry != id);
        self.list.len() != before
    }
}

/// How long a successor list should be in a ring of `count` members: r =
/// max(4, 2 log2 N).
pub(super) fn list_len(count: usize) -> usize {
    let log2 = usize::BITS - count.max(1).leading_zeros() - 1;
    4.max(2 * log2 as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(first: u8) -> NodeId {
        let mut bytes = [0; 32];
        bytes[0] = first;
        NodeId::from_bytes(bytes)
    }

    #[test]
    fn a_list_is_ordered_without_self_and_bounded() {
        let mut list = SuccessorList::new(id(50));
        assert!(list.adopt(id(60), &[id(70), id(10), id(50), id(60)], 8, |_| true));
        assert_eq!(list.as_slice(), [id(60), id(70), id(10)]);
        assert!(list.adopt(id(60), &[id(70), id(10)], 2, |_| true));
        assert_eq!(list.as_slice(), [id(60), id(70)]);
        assert!(list.adopt(id(60), &[id(70), id(10)], 8, |entry| *entry != id(70)));
        assert_eq!(list.as_slice(), [id(60), id(10)]);
        assert!(list.remove(&id(60)));
        assert_eq!(list.head(), Some(id(10)));
    }

    #[test]
    fn a_member_that_knows_fewer_takes_nobody_from_the_list() {
        let mut list = SuccessorList::new(id(50));
        list.adopt(id(60), &[id(70), id(10)], 8, |_| true);
        assert!(list.adopt(id(55), &[id(10)], 8, |_| true));
        assert_eq!(list.as_slice(), [id(55), id(60), id(70), id(10)]);
        assert!(
            list.adopt(id(60), &[], 8, |_| true),
            "the next answers alone"
        );
        assert_eq!(list.as_slice(), [id(60), id(70), id(10)]);
    }

    #[test]
    fn the_length_follows_the_size_of_the_ring() {
        assert_eq!(list_len(0), 4);
        assert_eq!(list_len(4), 4);
        assert_eq!(list_len(12), 6);
        assert_eq!(list_len(1000), 18);
    }
}
