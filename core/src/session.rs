//! A session: one reliable, ordered byte stream each way between two peers,
//! over whichever path is best. Paths come and go; bytes arrive once, in
//! order, or the session ends with a reason.
//!
//! Frames are numbered by the offset of their first byte, so that what was cut
//! for one path can be cut anew for another with shorter frames. A receiver
//! takes only what comes next and says so when it sees a gap. Nothing is sent
//! again by a timer: an answer (to a gap, a switch or a probe) says from where.

mod message;
mod sending;
mod sessions;
#[cfg(test)]
mod tests;

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use self::message::{Body, Message};
pub use self::sessions::{SessionEvent, SessionsFull};
pub(crate) use self::sessions::{Sessions, Way};
use crate::flat::FlatMap;
use crate::time::Instant;

/// Bytes written that wait or are unacknowledged. [`Session::write`] takes no
/// more than fits.
pub(crate) const SEND_MAX: usize = 4 << 20;
/// Bytes received and not yet consumed. What does not fit is dropped; a sender
/// that keeps to the room it was told never sends it.
pub(crate) const RECEIVE_MAX: usize = 4 << 20;
/// Bytes that may be unacknowledged on a path through a relay, where they share
/// what the relay keeps for the receiver with all others: beyond 32 MiB that would
/// cut it off.
const RELAYED_MAX: usize = 384 << 10;
/// Paths of one session. A further one is not taken.
pub(crate) const PATHS_MAX: usize = 16;
/// How long there may be no path, or, with something outstanding, none on which
/// anything comes.
pub(crate) const NO_PATH_MAX: Duration = Duration::from_secs(8);
/// Data that waits to be polled, in frames: a path that is full holds up no more.
const DATA_COUNT_MAX: usize = 2;
/// Silence, with something outstanding, after which the other side is asked.
const PROBE_AFTER: Duration = Duration::from_secs(1);
/// Silence, with something outstanding, after which a path is given up.
const SILENCE_MAX: Duration = Duration::from_secs(4);
/// More than any head takes.
const HEAD_LEN_MAX: usize = 40;
/// Outputs that wait to be polled. Beyond it data and answers wait, as what they
/// are made of does; a reset is not sent.
const OUTPUT_COUNT_MAX: usize = 64;

/// A path; the owner numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PathId(pub(crate) u64);

/// What a path is, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PathKind {
    /// A data channel.
    Direct,
    /// A circuit through a relay.
    Relayed,
}

/// Why a session ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionError {
    /// For eight seconds there was no path.
    NoPath,
    /// The peer is of a newer incarnation.
    Restarted,
    /// The peer ended it, or knows it no more.
    Reset,
    /// Both ends wrote their last, and all of it arrived.
    Closed,
    /// The peer acknowledged what was never sent, or asks for what it had
    /// acknowledged.
    Malformed,
}

/// What a session asks of its owner.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SessionOutput {
    /// Send a frame.
    Send {
        /// On which path.
        path: PathId,
        /// The frame.
        bytes: Vec<u8>,
    },
    /// A path was silent for too long and is used no more.
    GiveUp(PathId),
    /// The session is over.
    Failed(SessionError),
}

/// How both ends number a session: each with more than ever before, also before it
/// started last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbers {
    pub(crate) ours: u64,
    /// Less than any number since this end started.
    pub(crate) base: u64,
    /// Less than any number since the other end started; 0 if that is not known.
    pub(crate) their_base: u64,
    /// 0 until it is heard.
    pub(crate) theirs: u64,
}

impl Numbers {
    /// Whether a frame is for this end: whoever begins does not know its number yet,
    /// but when it started.
    const fn is_to(&self, to: u64) -> bool {
        to == self.ours || to == self.base || to == 0
    }

    const fn to(&self) -> u64 {
        if self.theirs == 0 {
            self.their_base
        } else {
            self.theirs
        }
    }
}

