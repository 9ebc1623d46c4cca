//! What is wrong and a person should know of.

use alloc::string::String;

/// Something is wrong: its kind for programs, its words for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What is wrong.
    pub kind: TroubleKind,
    /// What exactly, and what to do. Programs should not read it: it changes.
    pub message: String,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TroubleKind {
    /// A relay cannot be reached, or does not take this node in in time. It is
    /// dialled again; this is told once in a row of failures.
    RelayUnreachable,
    /// The way to a relay that this node was attached to broke. It is dialled
    /// again.
    RelayLost,
    /// A relay serves no network of this name with this secret. It is dialled
    /// again, slowly.
    WrongNetwork,
    /// A relay refuses this node for another reason. It is dialled again,
    /// slowly.
    RelayRefused,
    /// No direct link to a peer came about: it stays relayed, and is tried
    /// again.
    NoDirectLink,
    /// A peer is in another ring of this network; the two never merge.
    OtherRing,
    /// Another node has this node's identity.
    IdentityInUse,
    /// What storage holds cannot be read: the node takes part in nothing.
    Storage,
}

impl Trouble {
    pub(crate) fn new(kind: TroubleKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }
}
