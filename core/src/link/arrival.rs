//! What became of what came by a relay from a peer.

use alloc::vec::Vec;

use crate::identity::Record;

/// What became of a body that a relay delivered.
#[derive(Debug, PartialEq)]
pub(super) enum Arrival {
    /// A frame from a peer; perhaps the first of a new session, whose record
    /// is right.
    Frame {
        opened: Option<Record>,
        frame: Vec<u8>,
    },
    /// A session opened from this side.
    Opened,
    /// The peer is of another epoch than was thought: its record, unverified.
    Stale(Record),
    /// The peer knows the session no more.
    Reset,
    /// The peer's answer does not hold: the session that it was to open is
    /// over.
    Broken,
    /// An answer that was asked for twice, or nothing at all.
    Nothing,
    /// It changes nothing here.
    Refused(Refused),
}

/// Why a body was refused: each has a counter of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It is no message of a circuit.
    Malformed,
    /// It was damaged, or not made by the peer for this node.
    Forged,
    /// It came before, or is older than what is remembered.
    Replayed,
    /// It opens a session with an earlier start of this node.
    Outdated,
    /// It belongs to a session that this node does not have.
    Unknown,
    /// Too many sessions were opened lately, by this peer or by all.
    Crowded,
}

impl Refused {
    pub(super) const fn counter(self) -> &'static str {
        match self {
            Self::Malformed => "circuit_malformed",
            Self::Forged => "circuit_forged",
            Self::Replayed => "circuit_replayed",
            Self::Outdated => "circuit_outdated",
            Self::Unknown => "circuit_unknown",
            Self::Crowded => "circuit_crowded",
        }
    }
}
