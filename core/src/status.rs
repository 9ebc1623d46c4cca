//! What a node tells about itself, in the words of the HTTP and JS APIs.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::flat::FlatMap;
use crate::id::NodeId;

/// Whether a node keeps what it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// It has a disk: a relay or a headless node. May vote.
    Durable,
    /// A page: it may be gone at any moment, and never votes.
    Transient,
}

/// The status of a node: `GET /v1/status` and `peer.status()`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// The node's id.
    #[serde(serialize_with = "text")]
    pub id: NodeId,
    /// Grows at every start of the node.
    pub epoch: u64,
    /// Its class.
    pub class: Class,
    /// Its name, for people; may be empty.
    pub name: String,
    /// The network's name.
    pub network: String,
    /// The ring's id in base32, once the node is in one.
    pub ring_id: Option<String>,
    /// Whether the node is a member of a ring, and filled where it votes.
    pub ready: bool,
    /// The next member counter-clockwise.
    #[serde(serialize_with = "option_text")]
    pub predecessor: Option<NodeId>,
    /// The next members clockwise, nearest first, without the node itself.
    #[serde(serialize_with = "list_text")]
    pub successors: Vec<NodeId>,
    /// Its paths to other members, one for each peer.
    pub links: Vec<LinkStatus>,
    /// Its relays.
    pub relays: Vec<RelayStatus>,
    /// Its share of the store.
    pub store: StoreStatus,
    /// What it said and heard lately.
    pub rate: TrafficRate,
    /// Counters by name, since the start of the node.
    pub counters: FlatMap<&'static str, u64>,
}

/// The best path to one peer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LinkStatus {
    /// The peer.
    #[serde(serialize_with = "text")]
    pub peer: NodeId,
    /// What the path runs over.
    pub kind: LinkKind,
    /// Smoothed round-trip time in milliseconds, once measured.
    pub rtt_ms: Option<f64>,
    /// Bytes of messages received from the peer over every path of this kind.
    pub bytes_in: u64,
    /// Bytes of messages sent likewise.
    pub bytes_out: u64,
}

/// What a path runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkKind {
    /// Sealed frames through a relay.
    Relay,
    /// A WebRTC data channel.
    Direct,
}

/// The state of one configured relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RelayStatus {
    /// Its URL.
    pub url: String,
    /// What this node has of it.
    pub state: RelayState,
}

/// The state of the way to a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RelayState {
    /// Being dialled, or proving who we are.
    Connecting,
    /// It knows us, and carries frames.
    Attached,
    /// Gone; redialled after a pause.
    Lost,
}

/// Messages of a node over all its links, each second, on an average of the
/// last minute. Keep-alives of transports are not among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct TrafficRate {
    /// Frames received.
    pub frames_in: f64,
    /// Their bytes.
    pub bytes_in: f64,
    /// Frames sent.
    pub frames_out: f64,
    /// Their bytes.
    pub bytes_out: f64,
}

/// A node's share of the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StoreStatus {
    /// Records held, tombstones included.
    pub records: u64,
    /// Bytes of keys and values held.
    pub bytes: u64,
    /// Records in the slots where this node votes that are not on min(3,
    /// durable members) live, filled voters.
    pub under_replicated: u64,
    /// Slots served by one voter of two.
    pub degraded: u64,
    /// Whether this node's storage takes writes. Its driver knows.
    pub state: StoreState,
}

/// Whether a node's storage takes writes; what it holds is read all the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreState {
    /// It does.
    #[default]
    Ok,
    /// It refuses them: there is no room.
    Full,
    /// It refuses them: its medium fails.
    Failing,
}

/// The ring as a node knows it: `GET /v1/ring` and `peer.ring()`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RingStatus {
    /// The ring's id in base32, once the node is in one.
    pub ring_id: Option<String>,
    /// The members, this node included, clockwise from position zero. Whoever
    /// left or died is none.
    pub members: Vec<MemberStatus>,
}

/// One member of the ring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemberStatus {
    /// Its id.
    #[serde(serialize_with = "text")]
    pub id: NodeId,
    /// Its name, for people; may be empty.
    pub name: String,
    /// Its class.
    pub class: Class,
    /// Alive, or suspect.
    pub state: MemberState,
}

/// Whether a member lives, as far as a node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberState {
    /// It answers.
    Alive,
    /// It does not answer, and is routed around.
    Suspect,
    /// It said that it goes.
    Left,
    /// It is gone.
    Dead,
}

/// Where a key lives: `peer.locate()` and `GET /v1/locate/{key}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Location {
    /// The slot of the key's bucket.
    pub slot: u16,
    /// The number of the slot's view, zero while none is known.
    pub view: u64,
    /// Those who vote on it.
    #[serde(serialize_with = "list_text")]
    pub voters: Vec<NodeId>,
    /// Those who keep further copies.
    #[serde(serialize_with = "list_text")]
    pub mirrors: Vec<NodeId>,
}

fn text<S: serde::Serializer>(id: &NodeId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

fn option_text<S: serde::Serializer>(
    id: &Option<NodeId>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match id {
        Some(id) => serializer.collect_str(id),
        None => serializer.serialize_none(),
    }
}

fn list_text<S: serde::Serializer>(ids: &[NodeId], serializer: S) -> Result<S::Ok, S::Error> {
    use alloc::string::ToString;
    serializer.collect_seq(ids.iter().map(ToString::to_string))
}
