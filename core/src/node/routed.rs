//! Messages for a node to which their sender has no path. They pass through
//! the hands of others, so that their sender signs them.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::event::Lane;
use crate::id::NodeId;
use crate::identity::{BadSignature, Network, Record, SignatureBytes};
use crate::link::Me;
use crate::wire;

/// How many members may pass a message on.
const HOPS_MAX: usize = 16;

/// How far a message's time may be off, in milliseconds: one that was kept for
/// longer is not believed.
const SKEW_MS_MAX: u64 = 5 * 60 * 1000;

const CONTEXT: &[u8] = b"roundelay routed 1";

/// A message on its way through others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Routed {
    pub(super) source: NodeId,
    pub(super) target: NodeId,
    pub(super) lane: Lane,
    at_ms: u64,
    /// Of all but the trail and the homes, and of the network.
    signature: SignatureBytes,
    /// Those who passed it on: none does twice.
    pub(super) trail: Vec<NodeId>,
    /// Where the target is at home, as its source knows: those who pass this
    /// on may never have heard of one that joins.
    pub(super) homes: Vec<NodeId>,
    pub(super) body: Vec<u8>,
}

/// Why a message is not believed: each has a counter of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RoutedError {
    /// Its source did not sign it for this network.
    Forged,
    /// It is too old, or from the future.
    Expired,
}

impl RoutedError {
    pub(super) const fn counter(self) -> &'static str {
        match self {
            Self::Forged => "message_forged",
            Self::Expired => "message_expired",
        }
    }
}

impl Routed {
    pub(super) fn sign(me: &Me, target: NodeId, lane: Lane, body: Vec<u8>, unix_ms: u64) -> Self {
        let source = me.identity.id();
        let signed = signed_bytes(&me.network, (&source, &target, lane, unix_ms, &body));
        Self {
            source,
            target,
            lane,
            at_ms: unix_ms,
            signature: me.identity.sign(CONTEXT, &signed),
            trail: [source].into(),
            homes: Vec::new(),
            body,
        }
    }

    /// Checks that the holder of this record sent it, and lately.
    pub(super) fn check(
        &self,
        source: &Record,
        network: &Network,
        unix_ms: u64,
    ) -> Result<(), RoutedError> {
        let facts = (
            &self.source,
            &self.target,
            self.lane,
            self.at_ms,
            &self.body[..],
        );
        if source.id() != self.source {
            return Err(RoutedError::Forged);
        }
        source
            .check(CONTEXT, &signed_bytes(network, facts), &self.signature)
            .map_err(|BadSignature| RoutedError::Forged)?;
        if self.at_ms.abs_diff(unix_ms) > SKEW_MS_MAX {
            return Err(RoutedError::Expired);
        }
        Ok(())
    }

    /// Notes one who passes this on; `false` when it went far enough.
    pub(super) fn pass(&mut self, own: NodeId) -> bool {
        let may = self.trail.len() < HOPS_MAX && !self.trail.contains(&own);
        self.trail.push(own);
        may
    }
}

fn signed_bytes(network: &Network, facts: (&NodeId, &NodeId, Lane, u64, &[u8])) -> Vec<u8> {
    wire::encode_head(network.id(), &wire::encode(&facts))
}

#[cfg(test)]
impl Routed {
    /// With bytes that are easy to write down.
    pub(super) fn golden() -> Self {
        Self {
            source: NodeId::from_bytes([1; 32]),
            target: NodeId::from_bytes([2; 32]),
            lane: Lane::Kv,
            at_ms: 5,
            signature: wire::decode(&[4; 64]).unwrap(),
            trail: [NodeId::from_bytes([3; 32])].into(),
            homes: Vec::new(),
            body: [9, 8, 7].into(),
        }
    }
}
