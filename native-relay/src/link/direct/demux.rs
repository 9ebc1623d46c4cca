//! Which link a datagram of the shared port belongs to.
//!
//! A check of a path names its link by ufrag, an answer by the transaction
//! that it answers, and all other traffic only by the address it comes from.
//! An address is given to a link only once it has answered a check of that
//! link: a mere claim, in a description or as the source of a datagram, could
//! take the traffic of another link away.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use roundelay_core::event::LinkId;

use super::stun::{Datagram, TransactionId, classify};

/// Source addresses from which one link takes checks; more are dropped. Each
/// becomes a remote candidate, and `rtc` keeps those for good.
const MAX_SOURCES: usize = 32;

/// Checks of ours that may be unanswered at one time, over all links; the
/// oldest are forgotten first.
const MAX_CHECKS: usize = 4096;

/// Where a datagram goes, and what it shows.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// The link it belongs to.
    pub(super) link: LinkId,
    /// It proves that the peer of that link answers at its source.
    pub(super) proof: bool,
}

#[derive(Debug, Default)]
struct Known {
    /// Grows with every link: of two that share an address, the later one
    /// keeps it.
    serial: u64,
    ufrags: Vec<String>,
    addresses: Vec<SocketAddr>,
    sources: Vec<SocketAddr>,
}

/// The tables.
#[derive(Debug, Default)]
pub(super) struct Demux {
    links: HashMap<LinkId, Known>,
    by_ufrag: HashMap<String, LinkId>,
    by_address: HashMap<SocketAddr, LinkId>,
    checks: HashMap<TransactionId, LinkId>,
    check_order: VecDeque<TransactionId>,
    next_serial: u64,
}

impl Demux {
    /// Begins to know a link.
    pub(super) fn add(&mut self, link: LinkId) {
        let serial = self.next_serial;
        self.next_serial += 1;
        self.links.insert(
            link,
            Known {
                serial,
                ..Known::default()
            },
        );
    }

    /// Forgets all about a link.
    pub(super) fn remove(&mut self, link: LinkId) {
        let Some(known) = self.links.remove(&link) else {
            return;
        };
        for ufrag in known.ufrags {
            self.by_ufrag.remove(&ufrag);
        }
        for address in known.addresses {
            if self.by_address.get(&address) == Some(&link) {
                self.by_address.remove(&address);
            }
        }
    }

    /// Checks that name `ufrag` are for `link`.
    pub(super) fn learn_ufrag(&mut self, link: LinkId, ufrag: &str) {
        if let Some(known) = self.links.get_mut(&link)
            && !known.ufrags.iter().any(|known| known == ufrag)
        {
            known.ufrags.push(ufrag.to_owned());
            self.by_ufrag.insert(ufrag.to_owned(), link);
        }
    }

    /// Notes a datagram of `link` that is about to leave.
    pub(super) fn on_sent(&mut self, link: LinkId, bytes: &[u8]) {
        let Datagram::Request { id, .. } = classify(bytes) else {
            return;
        };
        if self.check_order.len() >= MAX_CHECKS
            && let Some(oldest) = self.check_order.pop_front()
        {
            self.checks.remove(&oldest);
        }
        self.checks.insert(id, link);
        self.check_order.push_back(id);
    }

    /// Finds the link of a datagram.
    pub(super) fn route(&mut self, from: SocketAddr, bytes: &[u8]) -> Option<Route> {
        let (link, proof) = match classify(bytes) {
            Datagram::Request { ufrag, .. } => {
                let link = *self.by_ufrag.get(ufrag?)?;
                self.links.get_mut(&link)?.admit(from).then_some(())?;
                (link, false)
            }
            Datagram::Success(id) => (*self.checks.get(&id)?, true),
            Datagram::OtherStun => return None,
            Datagram::Data => (*self.by_address.get(&from)?, false),
        };
        self.links
            .contains_key(&link)
            .then_some(Route { link, proof })
    }

