//! What ring members say to one another.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::id::{NodeId, RingId};
use crate::identity::Record;
use crate::status::MemberState;
use crate::wire;

/// A message between members, or from one who wants to join.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Message {
    /// Who succeeds the sender? Sent by one who joins; passed on clockwise.
    Find(Find),
    /// The answer: the sender of this is the successor.
    Found(Neighbours),
    /// Asks a successor for its neighbours (Zave 2012: stabilize). Also asks
    /// a member that might be a nearer successor whether it lives. With the
    /// digest of the last answer, or zero.
    Stabilize { ring: RingId, seen: u64 },
    /// The answer, and what a predecessor is told unasked when it changed.
    Stabilized(Neighbours),
    /// The answer when it would be the one that was seen.
    Unchanged { ring: RingId },
    /// The sender takes itself for the receiver's predecessor (rectify).
    Notify { ring: RingId },
    /// News of members, flooded once by each who learns it.
    Members { ring: RingId, updates: Vec<Update> },
    /// Brings two tables of members to one state.
    Table { ring: RingId, table: Table },
    /// The two ends are of different rings, which never merge.
    Foreign { ring: RingId },
}

/// A join on its way to the successor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Find {
    /// The ring that the joining node was in before, if any.
    pub(crate) ring: Option<RingId>,
    /// The joining node, so that the successor can answer it.
    pub(crate) record: Record,
    /// How many members may still pass this on.
    pub(crate) hops: u8,
}

/// What a member knows of its neighbourhood.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Neighbours {
    pub(crate) ring: RingId,
    pub(crate) predecessor: Option<NodeId>,
    pub(crate) successors: Vec<NodeId>,
    /// A digest of the member table: when two differ, they are exchanged.
    pub(crate) members: u64,
    /// A digest of what the layer above keeps in step along the ring.
    pub(crate) views: u64,
    /// With [`Message::Found`]: the records of all named here.
    pub(crate) records: Vec<Record>,
}

impl Neighbours {
    /// A digest of all this, never zero.
    pub(crate) fn digest(&self) -> u64 {
        let bytes = wire::encode(self);
        // FNV-1a, 64 bits (Fowler, Noll, Vo).
        let fold = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        bytes.iter().fold(0xcbf2_9ce4_8422_2325, fold).max(1)
    }
}

/// The steps that bring two tables of members to one state. Ids are named by
/// their first eight bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Table {
    /// Sums of the sender's entries, by range of ids; none from one who knows
    /// nothing, and wants all.
    Compare { sums: Vec<u64> },
    /// What the sender holds in the ranges whose sums differ: bit by bit,
    /// lowest first.
    Listing { ranges: u32, marks: Vec<Mark> },
    /// Asks for news of these members.
    Want { heads: Vec<u64> },
}

/// One entry of a table, in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// The first eight bytes of the id.
    pub(crate) head: u64,
    /// A digest of epoch, incarnation and state.
    pub(crate) rank: u64,
    /// Whether one who never heard of it should: it lives, or is gone of late.
    pub(crate) matters: bool,
}

/// News of one member.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Update {
    pub(crate) id: NodeId,
    pub(crate) epoch: u64,
    /// Raised by a member, and only by itself, to deny that it is gone.
    pub(crate) incarnation: u32,
    pub(crate) state: MemberState,
    /// There for all who live.
    pub(crate) record: Option<Record>,
}

impl Message {
    /// The name under which it is counted when it is sent.
    pub(crate) const fn counter(&self) -> &'static str {
        match self {
            Self::Find(_) | Self::Found(_) => "sent_ring_join",
            Self::Stabilize { .. } => "sent_ring_stabilize",
            Self::Stabilized(_) | Self::Unchanged { .. } => "sent_ring_stabilized",
            Self::Notify { .. } => "sent_ring_notify",
            Self::Members { .. } => "sent_ring_members",
            Self::Table { .. } => "sent_ring_table",
            Self::Foreign { .. } => "sent_ring_foreign",
        }
    }

    /// The record of who says this, unverified, where it comes along: one who
    /// takes a newcomer in may be a stranger to it.
    pub(crate) fn introduction(&self, from: &NodeId) -> Option<&Record> {
        let Self::Found(neighbours) = self else {
            return None;
        };
        let mut records = neighbours.records.iter();
        records.find(|record| record.id() == *from)
    }
}

#[cfg(test)]
impl Message {
    pub(crate) const fn stabilize(ring: RingId) -> Self {
        Self::Stabilize { ring, seen: 0 }
    }
}
