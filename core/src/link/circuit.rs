//! Sealed circuits: frames to peers through a relay that can neither read nor
//! forge them.
//!
//! ```text
//! initiator                                responder
//!   | --- Init(index, epoch, noise: record + first frame) --> |
//!   | <-- Accept(index, own, noise) ------------------------- |
//!   | <== Sealed(index, number, noise: frame) ==============> |
//! ```
//!
//! A responder of another epoch answers `Stale` with its record, and the
//! initiator begins again; an unknown index is answered with `Reset`. Both
//! ends may begin at once: each keeps both sessions and sends on the one that
//! opened last.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::Me;
use super::arrival::{Arrival, Refused};
use super::pace::Pace;
use super::seal::{Acceptance, Ends, Initiation, Seal};
use crate::event::{Lane, LinkId};
use crate::flat::FlatMap;
use crate::id::NodeId;
use crate::identity::Record;
use crate::time::{Instant, Now};
use crate::wire;

/// Sessions a node keeps. When it is full the least used gives way.
const SESSION_COUNT_MAX: usize = 2048;
/// Frames that wait for a session to open; further ones are refused.
const QUEUE_COUNT_MAX: usize = 256;
/// First messages remembered against replays. They are remembered for as long
/// as they would be believed; when there is no room, new ones wait.
const SEEN_COUNT_MAX: usize = 8192;
/// How far a first message's time may be off, in milliseconds.
pub(super) const SKEW_MS_MAX: u64 = 5 * 60 * 1000;
/// How long to wait for an answer to a first message, and how often to ask.
const RETRY: Duration = Duration::from_millis(700);
const TRY_COUNT_MAX: u32 = 4;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Head {
    Init { index: u32, epoch: u64 },
    Accept { index: u32, own: u32 },
    Sealed { index: u32, number: u64 },
    Stale { index: u32, record: Record },
    Reset { index: u32 },
}

#[derive(Serialize, Deserialize)]
struct Hello {
    at_ms: u64,
    record: Record,
    frame: Vec<u8>,
}

/// A body to hand to a relay.
#[derive(Debug)]
pub(super) struct Forward {
    pub(super) via: LinkId,
    pub(super) to: NodeId,
    pub(super) lane: Lane,
    pub(super) body: Vec<u8>,
}

/// Why nothing can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CircuitFull;

struct Session {
    peer: NodeId,
    epoch: u64,
    via: LinkId,
    used_at: Instant,
    state: State,
}

enum State {
    Opening(Opening),
    Open {
        remote: u32,
        seal: Seal,
        /// Our answer, to be repeated should the first message come again, and
        /// how often that may be.
        answer: Option<(Vec<u8>, u32)>,
    },
}

impl Session {
    /// The answer once more: its initiator asks a few times, and others might
    /// for ever.
    fn repeat_answer(&mut self) -> Option<Vec<u8>> {
        let State::Open { answer, .. } = &mut self.state else {
            return None;
        };
        let (bytes, left) = answer.as_mut()?;
        *left = left.checked_sub(1)?;
        Some(bytes.clone())
    }
}

struct Opening {
    initiation: Option<Initiation>,
    message: Vec<u8>,
    lane: Lane,
    queue: VecDeque<(Lane, Vec<u8>)>,
    tries: u32,
    retry_at: Instant,
}

/// All sealed sessions of a node.
#[derive(Default)]
pub(super) struct Circuits {
    sessions: FlatMap<u32, Session>,
    /// The session to send on, by peer.
    current: FlatMap<NodeId, u32>,
    seen: FlatMap<[u8; 32], u32>,
    seen_order: VecDeque<(u64, [u8; 32])>,
    pace: Pace,
    pub(super) forwards: Vec<Forward>,
}

impl fmt::Debug for Circuits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Circuits({})", self.sessions.len())
    }
}

impl Circuits {
    /// Whether frames to a peer have a session, open or opening.
    pub(super) fn has(&self, peer: &NodeId) -> bool {
        self.current.contains_key(peer)
    }

    /// Whether frames to a peer have a session that its other end answered.
    pub(super) fn is_open(&self, peer: &NodeId) -> bool {
        let session = self
            .current
            .get(peer)
            .and_then(|index| self.sessions.get(index));
        session.is_some_and(|session| matches!(session.state, State::Open { .. }))
    }

    /// The session that frames to a peer go by.
    pub(super) fn current(&self, peer: &NodeId) -> Option<u32> {
        self.current.get(peer).copied()
    }

