//! What a session sends: answers, and bytes as far as there is room for them.

use core::ops::Range;

use super::message::{Body, Message};
use super::{
    DATA_COUNT_MAX, HEAD_LEN_MAX, OUTPUT_COUNT_MAX, PathId, PathKind, RELAYED_MAX, Session,
    SessionOutput,
};
use crate::wire::{encode, encode_head_of};

impl Session {
    pub(super) fn flush(&mut self) {
        let is_full = self.outputs.len() >= OUTPUT_COUNT_MAX;
        if self.failed.is_some() || self.best.is_none() || is_full {
            return;
        }
        if let Some((path, gap, probe)) = self.answer.take() {
            let (next, room) = (self.next, self.receive_room() as u32);
            let body = Body::Ack {
                next,
                room,
                gap,
                probe,
            };
            let path = path.filter(|path| self.paths.contains_key(path));
            self.send_on(path.or(self.best), body);
        }
        while !self.asking && self.sent < self.end() && self.outputs.len() < DATA_COUNT_MAX {
            let Some((from, len)) = self.chunk() else {
                return;
            };
            let offset = self.sent;
            let data_end = self.acked + self.unacked.len() as u64;
            let end = self.closed && offset + len as u64 == data_end;
            self.sent += len as u64 + u64::from(end);
            self.send_data(Body::Data { offset, end }, from..from + len);
        }
    }

    /// The next bytes to send, if there is room: from which of those that are not
    /// acknowledged, and how many; none may be left but the end.
    fn chunk(&self) -> Option<(usize, usize)> {
        let (kind, frame_max) = self.paths.get(&self.best?)?;
        let from = usize::try_from(self.sent - self.acked).ok()?;
        let room = usize::try_from(self.room).unwrap_or(usize::MAX);
        let room = match kind {
            PathKind::Direct => room,
            PathKind::Relayed => room.min(RELAYED_MAX),
        };
        let left = self.unacked.len().saturating_sub(from);
        let len = left
            .min(frame_max - HEAD_LEN_MAX)
            .min(room.saturating_sub(from));
        let from = from.min(self.unacked.len());
        (len > 0 || left == 0).then_some((from, len))
    }

    /// Copied once, into the frame.
    fn send_data(&mut self, body: Body, range: Range<usize>) {
        let head = self.head(body);
        let (first, second) = self.unacked.as_slices();
        let second = shifted(&range, first.len()..self.unacked.len()).and_then(|at| second.get(at));
        let first = shifted(&range, 0..first.len()).and_then(|at| first.get(at));
        let parts = [first, second].map(Option::unwrap_or_default);
        if let Some(path) = self.best {
            let bytes = encode_head_of(&head, &parts);
            self.outputs.push_back(SessionOutput::Send { path, bytes });
        }
    }

    pub(super) fn send_on(&mut self, path: Option<PathId>, body: Body) {
        if let Some(path) = path {
            let bytes = encode(&self.head(body));
            self.outputs.push_back(SessionOutput::Send { path, bytes });
        }
    }

    pub(super) fn send_reset(&mut self, path: PathId, to: u64) {
        if self.outputs.len() < OUTPUT_COUNT_MAX {
            let head = Message {
                to,
                ..self.head(Body::Reset)
            };
            let bytes = encode(&head);
            self.outputs.push_back(SessionOutput::Send { path, bytes });
        }
    }

    const fn head(&self, body: Body) -> Message {
        Message {
            from: self.numbers.ours,
            to: self.numbers.to(),
            body,
        }
    }
}

/// What two ranges have in common, counted from the start of the second.
fn shifted(range: &Range<usize>, within: Range<usize>) -> Option<Range<usize>> {
    let start = range.start.max(within.start).checked_sub(within.start)?;
    let end = range.end.min(within.end).checked_sub(within.start)?;
    (start < end).then_some(start..end)
}
