//! Bytes: postcard, and nothing else, on every wire and in every store.

use alloc::vec::Vec;
use core::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Ends that speak different versions refuse each other when they attach.
pub const PROTOCOL_VERSION: u16 = 6;

/// The longest message between two peers, before it is cut into fragments: a
/// value of 1 MiB, its key, and room for what travels with it.
pub const MESSAGE_LEN_MAX: usize = (1 << 20) + 16 * 1024;

/// The longest frame on any link: what a data channel carries everywhere.
pub const FRAME_LEN_MAX: usize = 64 * 1024 - 1;

/// Bytes that are no message of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError;

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a message of this protocol")
    }
}

impl core::error::Error for DecodeError {}

/// Encodes a message.
#[must_use]
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    // Into a growing vector, our own types cannot fail to encode.
    postcard::to_allocvec(message).unwrap_or_default()
}

/// Decodes a message, whole: trailing bytes are an error.
///
/// # Errors
/// When the bytes are not exactly one message of the type.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Ok(message),
        _ => Err(DecodeError),
    }
}

/// Decodes a header, and returns what follows it.
///
/// # Errors
/// When the bytes do not begin with a header of the type.
pub(crate) fn decode_head<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, &[u8]), DecodeError> {
    postcard::take_from_bytes(bytes).map_err(|_| DecodeError)
}

/// Encodes a header followed by a body.
pub(crate) fn encode_head<T: Serialize>(head: &T, body: &[u8]) -> Vec<u8> {
    encode_head_of(head, &[body])
}

/// Encodes a header followed by a body in parts.
pub(crate) fn encode_head_of<T: Serialize>(head: &T, body: &[&[u8]]) -> Vec<u8> {
    let len: usize = body.iter().map(|part| part.len()).sum();
    let mut bytes = Vec::with_capacity(len + 32);
    bytes = postcard::to_extend(head, bytes).unwrap_or_default();
    for part in body {
        bytes.extend_from_slice(part);
    }
    bytes
}
