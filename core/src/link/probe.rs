//! Peers that say nothing are asked whether they live.

use alloc::vec::Vec;
use core::time::Duration;

use super::frame::Frame;
use super::peer::Probe;
use super::{DownCause, LinkEvent, Links};
use crate::event::Lane;
use crate::id::NodeId;
use crate::time::{Instant, Now};

/// How long a direct link may be silent while its peer answers by a relay.
const DIRECT_SILENCE: Duration = Duration::from_secs(4);

impl Links {
    pub(super) fn probe(&mut self, now: Now) {
        for id in self
            .watched
            .union(&self.doubted)
            .copied()
            .collect::<Vec<_>>()
        {
            let Some(peer) = self.peers.get_mut(&id) else {
                continue;
            };
            match peer.probe(self.doubted.contains(&id), now.mono) {
                Probe::Rest => {}
                Probe::Ask => self.ping(&id, now),
                Probe::GiveUp => {
                    self.counters.add("peer_silent");
                    self.doubted.remove(&id);
                    self.end_peer(&id, DownCause::Silent);
                    if let Some(peer) = self.peers.get_mut(&id) {
                        peer.set_gone(now.mono);
                    }
                }
            }
        }
    }

    pub(super) fn ping(&mut self, to: &NodeId, now: Now) {
        let [a, b, c, d, ..] = self.me.rng.next_u64().to_be_bytes();
        let nonce = u32::from_be_bytes([a, b, c, d]);
        let again = self
            .peers
            .get_mut(to)
            .is_some_and(|peer| peer.ping_sent(nonce, now.mono) > 1);
        self.counters.add("sent_ping");
        let ping = Frame::Ping { nonce }.encode(&[]);
        if again && self.directs.link(to).is_some() {
            // A direct link is silent for a second when a datagram is lost
            // (the shortest time-out of SCTP, RFC 9260, 16): asked by the
            // other way, too.
            let _ = self.send_relayed(to, Lane::Control, ping.clone(), now);
        }
        let _ = self.send_frame(to, Lane::Control, ping, now);
    }

    /// A peer lives, as the relayed way shows: a direct link that is silent for
    /// longer than it takes to send again is of no use.
    pub(super) fn drop_silent_direct(&mut self, id: &NodeId, now: Instant) {
        let peer = self.peers.get(id);
        let silent = peer.is_some_and(|peer| now.since(peer.direct_heard_at) > DIRECT_SILENCE);
        if let Some(link) = self.directs.link(id).filter(|_| silent) {
            self.counters.add("direct_silent");
            self.lanes.remove(&link);
            self.directs.forget(id, &mut self.outputs);
            self.events.push_back(LinkEvent::Changed);
        }
    }
}
