//! Signed pieces of the negotiation of a direct link. They may pass through
//! anyone's hands.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::Me;
use crate::event::DescriptionKind;
use crate::id::NodeId;
use crate::identity::{BadSignature, Record, SignatureBytes};
use crate::wire;

/// How long a description may be under way, in milliseconds.
pub(super) const LIFETIME_MS: u64 = 60 * 1000;

/// How far two nodes' clocks may differ, in milliseconds.
pub(super) const SKEW_MS_MAX: u64 = 5 * 60 * 1000;

/// The longest text of a description, in bytes.
const TEXT_LEN_MAX: usize = 16 * 1024;

const CONTEXT: &[u8] = b"roundelay signal 1";

/// What is signed, beside the network's id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Signal {
    pub(super) from: NodeId,
    pub(super) to: NodeId,
    pub(super) from_epoch: u64,
    pub(super) to_epoch: u64,
    /// Names the attempt; an answer and its candidates repeat the offer's.
    pub(super) attempt: u64,
    pub(super) kind: DescriptionKind,
    /// SDP or candidate: it holds the DTLS fingerprint and the ufrag, which
    /// are thereby signed.
    pub(super) text: String,
    pub(super) expiry_ms: u64,
}

/// A signal with its signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SignedSignal {
    pub(super) signal: Signal,
    signature: SignatureBytes,
}

/// Why a description was refused: each has a counter of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SignalError {
    /// The signature does not hold for this network and sender.
    Signature,
    /// It is meant for, or comes from, another node or another start of it.
    Epoch,
    /// Its time is over, or lies too far ahead.
    Expired,
    /// It has no fingerprint or ufrag, or is too long.
    Text,
    /// It came before.
    Replayed,
    /// The attempt that it belongs to is over, or never was. Candidates that
    /// come after the link is up do no harm.
    Late,
}

impl Signal {
    pub(super) fn sign(self, me: &Me) -> Vec<u8> {
        let signature = me.identity.sign(CONTEXT, &self.signed_bytes(me));
        wire::encode(&SignedSignal {
            signal: self,
            signature,
        })
    }

    fn signed_bytes(&self, me: &Me) -> Vec<u8> {
        wire::encode_head(me.network.id(), &wire::encode(self))
    }
}

impl SignedSignal {
    /// Checks everything but whether the attempt is known.
    pub(super) fn verify(
        self,
        me: &Me,
        sender: &Record,
        unix_ms: u64,
    ) -> Result<Signal, SignalError> {
        let signal = self.signal;
        if signal.to != me.identity.id()
            || signal.to_epoch != me.record.facts().epoch
            || signal.from != sender.id()
            || signal.from_epoch != sender.facts().epoch
        {
            return Err(SignalError::Epoch);
        }
        sender
            .check(CONTEXT, &signal.signed_bytes(me), &self.signature)
            .map_err(|BadSignature| SignalError::Signature)?;
        let latest = unix_ms.saturating_add(LIFETIME_MS + SKEW_MS_MAX);
        if signal.expiry_ms.saturating_add(SKEW_MS_MAX) < unix_ms || signal.expiry_ms > latest {
            return Err(SignalError::Expired);
        }
        if !is_usable(signal.kind, &signal.text) {
            return Err(SignalError::Text);
        }
        Ok(signal)
    }
}

/// Whether a text has what its kind must have.
pub(super) fn is_usable(kind: DescriptionKind, text: &str) -> bool {
    let has = |prefix: &str| text.lines().any(|line| line.trim().starts_with(prefix));
    text.len() <= TEXT_LEN_MAX
        && match kind {
            DescriptionKind::Offer | DescriptionKind::Answer => {
                has("a=fingerprint:sha-256 ") && has("a=ice-ufrag:")
            }
            DescriptionKind::Candidate => {
                text.is_empty() || text.trim_start_matches("a=").starts_with("candidate:")
            }
        }
}
