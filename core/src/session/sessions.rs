//! The sessions of a node, one for each peer, and the ways that they take.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::ops::Bound;

use super::message::{Body, Message};
use super::{Numbers, PathId, PathKind, Session, SessionError, SessionOutput};
use crate::counter::Counters;
use crate::flat::FlatMap;
use crate::id::NodeId;
use crate::time::Instant;
use crate::wire::{decode_head, encode};

/// Sessions of one node. A further peer is refused, and told so.
const SESSION_COUNT_MAX: usize = 256;
/// Peers whose last session is remembered, so that what was under way when it ended
/// opens no new one. Beyond it those heard first are forgotten.
const LAST_COUNT_MAX: usize = 1024;
/// Sessions that a node can begin within a millisecond of its epoch, in bits.
const NUMBER_BITS: u32 = 10;
/// What came by a way that is not known here yet, or no more.
const UNKNOWN: PathId = PathId(0);

/// There are as many sessions as a node has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionsFull;

/// What became of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// The peer began one.
    Opened,
    /// There are bytes to be taken, or the peer will write nothing more.
    Readable,
    /// There is room to write.
    Writable,
    /// It is over.
    Ended(SessionError),
}

/// A way to a peer: the link layer numbers what it has of each kind, 0 is one that can
/// be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) kind: PathKind,
    pub(crate) number: u64,
}

/// All sessions of a node.
#[derive(Debug)]
pub(crate) struct Sessions {
    base: u64,
    next_number: u64,
    sessions: FlatMap<NodeId, Box<Kept>>,
    last: FlatMap<NodeId, u64>,
    last_order: VecDeque<NodeId>,
    /// What those are told who have no session, or no more. Each goes by any way that
    /// there is, and waits for one.
    resets: VecDeque<(NodeId, Vec<u8>)>,
    unsent: FlatMap<NodeId, Vec<u8>>,
    /// Whose way was silent for too long.
    pub(crate) doubted: VecDeque<NodeId>,
    events: VecDeque<(NodeId, SessionEvent)>,
    frame_max: usize,
    pub(crate) counters: Counters,
}

#[derive(Debug)]
struct Kept {
    session: Session,
    /// The ways that there are, and as which paths the session knows them.
    ways: Vec<(Way, PathId)>,
    path_count: u64,
    /// Whether its writer waits to be told of room.
    is_stuck: bool,
    /// Whether it may have something to send.
    is_due: bool,
}

impl Sessions {
    /// The sessions of a node that started at this epoch, over ways that carry frames
    /// of so many bytes.
    pub(crate) fn new(epoch: u64, frame_max: usize) -> Self {
        Self {
            base: epoch << NUMBER_BITS,
            next_number: epoch << NUMBER_BITS,
            sessions: FlatMap::new(),
            last: FlatMap::new(),
            last_order: VecDeque::new(),
            resets: VecDeque::new(),
            unsent: FlatMap::new(),
            doubted: VecDeque::new(),
            events: VecDeque::new(),
            frame_max,
            counters: Counters::default(),
        }
    }

    pub(crate) fn has(&self, peer: &NodeId) -> bool {
        self.sessions.contains_key(peer)
    }

    pub(crate) fn peers(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.sessions.keys().copied()
    }

    /// Begins a session, if there is none, with a peer as it started at that epoch. It
    /// needs its ways next.
    pub(crate) fn open(
        &mut self,
        peer: NodeId,
        epoch: Option<u64>,
        now: Instant,
    ) -> Result<(), SessionsFull> {
        if !self.has(&peer) {
            self.begin(peer, (0, epoch.unwrap_or(0) << NUMBER_BITS), now)?;
        }
        Ok(())
    }

    /// Takes as much as there is room for; [`SessionEvent::Writable`] follows if that
    /// was not all.
    pub(crate) fn write(&mut self, peer: &NodeId, bytes: &[u8], now: Instant) -> usize {
        let Some(kept) = self.sessions.get_mut(peer) else {
            return 0;
        };
        let len = kept.session.write(bytes, now);
        kept.is_stuck = len < bytes.len();
        kept.is_due = true;
        len
    }

    pub(crate) fn close(&mut self, peer: &NodeId, now: Instant) {
        if let Some(kept) = self.sessions.get_mut(peer) {
            kept.session.close(now);
            kept.is_due = true;
        }
    }

    pub(crate) fn reset(&mut self, peer: &NodeId) {
        if let Some(kept) = self.sessions.get_mut(peer) {
            kept.session.reset();
            kept.is_due = true;
        }
    }

    /// A peer left the ring: it is not waited for.
    pub(crate) fn on_left(&mut self, peer: NodeId) {
        self.end(peer, SessionError::Reset);
        self.resets.retain(|(to, _)| *to != peer);
        self.unsent.remove(&peer);
    }

    /// A peer started at that epoch. With what it was before nothing goes on.
    pub(crate) fn on_start(&mut self, peer: NodeId, epoch: u64) {
        #[cfg(planted_bugs)]
        if crate::planted::is("old_session_goes_on") {
            return;
        }
        let kept = self.sessions.get(&peer);
        if kept.is_some_and(|kept| kept.session.is_before(epoch << NUMBER_BITS)) {
            self.end(peer, SessionError::Restarted);
        }
    }

