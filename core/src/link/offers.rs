//! Offers taken lately, so that none is taken twice: a second time it would end
//! the link that the first one made.

use alloc::collections::VecDeque;

use super::signal::SKEW_MS_MAX;
use crate::id::NodeId;

/// Offers remembered. One more pushes out the oldest, which does no harm worth
/// a refusal: a link that a replay ends is made anew.
const OFFER_COUNT_MAX: usize = 4096;

/// Offers, for as long as each would be believed.
#[derive(Debug, Default)]
pub(super) struct Offers(VecDeque<Offer>);

#[derive(Debug)]
struct Offer {
    peer: NodeId,
    attempt: u64,
    expiry_ms: u64,
}

impl Offers {
    /// Notes a peer's offer; `false` when it was taken before.
    pub(super) fn note(
        &mut self,
        peer: NodeId,
        attempt: u64,
        expiry_ms: u64,
        unix_ms: u64,
    ) -> bool {
        self.0
            .retain(|offer| offer.expiry_ms.saturating_add(SKEW_MS_MAX) >= unix_ms);
        let mut known = self.0.iter();
        if known.any(|offer| offer.peer == peer && offer.attempt == attempt) {
            return false;
        }
        if self.0.len() >= OFFER_COUNT_MAX {
            self.0.pop_front();
        }
        self.0.push_back(Offer {
            peer,
            attempt,
            expiry_ms,
        });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_is_new_once_and_memory_is_bounded() {
        let mut offers = Offers::default();
        let peer = |first| NodeId::from_bytes([first; 32]);
        assert!(offers.note(peer(1), 7, 1_000, 900));
        assert!(offers.note(peer(2), 7, 1_000, 900));
        assert!(offers.note(peer(1), 8, 1_000, 900));
        assert!(!offers.note(peer(1), 7, 1_000, 1_000 + SKEW_MS_MAX));
        assert!(offers.note(peer(1), 9, 1_000_000, 1_001 + SKEW_MS_MAX));
        assert_eq!(offers.0.len(), 1, "what nobody believes is forgotten");
        for attempt in 0..2 * OFFER_COUNT_MAX as u64 {
            offers.note(peer(3), attempt, u64::MAX, 0);
        }
        assert_eq!(offers.0.len(), OFFER_COUNT_MAX);
    }
}