/// One end of a session.
#[derive(Debug)]
pub(crate) struct Session {
    numbers: Numbers,
    paths: FlatMap<PathId, (PathKind, usize)>,
    best: Option<PathId>,
    no_path_since: Option<Instant>,
    /// Written and unacknowledged, from offset `acked` on.
    unacked: VecDeque<u8>,
    acked: u64,
    sent: u64,
    room: u64,
    closed: bool,
    /// Whether the end of this half was acknowledged.
    end_acked: bool,
    received: Vec<u8>,
    receive_max: usize,
    /// Taken and not yet consumed.
    lent: usize,
    next: u64,
    ended: bool,
    /// The offset for which a gap was answered last.
    resent_for: Option<u64>,
    /// A switch waits to hear what the other side lacks.
    asking: bool,
    probe: u32,
    /// When something came last, or something began to be outstanding.
    heard_at: Instant,
    /// The same on the best path, or when that was chosen.
    path_heard_at: Instant,
    probed_at: Instant,
    /// What is to be said of a gap, or to a probe, and on which path it came: there
    /// the peer listens. The best one otherwise.
    answer: Option<(Option<PathId>, bool, u32)>,
    failed: Option<SessionError>,
    outputs: VecDeque<SessionOutput>,
}

impl Session {
    /// An end of a session. Frames between other numbers than the two ends' are not
    /// taken, so that nothing of before is delivered after it.
    pub(crate) fn new(numbers: Numbers, now: Instant) -> Self {
        Self {
            numbers,
            paths: FlatMap::new(),
            best: None,
            no_path_since: Some(now),
            unacked: VecDeque::new(),
            acked: 0,
            sent: 0,
            room: RECEIVE_MAX as u64,
            closed: false,
            end_acked: false,
            received: Vec::new(),
            receive_max: RECEIVE_MAX,
            lent: 0,
            next: 0,
            ended: false,
            resent_for: None,
            asking: false,
            probe: 0,
            heard_at: now,
            path_heard_at: now,
            probed_at: now,
            answer: None,
            failed: None,
            outputs: VecDeque::new(),
        }
    }

    /// A path is up.
    pub(crate) fn on_path_up(
        &mut self,
        path: PathId,
        kind: PathKind,
        frame_max: usize,
        now: Instant,
    ) {
        if self.paths.len() < PATHS_MAX && frame_max > HEAD_LEN_MAX {
            self.paths.insert(path, (kind, frame_max));
            self.choose(now);
        }
    }

    /// A path is down.
    pub(crate) fn on_path_down(&mut self, path: PathId, now: Instant) {
        self.paths.remove(&path);
        self.choose(now);
    }

    /// A frame from the peer: its head, and the bytes that follow.
    fn on_frame(&mut self, path: PathId, (head, body): (Message, &[u8]), now: Instant) {
        let Message {
            from,
            to,
            body: kind,
        } = head;
        if from < self.numbers.theirs || to > self.numbers.ours {
            return;
        }
        let is_stale = !self.numbers.is_to(to);
        if self.numbers.theirs == 0 && !is_stale {
            self.numbers.theirs = from;
        }
        if self.failed.is_some() || is_stale {
            if kind != Body::Reset {
                self.send_reset(path, from);
            }
            return;
        }
        if from > self.numbers.theirs {
            self.send_reset(path, from);
            return self.fail(SessionError::Restarted);
        }
        self.heard_at = now;
        if self.best == Some(path) {
            self.path_heard_at = now;
        }
        match kind {
            Body::Data { offset, end } => {
                let gap = self.on_data(offset, end, body);
                self.answer(path, gap, 0);
            }
            Body::Ack {
                next,
                room,
                gap,
                probe,
            } => self.on_ack(next, room, gap, probe),
            Body::Probe { number } => self.answer(path, false, number),
            Body::Reset => self.fail(SessionError::Reset),
        }
    }

    /// Takes as much as fits, and returns how much that was.
    pub(crate) fn write(&mut self, bytes: &[u8], now: Instant) -> usize {
        if self.closed || self.failed.is_some() {
            return 0;
        }
        self.wake(now);
        let len = bytes.len().min(SEND_MAX.saturating_sub(self.unacked.len()));
        self.unacked.extend(bytes.get(..len).unwrap_or_default());
        len
    }

