//! What two nodes say to one another: the layers' messages, wrapped.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::routed::Routed;
use crate::{kvs, ring};

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

impl Message {
    /// The name under which it is counted when it is sent.
    pub(super) const fn counter(&self) -> &'static str {
        match self {
            Self::Ring(message) => message.counter(),
            Self::Kvs { message, .. } => message.counter(),
            Self::Signal(_) => "sent_signal",
            Self::Routed(_) => "sent_routed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::RingId;
    use crate::rng::Rng;
    use crate::wire;

    fn hex(bytes: &[u8]) -> alloc::string::String {
        bytes
            .iter()
            .map(|byte| alloc::format!("{byte:02x}"))
            .collect()
    }

    /// Bytes on the wire are a promise to every other version: when this
    /// fails, the protocol's version has to rise.
    #[test]
    fn golden_bytes() {
        let ring = RingId::from_bytes([0xab; 16]);
        let stabilize = Message::Ring(ring::Message::stabilize(ring));
        assert_eq!(
            hex(&wire::encode(&stabilize)),
            alloc::format!("0002{}00", "ab".repeat(16))
        );
        let (one, two) = ("01".repeat(32), "02".repeat(32));
        let (three, four) = ("03".repeat(32), "04".repeat(64));
        assert_eq!(
            hex(&wire::encode(&Message::Routed(Routed::golden()))),
            alloc::format!("03{one}{two}0105{four}01{three}0003090807")
        );
        assert_eq!(hex(&wire::encode(&Message::Signal([5].into()))), "020105");
    }

    #[test]
    fn nothing_from_outside_panics() {
        let mut rng = Rng::from_seed([3; 32]);
        for length in 0..2000usize {
            let mut bytes: Vec<u8> = Vec::new();
            while bytes.len() < length % 200 {
                bytes.extend(rng.bytes::<8>());
            }
            // The first byte names a kind that exists.
            if let Some(first) = bytes.first_mut() {
                *first %= 4;
            }
            let _ = wire::decode::<Message>(&bytes);
        }
    }
}
