//! The sending half of a data channel: what waits, and what is on its way.

use std::collections::VecDeque;

use roundelay_core::event::Lane;

/// Bytes that may wait in one channel. Core's own lane caps are well below,
/// so an overflow is a fault of this program and closes the link.
pub(super) const MAX_WAITING: usize = 4 << 20;

/// The channels of a link. Their numbers on the wire are fixed, and both ends
/// create them unasked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChannelKind {
    /// Number 0: what must never wait behind data.
    Control,
    /// Number 1: data.
    Bulk,
}

impl ChannelKind {
    /// The channel of a lane, and which of its two queues.
    fn of(lane: Lane) -> (Self, usize) {
        match lane {
            Lane::Control => (Self::Control, 0),
            Lane::Kv => (Self::Control, 1),
            Lane::Repair => (Self::Bulk, 0),
            Lane::Bulk => (Self::Bulk, 1),
        }
    }

    /// The channel that carries a lane.
    pub(super) fn carrying(lane: Lane) -> Self {
        Self::of(lane).0
    }
}

/// Something to hand to the transport.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A message of core.
    Message(Vec<u8>),
    /// The end mark.
    End,
}

/// The queues of one channel, and the account of what the transport holds.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// The more urgent lane first.
    waiting: [VecDeque<(Lane, Vec<u8>)>; 2],
    waiting_bytes: usize,
    /// What the transport was given and has not released, oldest first. The
    /// end mark has no lane.
    given: VecDeque<(Option<Lane>, usize)>,
    given_bytes: usize,
    end: End,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum End {
    #[default]
    NotYet,
    Wanted,
    Sent,
}

impl Outbox {
    /// Queues a message; `false` if there is no room for it.
    #[must_use]
    pub(super) fn push(&mut self, lane: Lane, bytes: Vec<u8>) -> bool {
        if self.waiting_bytes + bytes.len() > MAX_WAITING {
            return false;
        }
        self.waiting_bytes += bytes.len();
        self.waiting[ChannelKind::of(lane).1].push_back((lane, bytes));
        true
    }

    /// Asks for the end mark behind all that waits.
    pub(super) fn end(&mut self) {
        if self.end == End::NotYet {
            self.end = End::Wanted;
        }
    }

    /// Whether everything was given and released, the end mark last.
    pub(super) fn is_finished(&self) -> bool {
        self.end == End::Sent && self.given.is_empty()
    }

    /// Whether nothing is on its way.
    pub(super) fn is_acknowledged(&self) -> bool {
        self.given.is_empty()
    }

    /// Whether nothing waits, either.
    pub(super) fn is_idle(&self) -> bool {
        self.is_acknowledged() && self.waiting_bytes == 0
    }

    /// Takes what may be given to the transport now: at most `window` bytes
    /// are out at one time, but one message always may be.
    pub(super) fn take(&mut self, window: usize) -> Option<Next> {
        let queue = self.waiting.iter_mut().find(|queue| !queue.is_empty());
        let Some(queue) = queue else {
            if self.end != End::Wanted {
                return None;
            }
            self.end = End::Sent;
            self.give(None, super::END_MARK.len());
            return Some(Next::End);
        };
        let length = queue.front()?.1.len();
        if self.given_bytes > 0 && self.given_bytes + length > window {
            return None;
        }
        let (lane, bytes) = queue.pop_front()?;
        self.waiting_bytes -= length;
        self.give(Some(lane), length);
        Some(Next::Message(bytes))
    }

    fn give(&mut self, lane: Option<Lane>, length: usize) {
        self.given.push_back((lane, length));
        self.given_bytes += length;
    }

    /// The transport holds `outstanding` bytes now: reports the bytes that it
    /// has released since, by lane, in the order in which they were given.
    pub(super) fn settle(&mut self, outstanding: usize, mut report: impl FnMut(Lane, usize)) {
        let mut released = self.given_bytes.saturating_sub(outstanding);
        self.given_bytes -= released;
        while let Some((lane, length)) = self.given.front_mut() {
            let part = released.min(*length);
            if part == 0 && *length > 0 {
                break;
            }
            if let Some(lane) = lane {
                report(*lane, part);
            }
            released -= part;
            *length -= part;
            if *length > 0 {
                break;
            }
            self.given.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reports(outbox: &mut Outbox, outstanding: usize) -> Vec<(Lane, usize)> {
        let mut reports = Vec::new();
        outbox.settle(outstanding, |lane, bytes| reports.push((lane, bytes)));
        reports
    }

    #[test]
    fn the_more_urgent_lane_passes_and_the_window_holds() {
        let mut outbox = Outbox::default();
        assert!(outbox.push(Lane::Bulk, vec![1; 100]));
        assert!(outbox.push(Lane::Repair, vec![2; 100]));
        assert_eq!(outbox.take(150), Some(Next::Message(vec![2; 100])));
        assert_eq!(outbox.take(150), None);
        assert_eq!(reports(&mut outbox, 40), [(Lane::Repair, 60)]);
        assert_eq!(outbox.take(150), Some(Next::Message(vec![1; 100])));
        let released = reports(&mut outbox, 10);
        assert_eq!(released, [(Lane::Repair, 40), (Lane::Bulk, 90)]);
    }

    #[test]
    fn a_message_larger_than_the_window_goes_alone() {
        let mut outbox = Outbox::default();
        assert!(outbox.push(Lane::Kv, vec![0; 300]));
        assert_eq!(outbox.take(200), Some(Next::Message(vec![0; 300])));
    }

    #[test]
    fn the_end_mark_goes_last_and_once() {
        let mut outbox = Outbox::default();
        assert!(outbox.push(Lane::Control, vec![0; 10]));
        outbox.end();
        assert_eq!(outbox.take(20), Some(Next::Message(vec![0; 10])));
        assert_eq!(outbox.take(20), Some(Next::End));
        outbox.end();
        assert_eq!(outbox.take(20), None);
        assert!(!outbox.is_finished());
        assert_eq!(reports(&mut outbox, 0), [(Lane::Control, 10)]);
        assert!(outbox.is_finished());
    }

    #[test]
    fn an_overflow_is_refused() {
        let mut outbox = Outbox::default();
        assert!(outbox.push(Lane::Bulk, vec![0; MAX_WAITING]));
        assert!(!outbox.push(Lane::Bulk, vec![0; 1]));
    }
}