    pub(crate) fn take(&mut self, peer: &NodeId) -> Vec<u8> {
        let kept = self.sessions.get_mut(peer);
        kept.map(|kept| kept.session.take()).unwrap_or_default()
    }

    pub(crate) fn consume(&mut self, peer: &NodeId, len: usize) {
        if let Some(kept) = self.sessions.get_mut(peer) {
            kept.session.consume(len);
            kept.is_due = true;
        }
    }

    /// Whether the peer wrote its last, and all of it was taken.
    pub(crate) fn is_ended(&self, peer: &NodeId) -> bool {
        let kept = self.sessions.get(peer);
        kept.is_some_and(|kept| kept.session.is_ended())
    }

    /// The ways to a peer that there are now. One that was given up stays so until
    /// something comes by it.
    pub(crate) fn set_ways(
        &mut self,
        peer: &NodeId,
        ways: impl Iterator<Item = Way>,
        now: Instant,
    ) {
        let Some(kept) = self.sessions.get_mut(peer) else {
            return;
        };
        let before = core::mem::take(&mut kept.ways);
        // The new ones first: a switch asks what is missing on a way that is there.
        for way in ways {
            let same = before.iter().find(|(known, _)| known.leads_to(way));
            let path = same.map(|(_, path)| *path).unwrap_or_else(|| {
                kept.path_count += 1;
                let path = PathId(kept.path_count);
                kept.session.on_path_up(path, way.kind, self.frame_max, now);
                kept.is_due = true;
                path
            });
            kept.ways.push((way, path));
        }
        for (_, path) in before {
            if !kept.ways.iter().any(|(_, kept)| *kept == path) {
                kept.session.on_path_down(path, now);
                kept.is_due = true;
            }
        }
    }

    /// A frame came. Returns whether it began a session, which needs its ways next.
    pub(crate) fn on_frame(
        &mut self,
        peer: NodeId,
        kind: PathKind,
        bytes: &[u8],
        now: Instant,
    ) -> bool {
        let Ok((message, body)) = decode_head::<Message>(bytes) else {
            self.counters.add("session_malformed");
            return false;
        };
        // Its last one is over: the peer began another.
        if let Some(kept) = self.sessions.get(&peer)
            && self.begins(&message)
            && message.from > kept.session.theirs()
            && kept.session.theirs() != 0
        {
            self.end(peer, SessionError::Restarted);
        }
        let mut began = false;
        if !self.has(&peer) {
            if !self.may_begin(&peer, &message) {
                return false;
            }
            if self.begin(peer, (message.from, 0), now).is_err() {
                self.counters.add("sessions_refused");
                self.tell_reset(peer, message.from);
                return false;
            }
            self.events.push_back((peer, SessionEvent::Opened));
            began = true;
        }
        if let Some(kept) = self.sessions.get_mut(&peer) {
            let path = kept.path(kind);
            if let Some(path) = path.filter(|path| !kept.session.uses(*path)) {
                kept.session.on_path_up(path, kind, self.frame_max, now);
            }
            let path = path.unwrap_or(UNKNOWN);
            kept.session.on_frame(path, (message, body), now);
            kept.is_due = true;
            if kept.session.is_readable() {
                self.events.push_back((peer, SessionEvent::Readable));
            }
            if kept.is_stuck && kept.session.room() > 0 {
                kept.is_stuck = false;
                self.events.push_back((peer, SessionEvent::Writable));
            }
        }
        began
    }

    /// The next frame of anybody who has a way with room: whose it is, and by which way
    /// it goes; without one, by any. Those who sent take their turn again after all
    /// others.
    pub(crate) fn poll_frame(
        &mut self,
        has_room: impl Fn(&NodeId, PathKind) -> bool,
        after: &NodeId,
    ) -> Option<(NodeId, Option<PathKind>, Vec<u8>)> {
        if let Some((peer, bytes)) = self.resets.pop_front() {
            return Some((peer, None, bytes));
        }
        while let Some(peer) = self.next_due(&has_room, after) {
            let kept = self.sessions.get_mut(&peer)?;
            match kept.session.poll_output() {
                Some(SessionOutput::Send { path, bytes }) => {
                    if let Some(kind) = kept.kind(path) {
                        return Some((peer, Some(kind), bytes));
                    }
                }
                Some(SessionOutput::GiveUp(_)) => {
                    self.counters.add("session_paths_given_up");
                    self.doubted.push_back(peer);
                }
                Some(SessionOutput::Failed(why)) => self.end(peer, why),
                None => {
                    kept.is_due = false;
                    if kept.session.is_over() {
                        self.end(peer, SessionError::Closed);
                    }
                }
            }
        }
        None
    }

    /// A reset found no way.
    pub(crate) fn on_unsent(&mut self, peer: NodeId, bytes: Vec<u8>) {
        if self.unsent.len() < SESSION_COUNT_MAX {
            self.unsent.insert(peer, bytes);
        } else {
            self.counters.add("session_resets_dropped");
        }
    }

