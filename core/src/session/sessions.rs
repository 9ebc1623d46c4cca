//! The sessions of a node, one for each peer, and the ways that they take.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::message::{Body, Message};
use super::{Numbers, PathId, PathKind, Session, SessionError, SessionOutput};
use crate::counter::Counters;
use crate::flat::FlatMap;
use crate::id::NodeId;
use crate::time::Instant;
use crate::wire::{decode_head, encode_head};

/// Sessions of one node. A further peer is refused, and told so.
const SESSION_COUNT_MAX: usize = 256;
/// Peers whose last session is remembered, so that what was under way when it ended
/// opens no new one. Beyond it those heard first are forgotten.
const LAST_COUNT_MAX: usize = 1024;
/// Sessions that a node can begin within a millisecond of its epoch, in bits.
const NUMBER_BITS: u32 = 10;

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
    /// What those without a session are told.
    resets: VecDeque<(NodeId, PathKind, Vec<u8>)>,
    events: VecDeque<(NodeId, SessionEvent)>,
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
    pub(crate) fn new(epoch: u64) -> Self {
        Self {
            base: epoch << NUMBER_BITS,
            next_number: epoch << NUMBER_BITS,
            sessions: FlatMap::new(),
            last: FlatMap::new(),
            last_order: VecDeque::new(),
            resets: VecDeque::new(),
            events: VecDeque::new(),
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

    /// The ways to a peer that there are now, and the longest frame that fits.
    pub(crate) fn set_ways(
        &mut self,
        peer: &NodeId,
        ways: Vec<Way>,
        frame_max: usize,
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
                kept.session.on_path_up(path, way.kind, frame_max, now);
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
        let Ok((message, _)) = decode_head::<Message>(bytes) else {
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
                self.tell_reset(peer, kind, message.from);
                return false;
            }
            self.events.push_back((peer, SessionEvent::Opened));
            began = true;
        }
        if let Some(kept) = self.sessions.get_mut(&peer) {
            kept.session.on_frame(kept.path(kind), bytes, now);
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

    /// The next frame of anybody who has a way with room, and whose it is: those who
    /// sent take their turn again after all others.
    pub(crate) fn poll_frame(
        &mut self,
        has_room: impl Fn(&NodeId, PathKind) -> bool,
        after: &NodeId,
    ) -> Option<(NodeId, PathKind, Vec<u8>)> {
        if let Some(reset) = self.resets.pop_front() {
            return Some(reset);
        }
        let due = self.sessions.iter().filter(|(_, kept)| kept.is_due);
        let mut peers: Vec<NodeId> = due.map(|(peer, _)| *peer).collect();
        let next = peers.partition_point(|peer| peer <= after);
        peers.rotate_left(next);
        for peer in peers {
            let kept = self.sessions.get_mut(&peer)?;
            // The end is told, also where nothing can be sent any more.
            let best = kept.session.best_kind();
            let is_full = best.is_some_and(|kind| !has_room(&peer, kind));
            if is_full && !kept.session.has_failed() {
                continue;
            }
            while let Some(output) = kept.session.poll_output() {
                match output {
                    SessionOutput::Send { path, bytes } => {
                        if let Some(kind) = kept.kind(path) {
                            return Some((peer, kind, bytes));
                        }
                    }
                    SessionOutput::GiveUp(path) => {
                        kept.ways.retain(|(_, known)| *known != path);
                        self.counters.add("session_paths_given_up");
                    }
                    SessionOutput::Failed(why) => {
                        self.end(peer, why);
                        return self.poll_frame(has_room, after);
                    }
                }
            }
            kept.is_due = false;
            if kept.session.is_over() {
                self.end(peer, SessionError::Closed);
            }
        }
        None
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
            self.tell_reset(*peer, PathKind::Relayed, message.from);
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

    fn tell_reset(&mut self, peer: NodeId, kind: PathKind, to: u64) {
        if self.resets.len() < SESSION_COUNT_MAX {
            self.next_number += 1;
            let (from, body) = (self.next_number, Body::Reset);
            let bytes = encode_head(&Message { from, to, body }, &[]);
            self.resets.push_back((peer, kind, bytes));
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

    /// Of a way that is not known here, or no more: none that is.
    fn path(&self, kind: PathKind) -> PathId {
        let way = self.ways.iter().find(|(way, _)| way.kind == kind);
        way.map_or(PathId(0), |(_, path)| *path)
    }
}
