//! Sealing between two peers whose frames pass through others: Noise IK
//! (The Noise Protocol Framework, revision 34, section 7.5) with the
//! network's key as PSK, then numbered transport messages.
//!
//! The prologue binds both ids and the responder's epoch, so that a first
//! message can neither be sent on to another node nor to a later start of the
//! same one.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use snow::params::{
    BaseChoice, CipherChoice, DHChoice, HandshakeChoice, HandshakeModifier, HandshakeModifierList,
    HandshakePattern, HashChoice, NoiseParams,
};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState, StatelessTransportState};

use crate::id::NodeId;
use crate::identity::{Identity, Network, Record};
use crate::rng::Rng;

const PATTERN: &str = "Noise_IKpsk0_25519_ChaChaPoly_SHA256";

/// What sealing adds to a transport message, in bytes (the AEAD tag).
pub(super) const TAG_LEN: usize = 16;

/// What a first message adds to its payload: an ephemeral key, the sealed
/// static key, and two tags.
pub(super) const INIT_OVERHEAD: usize = 32 + 32 + 2 * TAG_LEN;

/// The other end is not who it should be, or the bytes are damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SealError;

impl From<snow::Error> for SealError {
    fn from(_: snow::Error) -> Self {
        Self
    }
}

/// The two ends of a handshake, as both have to know them.
pub(super) struct Ends {
    pub(super) initiator: NodeId,
    pub(super) responder: NodeId,
    pub(super) responder_epoch: u64,
}

impl Ends {
    fn prologue(&self, network: &Network) -> Vec<u8> {
        let mut bytes = network.id().to_vec();
        bytes.extend(self.initiator.as_bytes());
        bytes.extend(self.responder.as_bytes());
        bytes.extend(self.responder_epoch.to_be_bytes());
        bytes
    }
}

/// A handshake that waits for its answer.
pub(super) struct Initiation(Box<HandshakeState>);

impl Initiation {
    /// Starts a handshake; the payload travels with the first message.
    pub(super) fn start(
        identity: &Identity,
        network: &Network,
        peer: &Record,
        payload: &[u8],
        rng: &mut Rng,
    ) -> Result<(Self, Vec<u8>), SealError> {
        let ends = Ends {
            initiator: identity.id(),
            responder: peer.id(),
            responder_epoch: peer.facts().epoch,
        };
        let secret = identity.agreement_secret();
        let prologue = ends.prologue(network);
        let mut handshake = builder(rng)?
            .local_private_key(&secret)?
            .remote_public_key(peer.agreement_key())?
            .psk(0, network.key())?
            .prologue(&prologue)?
            .build_initiator()?;
        let message = write(payload, |payload, out| {
            handshake.write_message(payload, out)
        })?;
        Ok((Self(Box::new(handshake)), message))
    }

    /// Takes in the answer.
    pub(super) fn finish(mut self, message: &[u8]) -> Result<(Seal, Vec<u8>), SealError> {
        let payload = read(message, |message, out| self.0.read_message(message, out))?;
        Ok((Seal::new(*self.0)?, payload))
    }
}

/// A first message that was opened, and is to be answered.
pub(super) struct Acceptance {
    handshake: HandshakeState,
    pub(super) payload: Vec<u8>,
}

impl Acceptance {
    /// Opens a first message.
    pub(super) fn open(
        identity: &Identity,
        network: &Network,
        ends: &Ends,
        message: &[u8],
        rng: &mut Rng,
    ) -> Result<Self, SealError> {
        let secret = identity.agreement_secret();
        let prologue = ends.prologue(network);
        let mut handshake = builder(rng)?
            .local_private_key(&secret)?
            .psk(0, network.key())?
            .prologue(&prologue)?
            .build_responder()?;
        let payload = read(message, |message, out| handshake.read_message(message, out))?;
        Ok(Self { handshake, payload })
    }