    /// There may be ways again.
    pub(crate) fn send_unsent(&mut self) {
        let unsent = core::mem::take(&mut self.unsent);
        self.resets.extend(unsent);
    }

    pub(crate) fn poll_event(&mut self) -> Option<(NodeId, SessionEvent)> {
        self.events.pop_front()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let kept = self.sessions.values();
        kept.filter_map(|kept| kept.session.poll_timeout()).min()
    }

    pub(crate) fn on_timeout(&mut self, now: Instant) {
        for kept in self.sessions.values_mut() {
            if kept.session.poll_timeout().is_some_and(|at| at <= now) {
                kept.session.on_timeout(now);
                kept.is_due = true;
            }
        }
    }

    // ---- details ----

    /// Whose turn it is after a peer, among those who have something to send and room
    /// for it. The end is told, also where nothing can be sent any more.
    fn next_due(
        &self,
        has_room: &impl Fn(&NodeId, PathKind) -> bool,
        after: &NodeId,
    ) -> Option<NodeId> {
        let beyond = (Bound::Excluded(*after), Bound::Unbounded);
        let beyond = self.sessions.range(beyond);
        let mut turns = beyond.chain(self.sessions.range(..=*after));
        let next = turns.find(|(peer, kept)| {
            let best = kept.session.best_kind();
            let has_room = || best.is_none_or(|kind| has_room(peer, kind));
            kept.is_due && (kept.session.has_failed() || has_room())
        });
        next.map(|(peer, _)| *peer)
    }

    /// Whether a frame of a peer without a session begins one. Others are of one that
    /// is over: their sender is told so.
    fn may_begin(&mut self, peer: &NodeId, message: &Message) -> bool {
        let is_reset = matches!(message.body, Body::Reset);
        let is_new = self.last.get(peer).is_none_or(|last| message.from > *last);
        if self.begins(message) && is_new && !is_reset {
            return true;
        }
        if !is_reset {
            self.counters.add("session_frames_late");
            self.tell_reset(*peer, message.from);
        }
        false
    }

    /// Whether a frame may be of a session that this node has no part in yet: one with
    /// an earlier start of it is not.
    fn begins(&self, message: &Message) -> bool {
        #[cfg(planted_bugs)]
        if crate::planted::is("old_session_goes_on") {
            return true;
        }
        message.to == 0 || message.to == self.base
    }

    fn begin(
        &mut self,
        peer: NodeId,
        (theirs, their_base): (u64, u64),
        now: Instant,
    ) -> Result<(), SessionsFull> {
        if self.sessions.len() >= SESSION_COUNT_MAX {
            return Err(SessionsFull);
        }
        self.next_number += 1;
        self.counters.add("sessions_begun");
        let numbers = Numbers {
            ours: self.next_number,
            base: self.base,
            their_base,
            theirs,
        };
        let kept = Kept {
            session: Session::new(numbers, now),
            ways: Vec::new(),
            path_count: 0,
            is_stuck: false,
            is_due: true,
        };
        self.sessions.insert(peer, Box::new(kept));
        Ok(())
    }

    fn end(&mut self, peer: NodeId, why: SessionError) {
        let Some(kept) = self.sessions.remove(&peer) else {
            return;
        };
        self.counters.add("sessions_ended");
        // A peer that waits for something would wait for ever.
        let (ours, theirs) = (kept.session.ours(), kept.session.theirs());
        if why != SessionError::Closed && theirs != 0 && kept.session.best_kind().is_none() {
            self.push_reset(peer, ours, theirs);
        }
        if self.last.insert(peer, kept.session.theirs()).is_none() {
            self.last_order.push_back(peer);
        }
        if self.last.len() > LAST_COUNT_MAX
            && let Some(first) = self.last_order.pop_front()
        {
            self.last.remove(&first);
        }
        self.events.push_back((peer, SessionEvent::Ended(why)));
    }

    fn tell_reset(&mut self, peer: NodeId, to: u64) {
        self.next_number += 1;
        self.push_reset(peer, self.next_number, to);
    }

    fn push_reset(&mut self, peer: NodeId, from: u64, to: u64) {
        if self.resets.len() < SESSION_COUNT_MAX {
            let body = Body::Reset;
            let bytes = encode(&Message { from, to, body });
            self.resets.push_back((peer, bytes));
        } else {
            self.counters.add("session_resets_dropped");
        }
    }
}

impl Way {
    /// Whether it is this one still; one that was not opened yet is open now.
    fn leads_to(self, other: Self) -> bool {
        self.kind == other.kind && (self.number == other.number || self.number == 0)
    }
}

impl Kept {
    fn kind(&self, path: PathId) -> Option<PathKind> {
        let way = self.ways.iter().find(|(_, known)| *known == path);
        way.map(|(way, _)| way.kind)
    }

    fn path(&self, kind: PathKind) -> Option<PathId> {
        let way = self.ways.iter().find(|(way, _)| way.kind == kind);
        way.map(|(_, path)| *path)
    }
}

#[cfg(test)]
mod tests;