    /// By which relay frames to a peer go, once its session is open; before that, how
    /// many wait.
    pub(super) fn via(&self, peer: &NodeId) -> Option<Result<LinkId, usize>> {
        let session = self.sessions.get(self.current.get(peer)?)?;
        Some(match &session.state {
            State::Open { .. } => Ok(session.via),
            State::Opening(opening) => Err(opening.queue.len()),
        })
    }

    /// Sends a frame on a session that exists.
    pub(super) fn send(
        &mut self,
        peer: &NodeId,
        lane: Lane,
        frame: Vec<u8>,
        now: Instant,
    ) -> Result<(), CircuitFull> {
        let session = self
            .current
            .get(peer)
            .and_then(|index| self.sessions.get_mut(index))
            .ok_or(CircuitFull)?;
        session.used_at = now;
        match &mut session.state {
            State::Opening(opening) => {
                if opening.queue.len() >= QUEUE_COUNT_MAX {
                    return Err(CircuitFull);
                }
                opening.queue.push_back((lane, frame));
            }
            State::Open { remote, seal, .. } => {
                let body = sealed(*remote, seal, &frame).ok_or(CircuitFull)?;
                self.forwards.push(Forward {
                    via: session.via,
                    to: *peer,
                    lane,
                    body,
                });
            }
        }
        Ok(())
    }

    /// Begins a session with a peer of a known record; the frame travels with
    /// the first message.
    pub(super) fn open(
        &mut self,
        me: &mut Me,
        peer: &Record,
        via: LinkId,
        lane: Lane,
        frame: Vec<u8>,
        now: Now,
    ) -> Result<(), CircuitFull> {
        let index = self.free_index(me)?;
        let hello = Hello {
            at_ms: now.unix_ms,
            record: me.record.clone(),
            frame,
        };
        let (initiation, noise) = Initiation::start(
            &me.identity,
            &me.network,
            peer,
            &wire::encode(&hello),
            &mut me.rng,
        )
        .map_err(|_| CircuitFull)?;
        let epoch = peer.facts().epoch;
        let message = wire::encode_head(&Head::Init { index, epoch }, &noise);
        self.forwards.push(Forward {
            via,
            to: peer.id(),
            lane,
            body: message.clone(),
        });
        let opening = Opening {
            initiation: Some(initiation),
            message,
            lane,
            queue: VecDeque::new(),
            tries: 1,
            retry_at: now.mono + RETRY,
        };
        let session = Session {
            peer: peer.id(),
            epoch,
            via,
            used_at: now.mono,
            state: State::Opening(opening),
        };
        self.sessions.insert(index, session);
        self.current.insert(peer.id(), index);
        Ok(())
    }

    /// Takes in a body that a relay delivered.
    pub(super) fn on_body(
        &mut self,
        me: &mut Me,
        via: LinkId,
        from: NodeId,
        body: &[u8],
        now: Now,
    ) -> Arrival {
        let Ok((head, noise)) = wire::decode_head::<Head>(body) else {
            return Arrival::Refused(Refused::Malformed);
        };
        match head {
            Head::Init { index, epoch } => self.on_init(me, via, from, (index, epoch), noise, now),
            Head::Accept { index, own } => self.on_accept(from, index, own, noise, now.mono),
            Head::Sealed { index, number } => self.on_sealed(via, from, (index, number), noise),
            Head::Stale { index, record } => {
                let Some(opening) = self.opening(from, index) else {
                    return Arrival::Refused(Refused::Unknown);
                };
                if record.id() != from || record.facts().epoch == opening {
                    return Arrival::Refused(Refused::Forged);
                }
                self.drop_session(index);
                Arrival::Stale(record)
            }
            Head::Reset { index } => {
                let known = self.sessions.iter().find_map(|(own, session)| {
                    let remote = match &session.state {
                        State::Open { remote, .. } => *remote,
                        State::Opening(_) => return None,
                    };
                    (session.peer == from && remote == index).then_some(*own)
                });
                let Some(own) = known else {
                    return Arrival::Refused(Refused::Unknown);
                };
                self.drop_session(own);
                Arrival::Reset
            }
        }
    }

    fn opening(&self, from: NodeId, index: u32) -> Option<u64> {
        let session = self.sessions.get(&index)?;
        (session.peer == from && matches!(session.state, State::Opening(_)))
            .then_some(session.epoch)
    }