    /// Bytes that [`Session::write`] would take.
    pub(crate) fn room(&self) -> usize {
        match self.closed || self.failed.is_some() {
            true => 0,
            false => SEND_MAX.saturating_sub(self.unacked.len()),
        }
    }

    /// Nothing more will be written; reading goes on.
    pub(crate) fn close(&mut self, now: Instant) {
        self.wake(now);
        self.closed = true;
    }

    /// Takes all bytes that arrived. They make room only when they are consumed.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.lent += self.received.len();
        core::mem::take(&mut self.received)
    }

    /// So many of the bytes that were taken need no memory any more.
    pub(crate) fn consume(&mut self, len: usize) {
        let was_low = self.receive_room() < self.receive_max / 2;
        self.lent = self.lent.saturating_sub(len);
        if was_low && self.receive_room() >= self.receive_max / 2 {
            self.answer.get_or_insert((None, false, 0));
        }
    }

    /// Whether there is something to take, or the end to be told.
    pub(crate) fn is_readable(&self) -> bool {
        self.ended || !self.received.is_empty()
    }

    pub(crate) const fn ours(&self) -> u64 {
        self.numbers.ours
    }

    /// The other end's number; 0 until it is heard.
    pub(crate) const fn theirs(&self) -> u64 {
        self.numbers.theirs
    }

    /// Whether it is with an earlier start of the peer than the one whose sessions have
    /// numbers from there on.
    fn is_before(&self, base: u64) -> bool {
        let theirs = self.numbers.theirs.max(self.numbers.their_base);
        theirs != 0 && theirs < base
    }

    /// Whether a path is among those that are used.
    fn uses(&self, path: PathId) -> bool {
        self.paths.contains_key(&path)
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// What the path is that frames go by.
    pub(crate) fn best_kind(&self) -> Option<PathKind> {
        let (kind, _) = self.paths.get(&self.best?)?;
        Some(*kind)
    }

    /// Whether both halves ended, and nothing is left to be said.
    pub(crate) fn is_over(&self) -> bool {
        self.ended && self.closed && self.end_acked && self.unacked.is_empty()
    }

    /// Whether the peer closed its half and all of it was taken.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended && self.received.is_empty()
    }

    /// Ends the session on both sides.
    pub(crate) fn reset(&mut self) {
        self.fail(SessionError::Reset);
    }

    /// Bytes held, in both directions.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.unacked.len() + self.received.len() + self.lent
    }

    /// What is to be done next.
    pub(crate) fn poll_output(&mut self) -> Option<SessionOutput> {
        if self.outputs.is_empty() {
            self.flush();
        }
        self.outputs.pop_front()
    }

    /// When [`Session::on_timeout`] is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        if self.failed.is_some() {
            return None;
        }
        let is_waiting = self.is_waiting();
        if let Some(since) = self.no_path_since {
            // Paths that come and go, and carry nothing, are none.
            let heard_at = Some(self.heard_at).filter(|_| is_waiting);
            let since = heard_at.map_or(since, |heard_at| heard_at.min(since));
            return Some(since + NO_PATH_MAX);
        }
        if !is_waiting {
            return None;
        }
        let times = [
            self.probed_at.max(self.path_heard_at) + PROBE_AFTER,
            self.path_heard_at + SILENCE_MAX,
            self.heard_at + NO_PATH_MAX,
        ];
        times.into_iter().min()
    }

    /// Time passed.
    pub(crate) fn on_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_none_or(|due| now < due) {
            return;
        }
        if self.no_path_since.is_some() || now >= self.heard_at + NO_PATH_MAX {
            return self.fail(SessionError::NoPath);
        }
        match self.best {
            Some(path) if now >= self.path_heard_at + SILENCE_MAX => {
                self.paths.remove(&path);
                self.outputs.push_back(SessionOutput::GiveUp(path));
                self.choose(now);
                if self.best.is_none() {
                    self.no_path_since = Some(self.heard_at);
                }
            }
            _ => self.ask(now),
        }
    }

    // ---- details ----

    /// The number after the last: the end of a half takes one of its own.
    fn end(&self) -> u64 {
        let end = self.closed && !self.end_acked;
        self.acked + self.unacked.len() as u64 + u64::from(end)
    }

    fn is_all_acked(&self) -> bool {
        self.unacked.is_empty() && (!self.closed || self.end_acked)
    }

    fn is_waiting(&self) -> bool {
        !self.is_all_acked() || self.asking
    }

    fn receive_room(&self) -> usize {
        self.receive_max
            .saturating_sub(self.received.len() + self.lent)
    }

    /// Silence counts from when something is outstanding.
    fn wake(&mut self, now: Instant) {
        if !self.is_waiting() {
            self.heard_at = now;
            self.path_heard_at = now;
        }
    }

    fn choose(&mut self, now: Instant) {
        let best = self.paths.iter().min_by_key(|(id, path)| (path.0, **id));
        let best = best.map(|(id, _)| *id);
        if best == self.best {
            return;
        }
        self.best = best;
        if best.is_none() {
            self.no_path_since = Some(now);
            return;
        }
        self.no_path_since = None;
        self.path_heard_at = now;
        if self.sent > self.acked {
            self.asking = true;
            self.ask(now);
        }
        self.flush();
    }

    fn ask(&mut self, now: Instant) {
        self.probe = self.probe.wrapping_add(1).max(1);
        self.probed_at = now;
        let number = self.probe;
        self.send_on(self.best, Body::Probe { number });
    }

    /// One answer is made to all that came since the last.
    fn answer(&mut self, path: PathId, gap: bool, probe: u32) {
        let (_, had_gap, had_probe) = self.answer.unwrap_or_default();
        let probe = if probe == 0 { had_probe } else { probe };
        self.answer = Some((Some(path), gap || had_gap, probe));
    }

    /// Takes what comes next. Returns whether something before it is missing.
    fn on_data(&mut self, offset: u64, end: bool, body: &[u8]) -> bool {
        let known = usize::try_from(self.next.saturating_sub(offset)).unwrap_or(usize::MAX);
        #[cfg(planted_bugs)]
        let known = match crate::planted::is("repeat_is_taken") {
            true => 0,
            false => known,
        };
        let fresh = body.get(known..).unwrap_or_default();
        let gap = offset > self.next;
        if !gap && !self.ended && fresh.len() <= self.receive_room() {
            self.received.extend_from_slice(fresh);
            self.next += fresh.len() as u64;
            if end && offset.saturating_add(body.len() as u64) == self.next {
                self.ended = true;
                self.next += 1;
            }
        }
        gap
    }

    fn on_ack(&mut self, next: u64, room: u32, gap: bool, probe: u32) {
        if next > self.end() {
            return self.fail(SessionError::Malformed);
        }
        if next < self.acked {
            return; // An older one, overtaken.
        }
        let bytes = usize::try_from(next - self.acked).unwrap_or(usize::MAX);
        let whole = bytes > self.unacked.len();
        self.unacked.drain(..bytes.min(self.unacked.len()));
        self.end_acked |= whole;
        self.acked = next;
        self.sent = self.sent.max(next);
        self.room = u64::from(room);
        let answered = probe != 0 && probe == self.probe;
        #[cfg(planted_bugs)]
        if crate::planted::is("answer_resends_nothing") {
            self.asking &= !answered;
            return;
        }
        if answered || (gap && self.resent_for != Some(next)) {
            self.resent_for = Some(next);
            self.sent = next;
        }
        self.asking &= !answered;
    }

    fn fail(&mut self, why: SessionError) {
        if self.failed.is_none() {
            self.send_on(self.best, Body::Reset);
            self.failed = Some(why);
            self.unacked.clear();
            self.outputs.push_back(SessionOutput::Failed(why));
        }
    }
}
