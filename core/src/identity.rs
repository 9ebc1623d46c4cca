//! Who a node is: its keys, its network, and the record it signs.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use hkdf::Hkdf;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use x25519_dalek::{PublicKey, StaticSecret};

use crate::id::NodeId;
use crate::status::Class;

/// The longest name of a node or network, in bytes.
pub const NAME_LEN_MAX: usize = 64;

/// Home relays that a record names at most.
pub(crate) const HOME_COUNT_MAX: usize = 4;

/// A node's secret keys, all made from one seed of 32 random bytes that its
/// owner keeps.
pub struct Identity {
    id: NodeId,
    signing: SigningKey,
    agreement: StaticSecret,
}

impl Identity {
    /// The identity that belongs to a seed.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let signing = SigningKey::from_bytes(&derive(seed, b"roundelay ed25519"));
        let agreement = StaticSecret::from(derive(seed, b"roundelay x25519"));
        Self {
            id: NodeId::from_public_key(signing.verifying_key().as_bytes()),
            signing,
            agreement,
        }
    }

    /// The node's id.
    #[must_use]
    pub const fn id(&self) -> NodeId {
        self.id
    }

    pub(crate) fn agreement_secret(&self) -> [u8; 32] {
        self.agreement.to_bytes()
    }

    pub(crate) fn sign(&self, context: &[u8], message: &[u8]) -> SignatureBytes {
        SignatureBytes::from(self.signing.sign(&[context, message].concat()))
    }

    /// Signs the record that tells others of this node, before it is at home
    /// anywhere.
    pub(crate) fn record(&self, facts: Facts, network: &Network) -> Record {
        self.record_at(facts, Vec::new(), network)
    }

    /// The same with its home relays.
    pub(crate) fn record_at(&self, facts: Facts, homes: Vec<NodeId>, network: &Network) -> Record {
        let facts = RecordFacts {
            verifying_key: self.signing.verifying_key().to_bytes(),
            agreement_key: PublicKey::from(&self.agreement).to_bytes(),
            facts,
            homes,
        };
        let signature = self.sign(RECORD_CONTEXT, &facts.signed_bytes(network));
        Record { facts, signature }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({:?})", self.id)
    }
}

/// A network: nodes of different networks never route, list or deliver to one
/// another.
#[derive(Clone, PartialEq, Eq)]
pub struct Network {
    name: String,
    id: [u8; 32],
    key: [u8; 32],
}

/// Why a text is no name of a network or node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameError;

impl Network {
    /// The network with this name and secret (empty: none), by HKDF-SHA-256
    /// (RFC 5869) of the name under the secret.
    ///
    /// # Errors
    /// When the name is empty, longer than [`NAME_LEN_MAX`] bytes, or holds a
    /// control character.
    pub fn new(name: &str, secret: &[u8]) -> Result<Self, NameError> {
        if name.is_empty() {
            return Err(NameError);
        }
        check_name(name)?;
        let material = [secret, name.as_bytes()].concat();
        let salt = [b"roundelay network ".as_slice(), name.as_bytes()].concat();
        let hkdf = Hkdf::<Sha256>::new(Some(&salt), &material);
        let expand = |label: &[u8]| {
            let mut out = [0; 32];
            // 32 bytes are far below HKDF's limit of 8,160.
            let _ = hkdf.expand(label, &mut out);
            out
        };
        Ok(Self {
            name: name.into(),
            id: expand(b"id"),
            key: expand(b"key"),
        })
    }

    /// The network's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What stands for the name and the secret together, and tells neither.
    #[must_use]
    pub const fn id(&self) -> &[u8; 32] {
        &self.id
    }

    /// The secret that links are keyed with besides their ends' own keys.
    pub(crate) const fn key(&self) -> &[u8; 32] {
        &self.key
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Network({})", self.name)
    }
}

/// Checks the name of a node: at most [`NAME_LEN_MAX`] bytes, no control
/// characters; may be empty.
///
/// # Errors
/// When it is not so.
pub fn check_name(name: &str) -> Result<(), NameError> {
    if name.len() > NAME_LEN_MAX || name.chars().any(char::is_control) {
        return Err(NameError);
    }
    Ok(())
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a name has 1 to {NAME_LEN_MAX} bytes and no control characters"
        )
    }
}

impl core::error::Error for NameError {}

/// The part of a record that the node chooses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Grows at every start, so that a reloaded page is never taken for its
    /// ghost.
    pub epoch: u64,
    /// The node's class.
    pub class: Class,
    /// Its name, for people; may be empty.
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct RecordFacts {
    verifying_key: [u8; 32],
    agreement_key: [u8; 32],
    facts: Facts,
    homes: Vec<NodeId>,
}