    /// Whether the first message came from the holder of this record's key.
    pub(super) fn is_from(&self, record: &Record) -> bool {
        self.handshake.get_remote_static() == Some(record.agreement_key().as_slice())
    }

    /// Answers, which ends the handshake.
    pub(super) fn answer(mut self, payload: &[u8]) -> Result<(Seal, Vec<u8>), SealError> {
        let handshake = &mut self.handshake;
        let message = write(payload, |payload, out| {
            handshake.write_message(payload, out)
        })?;
        Ok((Seal::new(self.handshake)?, message))
    }
}

/// Seals and opens numbered messages. A message may be lost or come out of
/// order; a repeated one, or one older than the window, is refused.
pub(super) struct Seal {
    transport: Box<StatelessTransportState>,
    sent: u64,
    window: Window,
}

impl Seal {
    fn new(handshake: HandshakeState) -> Result<Self, SealError> {
        Ok(Self {
            transport: Box::new(handshake.into_stateless_transport_mode()?),
            sent: 0,
            window: Window::default(),
        })
    }

    /// Seals a message, and returns its number.
    pub(super) fn seal(&mut self, message: &[u8]) -> Result<(u64, Vec<u8>), SealError> {
        let number = self.sent;
        let transport = &self.transport;
        let sealed = write(message, |message, out| {
            transport.write_message(number, message, out)
        })?;
        self.sent += 1;
        Ok((number, sealed))
    }

    /// Whether no message of this number was opened, as far as is remembered.
    pub(super) fn is_new(&self, number: u64) -> bool {
        self.window.is_new(number)
    }

    /// Opens a message.
    pub(super) fn open(&mut self, number: u64, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        if !self.window.is_new(number) {
            return Err(SealError);
        }
        let transport = &self.transport;
        let message = read(sealed, |sealed, out| {
            transport.read_message(number, sealed, out)
        })?;
        self.window.mark(number);
        Ok(message)
    }
}

/// Which numbers came already (RFC 4303, section 3.4.3).
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    /// One past the highest number seen.
    next: u64,
    /// Bit `n`: number `next - 1 - n` was seen.
    seen: u128,
}

impl Window {
    fn is_new(&self, number: u64) -> bool {
        match self.next.checked_sub(number) {
            None | Some(0) => number < u64::MAX,
            Some(age @ 1..=128) => self.seen & (1 << (age - 1)) == 0,
            Some(_) => false,
        }
    }

    fn mark(&mut self, number: u64) {
        if number >= self.next {
            let shift = number - self.next + 1;
            self.seen = if shift < 128 { self.seen << shift } else { 0 };
            self.seen |= 1;
            self.next = number + 1;
        } else if let age @ 1..=128 = self.next - number {
            self.seen |= 1 << (age - 1);
        }
    }
}

fn write(
    message: &[u8],
    with: impl FnOnce(&[u8], &mut [u8]) -> Result<usize, snow::Error>,
) -> Result<Vec<u8>, SealError> {
    let mut out = vec![0; message.len() + INIT_OVERHEAD + TAG_LEN];
    let len = with(message, &mut out)?;
    out.truncate(len);
    Ok(out)
}

fn read(
    message: &[u8],
    with: impl FnOnce(&[u8], &mut [u8]) -> Result<usize, snow::Error>,
) -> Result<Vec<u8>, SealError> {
    let mut out = vec![0; message.len()];
    let len = with(message, &mut out)?;
    out.truncate(len);
    Ok(out)
}

fn builder<'a>(rng: &mut Rng) -> Result<Builder<'a>, SealError> {
    let resolver = Resolver { rng: rng.fork() };
    Ok(Builder::with_resolver(params(), Box::new(resolver)))
}

/// What [`PATTERN`] says: a page has no room for what would parse it.
fn params() -> NoiseParams {
    let handshake = HandshakeChoice {
        pattern: HandshakePattern::IK,
        modifiers: HandshakeModifierList {
            list: [HandshakeModifier::Psk(0)].into(),
        },
    };
    NoiseParams::new(
        PATTERN.into(),
        BaseChoice::Noise,
        handshake,
        DHChoice::Curve25519,
        CipherChoice::ChaChaPoly,
        HashChoice::SHA256,
    )
}

