//! Randomness as an argument: a stream cipher seeded by the driver.

use core::time::Duration;

use rand_chacha::ChaCha12Rng;
use rand_core::{RngCore, SeedableRng};

/// A deterministic stream of random bytes (ChaCha12), made from the seed that
/// the driver gives to [`Node::new`](crate::Node::new).
#[derive(Clone, Debug)]
pub(crate) struct Rng(ChaCha12Rng);

impl Rng {
    pub(crate) fn from_seed(seed: [u8; 32]) -> Self {
        Self(ChaCha12Rng::from_seed(seed))
    }

    /// An independent stream, so that one part's use does not shift another's.
    pub(crate) fn fork(&mut self) -> Self {
        Self::from_seed(self.bytes())
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A duration drawn evenly from `[half, whole)` of `whole`: the jitter that
    /// keeps many nodes' timers from falling on one instant.
    pub(crate) fn jitter(&mut self, whole: Duration) -> Duration {
        let half = u64::try_from(whole.as_micros() / 2)
            .unwrap_or(u64::MAX)
            .max(1);
        Duration::from_micros(half.saturating_add(self.next_u64() % half))
    }
}

impl snow::types::Random for Rng {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), snow::Error> {
        self.0.fill_bytes(dest);
        Ok(())
    }
}
