//! How often one peer may open a session: each first message costs this node
//! several Diffie-Hellman agreements before it can tell whether it is genuine.

use core::time::Duration;

use crate::flat::FlatMap;
use crate::id::NodeId;
use crate::time::Instant;

/// What one first message costs its sender, in time.
const PRICE: Duration = Duration::from_millis(250);
/// How far ahead of payment a peer may be.
const CREDIT: Duration = Duration::from_secs(5);
/// Peers that are in debt at once; further ones have to wait.
const DEBTOR_COUNT_MAX: usize = 4096;

/// Until when each peer has spent its time.
#[derive(Debug, Default)]
pub(super) struct Pace(FlatMap<NodeId, Instant>);

impl Pace {
    /// Lets a peer pay for a first message; `false` when it sends too many.
    pub(super) fn admit(&mut self, peer: NodeId, now: Instant) -> bool {
        if self.0.len() >= DEBTOR_COUNT_MAX {
            self.0.retain(|_, spent| *spent > now);
        }
        let full = self.0.len() >= DEBTOR_COUNT_MAX;
        match self.0.get_mut(&peer) {
            Some(spent) => {
                *spent = (*spent).max(now);
                if *spent > now + CREDIT {
                    return false;
                }
                *spent += PRICE;
            }
            None if full => return false,
            None => {
                self.0.insert(peer, now + PRICE);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_sends_too_many_waits_and_others_do_not() {
        let mut pace = Pace::default();
        let peer = |number: u16| {
            let [a, b] = number.to_be_bytes();
            let mut bytes = [a; 32];
            bytes[1] = b;
            NodeId::from_bytes(bytes)
        };
        let now = Instant::from_micros(7);
        let admitted = (0..1_000).filter(|_| pace.admit(peer(0), now)).count();
        assert_eq!(admitted, 21);
        assert!(pace.admit(peer(1), now));
        assert!(pace.admit(peer(0), now + PRICE));
        assert!(!pace.admit(peer(0), now + PRICE));
        for number in 0..=u16::MAX {
            pace.admit(peer(number), now);
        }
        assert!(pace.0.len() <= DEBTOR_COUNT_MAX);
        assert!(!pace.admit(peer(50_000), now));
        assert!(pace.admit(peer(50_000), now + CREDIT * 2), "debts are paid");
    }
}
