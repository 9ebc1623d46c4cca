//! Sessions: byte streams to peers, by whatever ways there are.

use alloc::vec::Vec;

use super::Node;
use crate::event::{Event, Output};
use crate::id::NodeId;
use crate::session::{PathKind, SessionsFull, Way};
use crate::status::{LinkKind, MemberState};
use crate::time::Now;

impl Node {
    /// Begins a session with a peer, if there is none: one reliable, ordered stream of
    /// bytes each way, which stays while ways come and go. What becomes of it comes as
    /// [`Event::Session`].
    ///
    /// # Errors
    /// When there are 256 sessions already.
    pub fn open_session(&mut self, peer: NodeId, now: Now) -> Result<(), SessionsFull> {
        self.now = now;
        let epoch = self.links.record(&peer).map(|record| record.facts().epoch);
        self.sessions.open(peer, epoch, now.mono)?;
        self.on_sessions_changed(&peer, now);
        Ok(())
    }

    /// Writes to a session, and returns how many bytes it took. If not all, it says
    /// later that it is writable.
    pub fn write_session(&mut self, peer: &NodeId, bytes: &[u8], now: Now) -> usize {
        self.now = now;
        self.sessions.write(peer, bytes, now.mono)
    }

    /// Takes all that came in a session; and whether the peer will write no more.
    /// What was taken counts as held, up to 4 MiB, until it is consumed.
    pub fn take_session(&mut self, peer: &NodeId) -> (Vec<u8>, bool) {
        (self.sessions.take(peer), self.sessions.is_ended(peer))
    }

    /// So many bytes of what was taken are held no more.
    pub fn consume_session(&mut self, peer: &NodeId, len: usize) {
        self.sessions.consume(peer, len);
    }

    /// Writes no more to a session; what was written arrives still.
    pub fn close_session(&mut self, peer: &NodeId, now: Now) {
        self.sessions.close(peer, now.mono);
    }

    /// Ends a session on both sides.
    pub fn reset_session(&mut self, peer: &NodeId) {
        self.sessions.reset(peer);
    }

    /// Sessions that there are.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.sessions.peers().count()
    }

    pub(super) fn on_session_frame(
        &mut self,
        peer: NodeId,
        kind: LinkKind,
        bytes: &[u8],
        now: Now,
    ) {
        if self
            .sessions
            .on_frame(peer, path_kind(kind), bytes, now.mono)
        {
            self.on_sessions_changed(&peer, now);
        }
    }

    /// Nobody waits for a peer that left the ring.
    pub(super) fn end_left_sessions(&mut self) {
        let members = self.ring.members();
        let has_left = |id: &NodeId| {
            let member = members.get(id);
            member.is_some_and(|member| member.state == MemberState::Left)
        };
        let left: Vec<NodeId> = self.sessions.peers().filter(has_left).collect();
        for peer in left {
            self.sessions.on_left(peer);
        }
    }

    /// The ways may be others than before.
    pub(super) fn refresh_ways(&mut self, now: Now) {
        let peers: Vec<NodeId> = self.sessions.peers().collect();
        for peer in peers {
            if let Some(record) = self.links.record(&peer) {
                self.sessions.on_start(peer, record.facts().epoch);
            }
            self.set_ways(&peer, now);
        }
        self.sessions.send_unsent();
    }

    /// Lets sessions send, as far as their ways have room. Returns whether one did.
    pub(super) fn flush_sessions(&mut self, now: Now) -> bool {
        let links = &self.links;
        let has_room = |peer: &NodeId, kind| links.has_room(peer, link_kind(kind));
        let frame = self.sessions.poll_frame(has_room, &self.last_sender);
        while let Some((peer, event)) = self.sessions.poll_event() {
            let event = Event::Session { peer, event };
            self.outputs.push_back(Output::Event(event));
        }
        // A way that carries nothing for a session is asked for itself.
        while let Some(peer) = self.sessions.doubted.pop_front() {
            self.links.doubt(peer);
        }
        match frame {
            Some((peer, Some(kind), bytes)) => {
                self.last_sender = peer;
                self.send_session(&peer, link_kind(kind), &bytes, now);
            }
            Some((peer, None, bytes)) => match self.links.ways(&peer, now.mono).next() {
                Some((kind, _)) => self.send_session(&peer, kind, &bytes, now),
                None => self.sessions.on_unsent(peer, bytes),
            },
            None => return !self.outputs.is_empty(),
        }
        true
    }

    fn send_session(&mut self, peer: &NodeId, kind: LinkKind, bytes: &[u8], now: Now) {
        if self.links.send_session(peer, kind, bytes, now).is_err() {
            self.counters.add("session_frames_unsent");
        }
        if kind == LinkKind::Relay {
            // The first one opens a circuit.
            self.set_ways(peer, now);
        }
    }

    fn on_sessions_changed(&mut self, peer: &NodeId, now: Now) {
        self.set_ways(peer, now);
        let (alive, _) = self.alive();
        let wanted = self.wanted(&alive);
        self.links.want(wanted);
        self.links.start_direct(now.mono);
    }

    fn set_ways(&mut self, peer: &NodeId, now: Now) {
        let ways = self.links.ways(peer, now.mono).map(|(kind, number)| Way {
            kind: path_kind(kind),
            number,
        });
        self.sessions.set_ways(peer, ways, now.mono);
    }
}

const fn path_kind(kind: LinkKind) -> PathKind {
    match kind {
        LinkKind::Direct => PathKind::Direct,
        LinkKind::Relay => PathKind::Relayed,
    }
}

const fn link_kind(kind: PathKind) -> LinkKind {
    match kind {
        PathKind::Direct => LinkKind::Direct,
        PathKind::Relayed => LinkKind::Relay,
    }
}
