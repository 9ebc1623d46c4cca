//! What two ends of a session say to each other.

use serde::{Deserialize, Serialize};

/// The head of every frame; a [`Body::Data`]'s bytes follow it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Message {
    /// The sender's incarnation.
    pub(super) from: u64,
    /// The receiver's.
    pub(super) to: u64,
    pub(super) body: Body,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Body {
    /// Bytes of the stream from this offset on; `end` if none follow.
    Data { offset: u64, end: bool },
    /// All before `next` arrived, and `room` more bytes may come. `gap` when
    /// something after `next` came first; `probe` echoes the probe answered.
    Ack {
        next: u64,
        room: u32,
        gap: bool,
        probe: u32,
    },
    /// Asks for an acknowledgement.
    Probe { number: u32 },
    /// The session is over.
    Reset,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{decode, encode};

    fn golden(body: Body, bytes: &[u8]) {
        let (from, to) = (300, 2);
        let message = Message { from, to, body };
        assert_eq!(encode(&message), bytes);
        assert_eq!(decode::<Message>(bytes), Ok(message));
    }

    #[test]
    fn bytes_stay_as_they_are() {
        let (offset, end) = (200, true);
        golden(Body::Data { offset, end }, &[172, 2, 2, 0, 200, 1, 1]);
        let ack = Body::Ack {
            next: 5,
            room: 6,
            gap: false,
            probe: 7,
        };
        golden(ack, &[172, 2, 2, 1, 5, 6, 0, 7]);
        golden(Body::Probe { number: 9 }, &[172, 2, 2, 2, 9]);
        golden(Body::Reset, &[172, 2, 2, 3]);
    }
}