/// What a node tells others of itself, signed with its Ed25519 key.
///
/// A record on the wire proves nothing: call [`Record::verify`] first, which
/// only members of the same network can pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    facts: RecordFacts,
    signature: SignatureBytes,
}

const RECORD_CONTEXT: &[u8] = b"roundelay record 1";

/// Why a signed thing was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadSignature;

impl Record {
    /// Checks that the holder of the keys signed this, for this network.
    ///
    /// # Errors
    /// When the signature or the name is not right, or the homes are too many.
    pub fn verify(&self, network: &Network) -> Result<(), BadSignature> {
        check_name(&self.facts.facts.name).map_err(|_| BadSignature)?;
        if self.facts.homes.len() > HOME_COUNT_MAX {
            return Err(BadSignature);
        }
        self.check(
            RECORD_CONTEXT,
            &self.facts.signed_bytes(network),
            &self.signature,
        )
    }

    /// Checks another signature by the holder of this record's key.
    pub(crate) fn check(
        &self,
        context: &[u8],
        message: &[u8],
        signature: &SignatureBytes,
    ) -> Result<(), BadSignature> {
        let key = VerifyingKey::from_bytes(&self.facts.verifying_key).map_err(|_| BadSignature)?;
        key.verify_strict(&[context, message].concat(), &signature.to_signature())
            .map_err(|_| BadSignature)
    }

    /// The node's id, by its public key.
    #[must_use]
    pub fn id(&self) -> NodeId {
        NodeId::from_public_key(&self.facts.verifying_key)
    }

    /// What the node says of itself.
    #[must_use]
    pub const fn facts(&self) -> &Facts {
        &self.facts.facts
    }

    /// The relays where the node attached since it started, by the ids of their
    /// own members, in that order: whoever has no path to the node finds one
    /// there.
    #[must_use]
    pub fn homes(&self) -> &[NodeId] {
        &self.facts.homes
    }

    /// Whether this was signed after another of the same node. From one start
    /// to the next, homes are only added.
    pub(crate) fn is_newer_than(&self, other: &Self) -> bool {
        let age = |record: &Self| (record.facts().epoch, record.homes().len());
        age(self) > age(other)
    }

    pub(crate) const fn agreement_key(&self) -> &[u8; 32] {
        &self.facts.agreement_key
    }
}

impl RecordFacts {
    fn signed_bytes(&self, network: &Network) -> Vec<u8> {
        let mut bytes = network.id().to_vec();
        bytes.extend(postcard::to_allocvec(self).unwrap_or_default());
        bytes
    }
}

/// An Ed25519 signature (RFC 8032) as two halves, which serde can carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SignatureBytes([u8; 32], [u8; 32]);

impl From<Signature> for SignatureBytes {
    fn from(signature: Signature) -> Self {
        Self(*signature.r_bytes(), *signature.s_bytes())
    }
}

impl SignatureBytes {
    fn to_signature(self) -> Signature {
        Signature::from_components(self.0, self.1)
    }
}

fn derive(seed: &[u8; 32], label: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    // 32 bytes are far below HKDF's limit of 8,160.
    let _ = Hkdf::<Sha256>::new(None, seed).expand(label, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(epoch: u64) -> Facts {
        Facts {
            epoch,
            class: Class::Durable,
            name: "n".into(),
        }
    }

    #[test]
    fn a_record_is_checked_against_key_and_network() {
        let network = Network::new("default", b"").unwrap();
        let identity = Identity::from_seed(&[1; 32]);
        let record = identity.record(facts(1), &network);
        assert_eq!(record.id(), identity.id());
        assert_eq!(record.verify(&network), Ok(()));
        let other = Network::new("default", b"secret").unwrap();
        assert_eq!(record.verify(&other), Err(BadSignature));
        let mut forged = record.clone();
        forged.facts.facts.epoch = 2;
        assert_eq!(forged.verify(&network), Err(BadSignature));
        let mut stolen = Identity::from_seed(&[2; 32]).record(facts(1), &network);
        stolen.facts.verifying_key = record.facts.verifying_key;
        assert_eq!(stolen.verify(&network), Err(BadSignature));
    }

    #[test]
    fn networks_differ_by_name_and_by_secret() {
        let id = |name, secret: &[u8]| *Network::new(name, secret).unwrap().id();
        assert_ne!(id("a", b""), id("b", b""));
        assert_ne!(id("a", b""), id("a", b"x"));
        assert_ne!(id("ab", b""), id("b", b"a"));
        assert_eq!(Network::new("", b""), Err(NameError));
        assert_eq!(Network::new(&"n".repeat(65), b""), Err(NameError));
        assert_eq!(Network::new("a\nb", b""), Err(NameError));
    }
}