    fn on_init(
        &mut self,
        me: &mut Me,
        via: LinkId,
        from: NodeId,
        (index, epoch): (u32, u64),
        noise: &[u8],
        now: Now,
    ) -> Arrival {
        if epoch != me.record.facts().epoch {
            let record = me.record.clone();
            self.reply(via, from, wire::encode(&Head::Stale { index, record }));
            return Arrival::Refused(Refused::Outdated);
        }
        let Some(ephemeral) = noise.first_chunk::<32>().copied() else {
            return Arrival::Refused(Refused::Malformed);
        };
        if let Some(own) = self.seen.get(&ephemeral) {
            return self.repeat_answer(via, from, *own);
        }
        self.forget_seen(now.unix_ms);
        if self.seen.len() >= SEEN_COUNT_MAX || !self.pace.admit(from, now.mono) {
            return Arrival::Refused(Refused::Crowded);
        }
        let ends = Ends {
            initiator: from,
            responder: me.identity.id(),
            responder_epoch: epoch,
        };
        let opened = Acceptance::open(&me.identity, &me.network, &ends, noise, &mut me.rng);
        let Ok(acceptance) = opened else {
            return Arrival::Refused(Refused::Forged);
        };
        let Ok(hello) = wire::decode::<Hello>(&acceptance.payload) else {
            return Arrival::Refused(Refused::Malformed);
        };
        let genuine = hello.record.id() == from
            && hello.record.verify(&me.network).is_ok()
            && acceptance.is_from(&hello.record);
        if !genuine {
            return Arrival::Refused(Refused::Forged);
        }
        if hello.at_ms.abs_diff(now.unix_ms) > SKEW_MS_MAX {
            return Arrival::Refused(Refused::Replayed);
        }
        let (Ok(own), Ok((seal, noise))) = (self.free_index(me), acceptance.answer(&[])) else {
            return Arrival::Refused(Refused::Forged);
        };
        let answer = wire::encode_head(&Head::Accept { index, own }, &noise);
        self.reply(via, from, answer.clone());
        self.seen.insert(ephemeral, own);
        self.seen_order.push_back((now.unix_ms, ephemeral));
        let session = Session {
            peer: from,
            epoch: hello.record.facts().epoch,
            via,
            used_at: now.mono,
            state: State::Open {
                remote: index,
                seal,
                answer: Some((answer, TRY_COUNT_MAX)),
            },
        };
        self.sessions.insert(own, session);
        self.settle(from, own);
        Arrival::Frame {
            opened: Some(hello.record),
            frame: hello.frame,
        }
    }

    fn repeat_answer(&mut self, via: LinkId, from: NodeId, own: u32) -> Arrival {
        let session = self.sessions.get_mut(&own);
        let answer = session
            .filter(|session| session.peer == from)
            .and_then(Session::repeat_answer);
        let Some(answer) = answer else {
            return Arrival::Refused(Refused::Replayed);
        };
        self.reply(via, from, answer);
        Arrival::Nothing
    }

    fn on_accept(
        &mut self,
        from: NodeId,
        index: u32,
        own: u32,
        noise: &[u8],
        now: Instant,
    ) -> Arrival {
        let Some(session) = self.sessions.get_mut(&index) else {
            return Arrival::Refused(Refused::Unknown);
        };
        let State::Opening(opening) = &mut session.state else {
            return Arrival::Nothing;
        };
        let Some(initiation) = opening.initiation.take_if(|_| session.peer == from) else {
            return Arrival::Refused(Refused::Forged);
        };
        let queue = core::mem::take(&mut opening.queue);
        let Ok((seal, _)) = initiation.finish(noise) else {
            self.drop_session(index);
            return Arrival::Broken;
        };
        session.state = State::Open {
            remote: own,
            seal,
            answer: None,
        };
        self.settle(from, index);
        for (lane, frame) in queue {
            // Sealing cannot fail for want of room.
            let _ = self.send(&from, lane, frame, now);
        }
        Arrival::Opened
    }

    fn on_sealed(
        &mut self,
        via: LinkId,
        from: NodeId,
        (index, number): (u32, u64),
        noise: &[u8],
    ) -> Arrival {
        let Some(session) = self.sessions.get_mut(&index) else {
            self.reply(via, from, wire::encode(&Head::Reset { index }));
            return Arrival::Refused(Refused::Unknown);
        };
        let State::Open { seal, answer, .. } = &mut session.state else {
            return Arrival::Nothing;
        };
        if session.peer != from {
            return Arrival::Refused(Refused::Forged);
        }
        if !seal.is_new(number) {
            return Arrival::Refused(Refused::Replayed);
        }
        let Ok(frame) = seal.open(number, noise) else {
            return Arrival::Refused(Refused::Forged);
        };
        *answer = None;
        Arrival::Frame {
            opened: None,
            frame,
        }
    }

