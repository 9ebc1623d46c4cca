//! What a node and a relay say to each other: proof of key and network, then
//! frames to and from other peers.
//!
//! ```text
//! node                                 relay
//!   |        <-- Challenge(nonce) ---    |   as soon as the link is open
//!   |  --- Attach(record, proofs) -->    |
//!   |        <-- Welcome(member) -----   |   or Refused(why)
//!   |  === Forward(to) / Deliver(from) === Gone(peer)
//! ```

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use hkdf::hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::id::NodeId;
use crate::identity::{Identity, Network, Record, SignatureBytes};
use crate::wire::{self, DecodeError};

const ATTACH_CONTEXT: &[u8] = b"roundelay attach 1";

/// From a node to its relay. [`ToRelay::Forward`] is followed by the body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ToRelay {
    /// The answer to the challenge.
    Attach(Box<Attach>),
    /// Hand the body that follows to a peer.
    Forward {
        /// The peer.
        to: NodeId,
    },
}

/// From a relay to a node. [`FromRelay::Deliver`] is followed by the body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum FromRelay {
    /// The first frame on every link.
    Challenge {
        /// The relay's protocol version.
        version: u16,
        /// What the node has to sign.
        nonce: [u8; 32],
    },
    /// The node is attached.
    Welcome {
        /// The relay's own member of the ring: the way in.
        member: Record,
    },
    /// The node is not attached, and the relay hangs up.
    Refused(Refusal),
    /// A frame from a peer follows.
    Deliver {
        /// The peer, attached to this relay by proof of its key.
        from: NodeId,
    },
    /// A peer that this node exchanged frames with, or just tried to, is not
    /// attached to this relay.
    Gone {
        /// The peer.
        peer: NodeId,
    },
}

/// A node's proof of key and network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attach {
    pub(crate) version: u16,
    /// Which network is meant. Its secret is proved, never sent.
    pub(crate) network: String,
    pub(crate) record: Record,
    /// HMAC-SHA-256 of the nonce and the id under the network's key.
    network_proof: [u8; 32],
    /// The node's signature of the nonce.
    key_proof: SignatureBytes,
}

/// Why a relay refuses a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// It speaks another version of the protocol.
    Version,
    /// It serves no network of that name with that secret.
    Network,
    /// The record or the proof of its key does not hold.
    Proof,
    /// It has no room for one more.
    Full,
    /// What it received was no message of this protocol.
    Malformed,
    /// The same node attached again elsewhere.
    Replaced,
    /// It sent more, or read less, than the relay bears.
    Limits,
}

impl Attach {
    pub(crate) fn new(
        nonce: &[u8; 32],
        identity: &Identity,
        record: &Record,
        network: &Network,
    ) -> Self {
        Self {
            version: wire::PROTOCOL_VERSION,
            network: network.name().into(),
            record: record.clone(),
            network_proof: proof(nonce, &identity.id(), network)
                .map(|mac| mac.finalize().into_bytes().into())
                .unwrap_or_default(),
            key_proof: identity.sign(ATTACH_CONTEXT, &signed_bytes(nonce, network)),
        }
    }

    /// Checks everything that this claims about a network.
    pub(crate) fn verify(&self, nonce: &[u8; 32], network: &Network) -> Result<(), Refusal> {
        if self.version != wire::PROTOCOL_VERSION {
            return Err(Refusal::Version);
        }
        proof(nonce, &self.record.id(), network)
            .and_then(|mac| mac.verify_slice(&self.network_proof).ok())
            .ok_or(Refusal::Network)?;
        self.record.verify(network).map_err(|_| Refusal::Proof)?;
        self.record
            .check(
                ATTACH_CONTEXT,
                &signed_bytes(nonce, network),
                &self.key_proof,
            )
            .map_err(|_| Refusal::Proof)
    }
}

impl ToRelay {
    pub(crate) fn encode(&self) -> Vec<u8> {
        wire::encode(self)
    }

    pub(crate) fn forward(to: NodeId, body: &[u8]) -> Vec<u8> {
        wire::encode_head(&Self::Forward { to }, body)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<(Self, &[u8]), DecodeError> {
        wire::decode_head(bytes)
    }
}

impl FromRelay {
    pub(crate) fn encode(&self) -> Vec<u8> {
        wire::encode(self)
    }

    pub(crate) fn deliver(from: NodeId, body: &[u8]) -> Vec<u8> {
        wire::encode_head(&Self::Deliver { from }, body)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<(Self, &[u8]), DecodeError> {
        wire::decode_head(bytes)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Version => "it speaks another version of the protocol: update the older one",
            Self::Network => "it serves no network of this name with this secret: check both",
            Self::Proof => "the proof of this node's key does not hold",
            Self::Full => "it has no room for one more node",
            Self::Malformed => "it received what is no message of this protocol",
            Self::Replaced => "this node attached again elsewhere: is its identity used twice?",
            Self::Limits => "this node sent more, or read less, than the relay bears",
        })
    }
}

fn proof(nonce: &[u8; 32], id: &NodeId, network: &Network) -> Option<Hmac<Sha256>> {
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(network.key()).ok()?;
    mac.update(ATTACH_CONTEXT);
    mac.update(nonce);
    mac.update(id.as_bytes());
    Some(mac)
}

fn signed_bytes(nonce: &[u8; 32], network: &Network) -> Vec<u8> {
    [nonce.as_slice(), network.id()].concat()
}
