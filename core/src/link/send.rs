//! What goes out: by a direct link, else by a circuit through a relay where the
//! peer is at home.

use alloc::vec::Vec;

use super::frame;
use super::{Links, SendError};
use crate::attach::ToRelay;
use crate::event::{Lane, LinkId, Output};
use crate::id::NodeId;
use crate::status::LinkKind;
use crate::time::{Instant, Now};

impl Links {
    /// Sends a message by the best way there is.
    ///
    /// # Errors
    /// When there is none, or it is full. Nothing was sent then.
    pub(crate) fn send(
        &mut self,
        to: &NodeId,
        lane: Lane,
        message: &[u8],
        now: Now,
    ) -> Result<(), SendError> {
        let peer = self.peers.get_mut(to).ok_or(SendError::NoPath)?;
        peer.message_count = peer.message_count.wrapping_add(1);
        let frames = frame::split(message, peer.message_count);
        for frame in frames {
            self.send_frame(to, lane, frame, now)?;
        }
        Ok(())
    }

    pub(super) fn send_frame(
        &mut self,
        to: &NodeId,
        lane: Lane,
        frame: Vec<u8>,
        now: Now,
    ) -> Result<(), SendError> {
        let Some(link) = self.directs.link(to) else {
            return self.send_relayed(to, lane, frame, now);
        };
        self.count_sent(to, LinkKind::Direct, &frame);
        self.push(link, lane, frame)
    }

    pub(super) fn send_relayed(
        &mut self,
        to: &NodeId,
        lane: Lane,
        frame: Vec<u8>,
        now: Now,
    ) -> Result<(), SendError> {
        self.count_sent(to, LinkKind::Relay, &frame);
        if self.circuits.has(to) {
            let sent = self.circuits.send(to, lane, frame, now.mono);
            self.flush_circuits();
            return sent.map_err(|_| SendError::Full);
        }
        let (Some(via), Some(peer)) = (self.way(to, now.mono), self.peers.get(to)) else {
            return Err(SendError::NoPath);
        };
        let opened = self
            .circuits
            .open(&mut self.me, &peer.record, via, lane, frame, now);
        self.flush_circuits();
        opened.map_err(|_| SendError::Full)
    }

    pub(super) fn count_sent(&mut self, to: &NodeId, kind: LinkKind, frame: &[u8]) {
        if let Some(peer) = self.peers.get_mut(to) {
            peer.traffic(kind).sent += frame.len() as u64;
        }
    }

    pub(super) fn can_open(&self, peer: &NodeId, now: Instant) -> bool {
        self.way(peer, now).is_some()
    }

    /// The relay by which a circuit to a peer can be opened: one where it is at
    /// home; of a peer that names none, any.
    pub(super) fn way(&self, id: &NodeId, now: Instant) -> Option<LinkId> {
        let peer = self.peers.get(id).filter(|peer| !peer.is_gone(now))?;
        let homes = peer.record.homes();
        let ways = || {
            let attached = self.relays.attached();
            attached.filter(|(link, _)| !peer.is_absent(*link, now))
        };
        let home = ways().find(|(_, member)| member == id || homes.contains(member));
        let any = || ways().next().filter(|_| homes.is_empty());
        home.or_else(any).map(|(link, _)| link)
    }

    pub(super) fn push(
        &mut self,
        link: LinkId,
        lane: Lane,
        bytes: Vec<u8>,
    ) -> Result<(), SendError> {
        let lanes = self.lanes.get_mut(&link).ok_or(SendError::NoPath)?;
        let pushed = lanes.push(lane, bytes);
        self.flush(link);
        pushed.map_err(|_| {
            self.counters.add("lane_full");
            SendError::Full
        })
    }

    pub(super) fn flush(&mut self, link: LinkId) {
        let Some(lanes) = self.lanes.get_mut(&link) else {
            return;
        };
        while let Some((lane, bytes)) = lanes.pop() {
            self.outputs.push_back(Output::Send { link, lane, bytes });
        }
    }

    pub(super) fn flush_circuits(&mut self) {
        for forward in core::mem::take(&mut self.circuits.forwards) {
            let frame = ToRelay::forward(forward.to, &forward.body);
            let _ = self.push(forward.via, forward.lane, frame);
        }
    }
}