    /// Makes `index` the session to send on, and keeps one older session of
    /// the same peer and epoch for what is still on its way.
    fn settle(&mut self, peer: NodeId, index: u32) {
        let epoch = self.sessions.get(&index).map(|session| session.epoch);
        let before = self.current.insert(peer, index);
        let mut moved = VecDeque::new();
        if let Some(State::Opening(opening)) = before
            .filter(|before| *before != index)
            .and_then(|before| self.sessions.get_mut(&before))
            .map(|session| &mut session.state)
        {
            moved = core::mem::take(&mut opening.queue);
        }
        self.sessions.retain(|own, session| {
            session.peer != peer
                || *own == index
                || (Some(*own) == before && Some(session.epoch) == epoch)
        });
        for (lane, frame) in moved {
            let at = self.sessions.get(&index).map(|session| session.used_at);
            let _ = self.send(&peer, lane, frame, at.unwrap_or_default());
        }
    }

    /// Ends all sessions with a peer.
    pub(super) fn close(&mut self, peer: &NodeId) {
        self.current.remove(peer);
        self.sessions.retain(|_, session| session.peer != *peer);
    }

    /// Ends the sessions with a peer through one link.
    pub(super) fn close_at(&mut self, peer: &NodeId, via: LinkId) {
        self.sessions
            .retain(|_, session| session.peer != *peer || session.via != via);
        let sessions = &self.sessions;
        self.current.retain(|_, index| sessions.contains_key(index));
    }

    /// Ends all sessions through a link, and names their peers.
    pub(super) fn close_via(&mut self, via: LinkId) -> Vec<NodeId> {
        let peers = self.sessions.values().filter(|session| session.via == via);
        let peers: Vec<NodeId> = peers.map(|session| session.peer).collect();
        self.sessions.retain(|_, session| session.via != via);
        let sessions = &self.sessions;
        self.current.retain(|_, index| sessions.contains_key(index));
        peers
    }

    /// Asks again for answers that are due; names the peers given up.
    pub(super) fn on_timeout(&mut self, now: Instant) -> Vec<NodeId> {
        let mut failed = Vec::new();
        for session in self.sessions.values_mut() {
            let State::Opening(opening) = &mut session.state else {
                continue;
            };
            if opening.retry_at > now {
                continue;
            }
            if opening.tries >= TRY_COUNT_MAX {
                failed.push(session.peer);
                continue;
            }
            opening.tries += 1;
            opening.retry_at = now + RETRY;
            self.forwards.push(Forward {
                via: session.via,
                to: session.peer,
                lane: opening.lane,
                body: opening.message.clone(),
            });
        }
        for peer in &failed {
            self.close(peer);
        }
        failed
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let openings = self
            .sessions
            .values()
            .filter_map(|session| match &session.state {
                State::Opening(opening) => Some(opening.retry_at),
                State::Open { .. } => None,
            });
        openings.min()
    }

    fn reply(&mut self, via: LinkId, to: NodeId, body: Vec<u8>) {
        self.forwards.push(Forward {
            via,
            to,
            lane: Lane::Control,
            body,
        });
    }

    fn drop_session(&mut self, index: u32) {
        if let Some(session) = self.sessions.remove(&index)
            && self.current.get(&session.peer) == Some(&index)
        {
            self.current.remove(&session.peer);
        }
    }

    fn forget_seen(&mut self, unix_ms: u64) {
        while let Some((at_ms, ephemeral)) = self.seen_order.front().copied() {
            if at_ms.saturating_add(2 * SKEW_MS_MAX) > unix_ms {
                break;
            }
            self.seen.remove(&ephemeral);
            self.seen_order.pop_front();
        }
    }

    fn free_index(&mut self, me: &mut Me) -> Result<u32, CircuitFull> {
        if self.sessions.len() >= SESSION_COUNT_MAX {
            let least = self
                .sessions
                .iter()
                .min_by_key(|(_, session)| session.used_at);
            let least = *least.ok_or(CircuitFull)?.0;
            self.drop_session(least);
        }
        loop {
            let [a, b, c, d, ..] = me.rng.next_u64().to_be_bytes();
            let index = u32::from_be_bytes([a, b, c, d]);
            if !self.sessions.contains_key(&index) {
                return Ok(index);
            }
        }
    }
}

fn sealed(remote: u32, seal: &mut Seal, frame: &[u8]) -> Option<Vec<u8>> {
    let (number, noise) = seal.seal(frame).ok()?;
    let head = Head::Sealed {
        index: remote,
        number,
    };
    Some(wire::encode_head(&head, &noise))
}
