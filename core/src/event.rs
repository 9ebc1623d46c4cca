//! The border: what a driver tells a node, and what a node asks of its driver.
//!
//! There is no transport trait. A driver carries out [`Output`]s and reports
//! [`Input`]s; time, randomness and storage answers are arguments.

use alloc::string::String;
use alloc::vec::Vec;

use crate::id::NodeId;
use crate::kvs::{Reply, RequestId};
use crate::session::SessionEvent;
use crate::store::{StoreError, StoreOp, Stored};
use crate::time::Instant;
use crate::trouble::Trouble;

/// A link between this node and one other end. Core allots the number when it
/// asks the driver to dial; it is never used twice by one node. Two paths to
/// one peer are two links.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// The priority of what travels on a link, most urgent first. Every lane of a
/// link has its own cap on bytes outstanding.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub enum Lane {
    /// Ring upkeep, probes, negotiation: small, and never behind data.
    Control,
    /// Requests for keys and their answers.
    Kv,
    /// Copies that restore what a death or an absence took.
    Repair,
    /// Byte streams.
    Bulk,
}

impl Lane {
    /// All lanes, most urgent first.
    pub const ALL: [Self; 4] = [Self::Control, Self::Kv, Self::Repair, Self::Bulk];
}

/// What the outside world tells the node.
#[derive(Debug)]
pub enum Input {
    /// A whole message arrived on a link.
    Frame {
        /// The link it came by.
        link: LinkId,
        /// The message.
        bytes: Vec<u8>,
    },
    /// Bytes of earlier [`Output::Send`]s left the driver's queue for the
    /// network, which makes room in that lane.
    Drained {
        /// The link.
        link: LinkId,
        /// The lane.
        lane: Lane,
        /// How many bytes of message bodies.
        bytes: usize,
    },
    /// A link that core asked for is open for messages.
    LinkUp {
        /// The link.
        link: LinkId,
    },
    /// A link is closed, or could not be opened. Nothing more will come by
    /// it, and nothing more need be hung up.
    LinkDown {
        /// The link.
        link: LinkId,
        /// Why, in words for a person.
        reason: String,
    },
    /// The driver's own description or candidate for a direct link.
    Local(Description),
    /// The answer to [`Output::Store`].
    Stored {
        /// The token of the order.
        token: u64,
        /// What storage says.
        result: Result<Stored, StoreError>,
    },
    /// The instant of the last [`Output::Wait`] has come, or nearly.
    Timeout,
}

/// What the node asks of the outside world. Drain until [`Output::Wait`].
#[derive(Debug)]
pub enum Output {
    /// Send a message, whole and in the order given within its lane.
    Send {
        /// The link.
        link: LinkId,
        /// The lane: a driver may let a more urgent lane pass a less urgent.
        lane: Lane,
        /// The message.
        bytes: Vec<u8>,
    },
    /// Open a link; answer with [`Input::LinkUp`] or [`Input::LinkDown`].
    Dial {
        /// The number the link shall have.
        link: LinkId,
        /// To where.
        to: Dial,
    },
    /// A peer's description or candidate, verified; hand it to the transport.
    Remote(Description),
    /// Close a link; no [`Input::LinkDown`] follows.
    Hangup {
        /// The link.
        link: LinkId,
    },
    /// Read or commit; answer with [`Input::Stored`]. Orders are carried out
    /// one after another as given: a read sees every commit before it.
    Store {
        /// Names the answer.
        token: u64,
        /// The order.
        op: StoreOp,
    },
    /// Something a person or program outside wants to know.
    Event(Event),
    /// Nothing more to do until this instant (or, with `None`, until an
    /// input): call with [`Input::Timeout`] then.
    Wait(Option<Instant>),
}

/// Where a link leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dial {
    /// A WebSocket to a relay.
    Relay {
        /// Its URL, `ws://` or `wss://`.
        url: String,
    },
    /// A WebRTC connection to a peer; descriptions go to and fro by
    /// [`Input::Local`] and [`Output::Remote`].
    Direct {
        /// The peer.
        peer: NodeId,
        /// Who makes the offer.
        role: Role,
    },
}

/// A peer's part in the negotiation of a direct link (RFC 8829).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Makes the offer at once.
    Offerer,
    /// Waits for the offer, then answers.
    Answerer,
}

/// One piece of the negotiation of a direct link. The text is opaque to core
/// apart from its fingerprint and ufrag lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The link it is about.
    pub link: LinkId,
    /// What the text is.
    pub kind: DescriptionKind,
    /// SDP (RFC 8866), or one `candidate:` line (RFC 8839).
    pub text: String,
}

/// What a [`Description`] holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum DescriptionKind {
    /// A session description that offers.
    Offer,
    /// A session description that answers.
    Answer,
    /// One more ICE candidate.
    Candidate,
}

/// What a node tells those who watch it.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A request has ended.
    Reply {
        /// Which.
        request: RequestId,
        /// How.
        reply: Reply,
    },
    /// The ring around this node, or the list of its members, changed.
    Ring,
    /// A link of this node came, went or changed its kind.
    Link,
    /// Something became of the session with a peer.
    Session {
        /// Whose.
        peer: NodeId,
        /// What.
        event: SessionEvent,
    },
    /// Something is wrong that a person should know of.
    Trouble(Trouble),
}
