//! What two peers send one another on a path: messages, whole or in
//! fragments, and probes.

use alloc::vec;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::flat::FlatMap;
use crate::wire::{self, DecodeError, FRAME_LEN_MAX, MESSAGE_LEN_MAX};

/// The longest body of one frame: what is left when a frame is sealed and
/// handed through a relay.
pub(crate) const BODY_LEN_MAX: usize = FRAME_LEN_MAX - 512;

/// Messages of one peer that may be incomplete at once. When one more begins,
/// the oldest is given up: its sender will ask again.
const PARTIAL_COUNT_MAX: usize = 4;

/// The head of a frame; a body follows [`Frame::Message`], [`Frame::Fragment`] and
/// [`Frame::Session`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Frame {
    /// A whole message.
    Message,
    /// A part of a message.
    Fragment {
        /// Which message of this peer's.
        message: u32,
        /// Which part, from zero.
        index: u16,
        /// How many parts there are.
        count: u16,
    },
    /// Answer with [`Frame::Pong`] at once.
    Ping { nonce: u32 },
    /// The answer.
    Pong { nonce: u32 },
    /// The sender closes this path, and means it.
    Bye,
    /// The sender has no room for this direct link, and lives on: the receiver
    /// closes it.
    Release,
    /// A frame of a session; the sender named this path for it.
    Session,
}

impl Frame {
    pub(super) fn encode(self, body: &[u8]) -> Vec<u8> {
        wire::encode_head(&self, body)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<(Self, &[u8]), DecodeError> {
        wire::decode_head(bytes)
    }
}

/// Cuts a message into frames; `number` names it when it needs several.
pub(super) fn split(message: &[u8], number: u32) -> Vec<Vec<u8>> {
    if message.len() <= BODY_LEN_MAX {
        return vec![Frame::Message.encode(message)];
    }
    let parts = message.chunks(BODY_LEN_MAX);
    let count = u16::try_from(parts.len()).unwrap_or(u16::MAX);
    (0..)
        .zip(parts)
        .map(|(index, part)| {
            let head = Frame::Fragment {
                message: number,
                index,
                count,
            };
            head.encode(part)
        })
        .collect()
}

/// Puts one peer's fragments together again.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    partial: FlatMap<u32, Partial>,
}

#[derive(Debug)]
struct Partial {
    parts: Vec<Option<Vec<u8>>>,
    missing: usize,
}

impl Assembly {
    /// Takes in a fragment; returns the message that it completes.
    pub(super) fn add(
        &mut self,
        message: u32,
        index: u16,
        count: u16,
        body: &[u8],
    ) -> Result<Option<Vec<u8>>, DecodeError> {
        let (index, count) = (usize::from(index), usize::from(count));
        if index >= count
            || count < 2
            || count > MESSAGE_LEN_MAX.div_ceil(BODY_LEN_MAX)
            || body.len() > BODY_LEN_MAX
        {
            return Err(DecodeError);
        }
        let partial = self.partial.entry(message).or_insert_with(|| Partial {
            parts: vec![None; count],
            missing: count,
        });
        if partial.parts.len() != count {
            return Err(DecodeError);
        }
        let part = partial.parts.get_mut(index).ok_or(DecodeError)?;
        if part.is_none() {
            *part = Some(body.to_vec());
            partial.missing -= 1;
        }
        if partial.missing == 0 {
            let done = self.partial.remove(&message);
            return Ok(done.map(|partial| partial.parts.into_iter().flatten().flatten().collect()));
        }
        if self.partial.len() > PARTIAL_COUNT_MAX {
            self.partial.pop_first();
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_survives_reordering_and_repeats() {
        let message: Vec<u8> = (0..MESSAGE_LEN_MAX).map(|n| (n % 251) as u8).collect();
        let mut frames = split(&message, 9);
        assert!(frames.iter().all(|frame| frame.len() <= FRAME_LEN_MAX));
        frames.reverse();
        frames.insert(3, frames[0].clone());
        let mut assembly = Assembly::default();
        let mut done = None;
        for frame in &frames {
            let (
                Frame::Fragment {
                    message,
                    index,
                    count,
                },
                body,
            ) = Frame::decode(frame).unwrap()
            else {
                panic!("a fragment")
            };
            let added = assembly.add(message, index, count, body).unwrap();
            done = done.or(added);
        }
        assert_eq!(done, Some(message));
    }

    #[test]
    fn absurd_fragments_are_refused_and_memory_is_bounded() {
        let mut assembly = Assembly::default();
        assert!(assembly.add(1, 0, 0, b"").is_err());
        assert!(assembly.add(1, 0, u16::MAX, b"").is_err());
        assert!(assembly.add(1, 5, 2, b"").is_err());
        for message in 0..100 {
            assembly.add(message, 0, 3, b"x").unwrap();
        }
        assert!(assembly.partial.len() <= PARTIAL_COUNT_MAX);
    }
}