/// snow's own primitives, of which it takes in no others than [`params`] names,
/// but randomness from core's seed.
struct Resolver {
    rng: Rng,
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(self.rng.clone()))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        (*choice == DHChoice::Curve25519)
            .then(|| DefaultResolver.resolve_dh(&DHChoice::Curve25519))?
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        (*choice == HashChoice::SHA256)
            .then(|| DefaultResolver.resolve_hash(&HashChoice::SHA256))?
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        (*choice == CipherChoice::ChaChaPoly)
            .then(|| DefaultResolver.resolve_cipher(&CipherChoice::ChaChaPoly))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Facts;
    use crate::status::Class;

    #[test]
    fn the_parameters_are_what_the_pattern_says() {
        assert_eq!(params(), PATTERN.parse().unwrap());
    }

    fn node(seed: u8) -> (Identity, Record, Network) {
        let identity = Identity::from_seed(&[seed; 32]);
        let network = Network::new("test", b"").unwrap();
        let facts = Facts {
            epoch: 7,
            class: Class::Durable,
            name: "".into(),
        };
        let record = identity.record(facts, &network);
        (identity, record, network)
    }

    fn ends(a: &Identity, b: &Identity, responder_epoch: u64) -> Ends {
        Ends {
            initiator: a.id(),
            responder: b.id(),
            responder_epoch,
        }
    }

    #[test]
    fn two_ends_agree_and_third_ones_do_not() {
        let ((a, a_record, network), (b, b_record, _), mut rng) =
            (node(1), node(2), Rng::from_seed([0; 32]));
        let (initiation, first) =
            Initiation::start(&a, &network, &b_record, b"hello", &mut rng).unwrap();
        let open = |ends: &Ends, rng: &mut Rng| Acceptance::open(&b, &network, ends, &first, rng);
        assert!(open(&ends(&a, &b, 8), &mut rng).is_err());
        assert!(open(&ends(&b, &a, 7), &mut rng).is_err());
        let acceptance = open(&ends(&a, &b, 7), &mut rng).unwrap();
        assert_eq!(acceptance.payload, b"hello");
        assert!(acceptance.is_from(&a_record));
        assert!(!acceptance.is_from(&b_record));
        let (mut there, second) = acceptance.answer(b"welcome").unwrap();
        let (mut here, payload) = initiation.finish(&second).unwrap();
        assert_eq!(payload, b"welcome");

        let (number, sealed) = here.seal(b"one").unwrap();
        assert_eq!(there.open(number, &sealed).unwrap(), b"one");
        assert!(there.open(number, &sealed).is_err(), "a replay is refused");
        let (number, mut sealed) = here.seal(b"two").unwrap();
        sealed[0] ^= 1;
        assert!(there.open(number, &sealed).is_err(), "damage is noticed");
        sealed[0] ^= 1;
        assert_eq!(there.open(number, &sealed).unwrap(), b"two");
    }

    #[test]
    fn another_secret_does_not_open() {
        let ((a, _, network), (b, b_record, _), mut rng) =
            (node(1), node(2), Rng::from_seed([0; 32]));
        let (_, first) = Initiation::start(&a, &network, &b_record, b"", &mut rng).unwrap();
        let other = Network::new("test", b"secret").unwrap();
        let opened = Acceptance::open(&b, &other, &ends(&a, &b, 7), &first, &mut rng);
        assert!(opened.is_err());
    }

    #[test]
    fn the_window_slides() {
        let mut window = Window::default();
        for number in [0, 2, 1, 300, 299] {
            assert!(window.is_new(number));
            window.mark(number);
            assert!(!window.is_new(number));
        }
        assert!(!window.is_new(3), "older than the window");
        assert!(window.is_new(200));
    }
}