    /// Gives an address that has answered a check to its link. Answers the
    /// older link that has lost it thereby, if any.
    pub(super) fn prove(&mut self, link: LinkId, address: SocketAddr) -> Option<LinkId> {
        let serial = self.links.get(&link)?.serial;
        let owner = self.by_address.get(&address).copied();
        if owner == Some(link) {
            return None;
        }
        if let Some(owner) = owner
            && let Some(known) = self.links.get_mut(&owner)
        {
            if known.serial > serial {
                return None;
            }
            known.addresses.retain(|known| *known != address);
        }
        self.by_address.insert(address, link);
        self.links.get_mut(&link)?.addresses.push(address);
        owner
    }
}

impl Known {
    fn admit(&mut self, from: SocketAddr) -> bool {
        if self.sources.contains(&from) {
            return true;
        }
        if self.sources.len() >= MAX_SOURCES {
            return false;
        }
        self.sources.push(from);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: &[u8] = &[22, 254, 253, 0];

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    fn check(ufrag: &str, id: u8) -> Vec<u8> {
        let name = format!("{ufrag}:them");
        let padded = name.len().next_multiple_of(4);
        let mut bytes = vec![0, 1, 0, (padded + 4) as u8, 0x21, 0x12, 0xa4, 0x42];
        bytes.extend([id; 12]);
        bytes.extend([0, 6, 0, name.len() as u8]);
        bytes.extend(name.as_bytes());
        bytes.resize(24 + padded, 0);
        bytes
    }

    fn answer(id: u8) -> Vec<u8> {
        let mut bytes = vec![1, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
        bytes.extend([id; 12]);
        bytes
    }

    #[test]
    fn only_an_answered_check_gives_an_address_to_a_link() {
        let mut demux = Demux::default();
        let link = LinkId(1);
        demux.add(link);
        demux.learn_ufrag(link, "ours");
        let by_ufrag = demux.route(address(1), &check("ours", 1));
        assert_eq!(by_ufrag, Some(Route { link, proof: false }));
        assert_eq!(demux.route(address(1), DATA), None);
        demux.on_sent(link, &check("theirs", 2));
        let answered = demux.route(address(1), &answer(2));
        assert_eq!(answered, Some(Route { link, proof: true }));
        assert_eq!(demux.prove(link, address(1)), None);
        let data = demux.route(address(1), DATA);
        assert_eq!(data, Some(Route { link, proof: false }));
        demux.remove(link);
        assert_eq!(demux.route(address(1), DATA), None);
        assert_eq!(demux.route(address(1), &check("ours", 1)), None);
    }

    #[test]
    fn a_later_link_keeps_the_address_of_an_earlier_one() {
        let mut demux = Demux::default();
        demux.add(LinkId(1));
        demux.add(LinkId(2));
        assert_eq!(demux.prove(LinkId(1), address(1)), None);
        assert_eq!(demux.prove(LinkId(2), address(1)), Some(LinkId(1)));
        assert_eq!(demux.prove(LinkId(1), address(1)), None);
        let data = demux.route(address(1), DATA).map(|route| route.link);
        assert_eq!(data, Some(LinkId(2)));
    }

    #[test]
    fn tables_are_bounded() {
        let mut demux = Demux::default();
        demux.add(LinkId(1));
        demux.learn_ufrag(LinkId(1), "ours");
        let admitted = (0..100)
            .filter(|port| demux.route(address(*port), &check("ours", 1)).is_some())
            .count();
        assert_eq!(admitted, MAX_SOURCES);
        for id in 0..2 * MAX_CHECKS {
            let mut bytes = check("theirs", 0);
            bytes[8..12].copy_from_slice(&(id as u32).to_be_bytes());
            demux.on_sent(LinkId(1), &bytes);
        }
        assert_eq!(demux.checks.len(), MAX_CHECKS);
        assert_eq!(demux.check_order.len(), MAX_CHECKS);
    }
}
