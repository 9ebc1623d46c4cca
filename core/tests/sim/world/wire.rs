//! Frames on their way along a link, and what becomes of lost ones.

use super::{End, Happening, MS, SECOND, World};

/// How long a link waits before it sends a lost datagram again that nothing
/// came after: TCP to a relay (Linux's shortest time-out), and SCTP between
/// two nodes (RFC 9260, 16: RTO.Min). Each time twice as long.
const RESEND_RELAY: u64 = 200 * MS;
const RESEND_DIRECT: u64 = SECOND;
/// How many later datagrams tell a link that one is lost (RFC 8985: RACK, and
/// RFC 9260, 7.2.4).
const TELL_RELAY: usize = 1;
const TELL_DIRECT: usize = 3;

/// A lost datagram, and all that came behind it, which has to wait.
pub(super) struct Gap {
    frames: Vec<Vec<u8>>,
    /// How often it was lost.
    lost: u32,
    /// Whether later datagrams have told of it.
    told: bool,
    number: u64,
}

impl World {
    pub(super) fn transmit(&mut self, from: End, bytes: Vec<u8>) {
        let Some(to) = self.wires.get(&from).copied() else {
            return;
        };
        let places = (from.process(), to.process());
        // A relay's own member and its hub talk within one process.
        let inside = places.0 == places.1;
        let lost = self.random.chance(self.weather.loss) && !inside;
        if lost || self.cut.contains(&places) {
            return;
        }
        if !inside && (self.weather.resent > 0.0 || self.gaps.contains_key(&to)) {
            return self.transmit_datagram(to, bytes);
        }
        let copies = 1 + u64::from(self.random.chance(self.weather.repeats));
        for _ in 0..copies {
            self.deliver(to, bytes.clone());
        }
    }

    fn deliver(&mut self, to: End, bytes: Vec<u8>) {
        let mut at = self.now + self.latency();
        if !self.weather.reorders {
            let last = self.last_arrival.entry(to).or_default();
            at = at.max(*last);
            *last = at;
        }
        let after = at - self.now;
        self.queue(after, Happening::Deliver(to, bytes));
    }

    fn transmit_datagram(&mut self, to: End, bytes: Vec<u8>) {
        let (tell, _) = resend_rule(self.wires.get(&to).copied(), to);
        if let Some(gap) = self.gaps.get_mut(&to) {
            gap.frames.push(bytes);
            // The receiver says what it lacks, once.
            if !gap.told && gap.frames.len() > tell {
                gap.told = true;
                let number = gap.number;
                let round_trip = self.latency() + self.latency();
                self.queue(round_trip, Happening::Resend(to, number));
            }
        } else if self.random.chance(self.weather.resent) {
            let gap = Gap {
                frames: vec![bytes],
                lost: 0,
                told: false,
                number: 0,
            };
            self.gaps.insert(to, gap);
            self.lose(to);
        } else {
            self.deliver(to, bytes);
        }
    }

    /// The first datagram of a gap is lost: its time begins.
    fn lose(&mut self, to: End) {
        let (_, pause) = resend_rule(self.wires.get(&to).copied(), to);
        let number = self.order;
        let round_trip = self.latency() + self.latency();
        if let Some(gap) = self.gaps.get_mut(&to) {
            let after = round_trip + (pause << gap.lost);
            (gap.number, gap.lost) = (number, gap.lost + 1);
            self.queue(after, Happening::Resend(to, number));
        }
    }

    /// It is sent again, and lost again perhaps. All that waited comes with it.
    pub(super) fn resend(&mut self, to: End, number: u64) {
        if self.gaps.get(&to).is_none_or(|gap| gap.number != number) {
            return;
        }
        if self.random.chance(self.weather.resent) {
            return self.lose(to);
        }
        let gap = self.gaps.remove(&to);
        for bytes in gap.into_iter().flat_map(|gap| gap.frames) {
            self.deliver(to, bytes);
        }
    }
}

/// How many later datagrams tell of a loss, and how long it takes without.
fn resend_rule(from: Option<End>, to: End) -> (usize, u64) {
    match (from, to) {
        (Some(End::Node(..)), End::Node(..)) => (TELL_DIRECT, RESEND_DIRECT),
        _ => (TELL_RELAY, RESEND_RELAY),
    }
}
