//! Two tables of members are brought to one state: by sums of ranges, then by
//! short marks of the entries where sums differ, then by what is missing.
//!
//! ```text
//! A --- Compare: sums ----------------------------> B
//! A <-- Listing: marks where they differ ---------- B
//! A --- Members: what B lacks; Want: what A lacks-> B
//! A <-- Members ----------------------------------- B
//! ```

use alloc::vec::Vec;
use core::time::Duration;

use super::Ring;
use super::members::{RANGE_COUNT, range_of};
use super::message::{Mark, Message, Neighbours, Table, Update};
use crate::flat::{FlatMap, FlatSet};
use crate::id::{NodeId, RingId};
use crate::time::Instant;

/// The shortest time between two comparisons that a node begins. News on its
/// way makes tables differ all the time.
const PAUSE: Duration = Duration::from_secs(1);

/// How long a newcomer may be told what all others know.
const TOLD: Duration = Duration::from_secs(1);

impl Ring {
    /// The digest of this node's table that neighbours compare; zero when the
    /// table does not hold all members, for then no two need be alike.
    pub(super) fn table_digest(&self) -> u64 {
        if self.members.is_partial() {
            return 0;
        }
        let sums = self.members.sums(&self.own_update());
        sums.iter().fold(0, |sum, one| sum.wrapping_add(*one))
    }

    pub(super) fn table_differs(&self, theirs: u64) -> bool {
        !self.members.is_partial() && theirs != self.table_digest()
    }

    pub(super) fn may_compare(&mut self, now: Instant) -> bool {
        let early = |at: Instant| now.since(at) < PAUSE;
        if self.compared_at.is_some_and(early) {
            return false;
        }
        self.compared_at = Some(now);
        true
    }

    pub(super) fn compare(&mut self, peer: NodeId, ring: RingId) {
        let sums = self.members.sums(&self.own_update()).to_vec();
        let table = Table::Compare { sums };
        self.send(peer, Message::Table { ring, table });
    }

    /// Asks for all that a member knows: this node started, and knows nothing.
    pub(super) fn want_all(&mut self, peer: NodeId, ring: Option<RingId>, now: Instant) {
        if let Some(ring) = ring.filter(|_| self.asked_all.is_none()) {
            self.asked_all = Some((peer, now));
            let table = Table::Compare { sums: Vec::new() };
            self.send(peer, Message::Table { ring, table });
        }
    }

    /// Whether this may be the answer, which is news to nobody else.
    pub(super) fn is_told_all(&self, from: &NodeId, now: Instant) -> bool {
        let asked = self.asked_all.filter(|(peer, _)| peer == from);
        asked.is_some_and(|(_, at)| now.since(at) < TOLD)
    }

    /// Asks a member for its neighbours of whom this node never heard.
    pub(super) fn want_unknown(&mut self, peer: NodeId, ring: RingId, neighbours: &Neighbours) {
        let named = neighbours.successors.iter().chain(&neighbours.predecessor);
        let known = |id: &&NodeId| **id != self.own_id && self.members.get(id).is_none();
        let heads: Vec<u64> = named.filter(known).map(NodeId::head).collect();
        if !heads.is_empty() {
            let table = Table::Want { heads };
            self.send(peer, Message::Table { ring, table });
        }
    }

    pub(super) fn on_table(&mut self, peer: NodeId, table: Table, now: Instant) {
        let Some(ring) = self.id else {
            return;
        };
        match table {
            Table::Compare { sums } if sums.is_empty() => {
                let all = self.members.updates().chain([self.own_update()]);
                let all = all.collect::<Vec<_>>();
                self.send_updates(peer, &all);
            }
            Table::Compare { sums } => {
                let own = self.members.sums(&self.own_update());
                let pairs = own.iter().zip(&sums).enumerate();
                let differ = pairs.filter(|(_, (own, theirs))| own != theirs);
                let ranges = differ.fold(0u32, |ranges, (at, _)| ranges | 1 << at);
                let marks = self.marks(ranges, now);
                let marks = marks.map(|(_, mark)| mark).collect();
                let table = Table::Listing { ranges, marks };
                self.send(peer, Message::Table { ring, table });
            }
            Table::Listing { ranges, marks } => {
                self.on_listing(peer, ring, (ranges, &marks), now);
            }
            Table::Want { heads } => {
                let heads: FlatSet<u64> = heads.into_iter().collect();
                let known = self.members.ranks().map(|(id, ..)| *id);
                let wanted = known
                    .chain([self.own_id])
                    .filter(|id| heads.contains(&id.head()));
                let wanted: Vec<Update> = wanted.filter_map(|id| self.update(&id)).collect();
                self.send_updates(peer, &wanted);
            }
        }
    }

    fn on_listing(
        &mut self,
        peer: NodeId,
        ring: RingId,
        (ranges, marks): (u32, &[Mark]),
        now: Instant,
    ) {
        let theirs: FlatMap<u64, Mark> = marks.iter().map(|mark| (mark.head, *mark)).collect();
        let (mut news, mut heads) = (Vec::new(), Vec::new());
        let mut known: FlatSet<u64> = FlatSet::new();
        for (id, own) in self.marks(ranges, now) {
            known.insert(own.head);
            match theirs.get(&own.head) {
                Some(mark) if mark.rank == own.rank => {}
                Some(mark) => {
                    heads.push(mark.head);
                    news.push(id);
                }
                None if own.matters => news.push(id),
                None => {}
            }
        }
        let unknown = theirs.values();
        let unknown = unknown.filter(|mark| mark.matters && !known.contains(&mark.head));
        heads.extend(unknown.map(|mark| mark.head));
        let news: Vec<Update> = news.iter().filter_map(|id| self.update(id)).collect();
        self.send_updates(peer, &news);
        if !heads.is_empty() {
            let table = Table::Want { heads };
            self.send(peer, Message::Table { ring, table });
        }
    }

    /// What is known of one, this node itself included.
    fn update(&self, id: &NodeId) -> Option<Update> {
        if *id == self.own_id {
            return Some(self.own_update());
        }
        self.members.update(id)
    }

    /// All entries in some ranges, and this node's own.
    fn marks(&self, ranges: u32, now: Instant) -> impl Iterator<Item = (NodeId, Mark)> + '_ {
        const { assert!(RANGE_COUNT == u32::BITS as usize) }
        let entries = self.members.ranks();
        let entries = entries.map(move |(id, rank, member)| (*id, rank, member.is_recent(now)));
        let own = (self.own_id, self.own_update().rank(), true);
        let within = move |id: &NodeId| ranges >> range_of(id) & 1 == 1;
        let within = entries.chain([own]).filter(move |(id, ..)| within(id));
        within.map(|(id, rank, matters)| {
            let head = id.head();
            let mark = Mark {
                head,
                rank,
                matters,
            };
            (id, mark)
        })
    }
}
