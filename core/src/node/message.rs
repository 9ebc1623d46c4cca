//! What two nodes say to one another: the layers' messages, wrapped.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::event::Lane;
use crate::id::NodeId;
use crate::{kvs, ring};

/// How many members may pass a message on.
const HOPS_MAX: usize = 16;

/// Everything that goes from node to node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Message {
    Ring(ring::Message),
    /// Of the ring with this tag: a node of another ring ignores it.
    Kvs {
        ring: u32,
        message: kvs::Message,
    },
    /// A signed description for the target's link layer.
    Signal(Vec<u8>),
    /// Something for another node.
    Routed(Routed),
}

/// A message for a node to which the sender has no path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Routed {
    pub(super) source: NodeId,
    pub(super) target: NodeId,
    pub(super) lane: Lane,
    /// Those who passed it on: none does twice.
    pub(super) trail: Vec<NodeId>,
    pub(super) body: Vec<u8>,
}

impl Routed {
    pub(super) fn new(source: NodeId, target: NodeId, lane: Lane, body: Vec<u8>) -> Self {
        Self {
            source,
            target,
            lane,
            trail: [source].into(),
            body,
        }
    }

    /// Notes one who passes this on; `false` when it went far enough.
    pub(super) fn pass(&mut self, own: NodeId) -> bool {
        let may = self.trail.len() < HOPS_MAX && !self.trail.contains(&own);
        self.trail.push(own);
        may
    }
}
