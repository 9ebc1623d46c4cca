//! The address at which a peer really is.
//!
//! `rtc` keeps to the pair of addresses that it selected first. A peer behind
//! a NAT that gives it another address then checks the path from there and is
//! answered, but what we send goes to where it was. So the new address stands
//! in for the selected one here, once it has shown three things: the peer's
//! password (`rtc` has answered a check from it), silence at the old address,
//! and an answer to a check of ours.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::stun::{Datagram, TransactionId, classify};

/// A selected address that has been silent for so long may have moved. Pages
/// check a path every 2.5 s; native peers that rest say nothing for longer, and
/// check no other path either.
const SILENCE: Duration = Duration::from_millis(2600);

/// The way to a peer, once there is one.
#[derive(Debug, Default)]
pub(super) struct Path(Option<Selected>);

#[derive(Debug)]
struct Selected {
    /// What `rtc` takes for the peer's address.
    name: SocketAddr,
    /// What it is.
    actual: SocketAddr,
    heard: Instant,
    /// An address that may have followed on the actual one.
    rival: Option<SocketAddr>,
    /// The last check that was sent to the name.
    check: TransactionId,
}

impl Path {
    /// The address under which `rtc` shall see a datagram.
    pub(super) fn on_received(
        &mut self,
        from: SocketAddr,
        bytes: &[u8],
        now: Instant,
    ) -> SocketAddr {
        let Some(selected) = &mut self.0 else {
            return from;
        };
        let kind = classify(bytes);
        if let Datagram::Success(id) = kind {
            if selected.rival == Some(from) {
                selected.actual = from;
                selected.rival = None;
            }
            if from == selected.actual {
                selected.heard = now;
                return if id == selected.check {
                    selected.name
                } else {
                    from
                };
            }
        } else if from == selected.actual {
            selected.heard = now;
            if kind == Datagram::Data {
                return selected.name;
            }
        }
        from
    }

    /// Whether `rtc` takes this for the peer's selected address.
    pub(super) fn is_selected(&self, name: SocketAddr) -> bool {
        self.0.as_ref().is_some_and(|one| one.name == name)
    }

    /// Whether a datagram checks the selected path.
    pub(super) fn is_check(&self, to: SocketAddr, bytes: &[u8]) -> bool {
        self.is_selected(to) && matches!(classify(bytes), Datagram::Request { .. })
    }

    /// Whether an address waits to be followed.
    pub(super) fn has_rival(&self) -> bool {
        self.0.as_ref().is_some_and(|one| one.rival.is_some())
    }

    /// Where a datagram that `rtc` addresses to `to` shall go, and where else.
    pub(super) fn on_sent(
        &mut self,
        to: SocketAddr,
        bytes: &[u8],
        now: Instant,
    ) -> (SocketAddr, Option<SocketAddr>) {
        let kind = classify(bytes);
        let Some(selected) = &mut self.0 else {
            if kind == Datagram::Data {
                self.0 = Some(Selected {
                    name: to,
                    actual: to,
                    heard: now,
                    rival: None,
                    check: TransactionId::default(),
                });
            }
            return (to, None);
        };
        match kind {
            Datagram::Success(_) => {
                let silent = now.saturating_duration_since(selected.heard) >= SILENCE;
                if to != selected.actual && silent {
                    selected.rival = Some(to);
                }
                (to, None)
            }
            Datagram::Request { id, .. } if to == selected.name => {
                selected.check = id;
                (selected.actual, selected.rival)
            }
            Datagram::Data if to == selected.name => (selected.actual, None),
            _ => (to, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: &[u8] = &[22, 254, 253, 0];

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    fn stun(class: u8, id: u8) -> Vec<u8> {
        let mut bytes = vec![class, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
        bytes.extend([id; 12]);
        bytes
    }

    #[test]
    fn a_peer_is_followed_once_it_answers_from_its_new_address() {
        let start = Instant::now();
        let (old, new) = (address(1), address(2));
        let (check, answer) = (stun(0, 1), stun(1, 1));
        let mut path = Path::default();
        assert_eq!(path.on_sent(old, DATA, start), (old, None));
        let late = start + SILENCE;
        assert_eq!(path.on_sent(new, &stun(1, 9), late), (new, None));
        assert_eq!(path.on_sent(old, &check, late), (old, Some(new)));
        assert_eq!(path.on_sent(old, DATA, late), (old, None));
        assert_eq!(path.on_received(new, &answer, late), old);
        assert_eq!(path.on_sent(old, DATA, late), (new, None));
        assert_eq!(path.on_sent(old, &check, late), (new, None));
        assert_eq!(path.on_received(new, DATA, late), old);
        // Checks from the new address are answered there.
        assert_eq!(path.on_received(new, &stun(0, 7), late), new);
    }

    #[test]
    fn a_peer_that_still_talks_is_not_moved() {
        let start = Instant::now();
        let (old, new) = (address(1), address(2));
        let mut path = Path::default();
        path.on_sent(old, DATA, start);
        let late = start + SILENCE;
        path.on_received(old, DATA, late);
        path.on_sent(new, &stun(1, 9), late);
        assert_eq!(path.on_sent(old, &stun(0, 1), late), (old, None));
        path.on_received(new, &stun(1, 1), late);
        assert_eq!(path.on_sent(old, DATA, late), (old, None));
    }
}
