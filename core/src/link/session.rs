//! Frames of sessions: on the way that a session names, and no faster than it bears.

pub(crate) use super::frame::BODY_LEN_MAX;
use super::frame::Frame;
use super::{Links, SendError};
use crate::event::Lane;
use crate::id::NodeId;
use crate::status::LinkKind;
use crate::time::{Instant, Now};

/// Bytes that wait in the lane of a link before sessions wait themselves: what waits in
/// a session can still take another way.
const WAITING_MAX: usize = 64 << 10;
/// Frames that wait for a circuit to open.
const OPENING_COUNT_MAX: usize = 4;

impl Links {
    /// The ways to a peer, by their numbers. A circuit that could be opened has none
    /// yet: 0.
    pub(crate) fn ways(
        &self,
        peer: &NodeId,
        now: Instant,
    ) -> impl Iterator<Item = (LinkKind, u64)> + use<> {
        let direct = self.directs.link(peer);
        let direct = direct.map(|link| (LinkKind::Direct, link.0));
        let circuit = match self.circuits.current(peer) {
            Some(index) => Some(u64::from(index) + 1),
            None => self.can_open(peer, now).then_some(0),
        };
        let circuit = circuit.map(|number| (LinkKind::Relay, number));
        direct.into_iter().chain(circuit)
    }

    /// Whether a way takes another frame now.
    pub(crate) fn has_room(&self, peer: &NodeId, kind: LinkKind) -> bool {
        let link = match kind {
            LinkKind::Direct => self.directs.link(peer),
            LinkKind::Relay => match self.circuits.via(peer) {
                Some(Ok(via)) => Some(via),
                Some(Err(waiting)) => return waiting < OPENING_COUNT_MAX,
                None => return true,
            },
        };
        let lanes = link.and_then(|link| self.lanes.get(&link));
        lanes.is_none_or(|lanes| lanes.waiting(Lane::Bulk) < WAITING_MAX)
    }

    /// Sends a frame of a session.
    ///
    /// # Errors
    /// When there is no such way, or it is full.
    pub(crate) fn send_session(
        &mut self,
        peer: &NodeId,
        kind: LinkKind,
        bytes: &[u8],
        now: Now,
    ) -> Result<(), SendError> {
        let frame = Frame::Session.encode(bytes);
        match (kind, self.directs.link(peer)) {
            (LinkKind::Direct, Some(link)) => {
                self.count_sent(peer, kind, &frame);
                self.push(link, Lane::Bulk, frame)
            }
            (LinkKind::Direct, None) => Err(SendError::NoPath),
            (LinkKind::Relay, _) => self.send_relayed(peer, Lane::Bulk, frame, now),
        }
    }
}
