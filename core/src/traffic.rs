//! What crosses core's border: how much in all, and how much lately.

use alloc::collections::VecDeque;
use core::time::Duration;

use crate::status::TrafficRate;
use crate::time::Instant;

/// Rates are of about this long: so many marks, so far apart.
const MARK_COUNT: usize = 6;
const MARK_EVERY: Duration = Duration::from_secs(10);

/// Frames that crossed core's border.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    total: Totals,
    /// What the totals were, oldest first.
    marks: VecDeque<(Instant, Totals)>,
    /// When time passed last.
    now: Instant,
}

#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    frames_in: u64,
    bytes_in: u64,
    frames_out: u64,
    bytes_out: u64,
}

impl Traffic {
    pub(crate) fn add_in(&mut self, bytes: usize) {
        self.total.frames_in += 1;
        self.total.bytes_in += bytes as u64;
    }

    pub(crate) fn add_out(&mut self, bytes: usize) {
        self.total.frames_out += 1;
        self.total.bytes_out += bytes as u64;
    }

    /// Time passes: takes a mark when one is due.
    pub(crate) fn tick(&mut self, now: Instant) {
        self.now = now;
        let due = |(at, _): &(Instant, Totals)| *at + MARK_EVERY <= now;
        if self.marks.back().is_none_or(due) {
            if self.marks.len() >= MARK_COUNT {
                self.marks.pop_front();
            }
            self.marks.push_back((now, self.total));
        }
    }

    pub(crate) const fn named(&self) -> [(&'static str, u64); 4] {
        [
            ("frames_in", self.total.frames_in),
            ("frame_bytes_in", self.total.bytes_in),
            ("frames_out", self.total.frames_out),
            ("frame_bytes_out", self.total.bytes_out),
        ]
    }

    /// The average since the oldest mark; zero in the first moments.
    pub(crate) fn rate(&self) -> TrafficRate {
        let Some((since, then)) = self.marks.front() else {
            return TrafficRate::default();
        };
        let seconds = self.now.since(*since).as_secs_f64();
        if seconds < 1.0 {
            return TrafficRate::default();
        }
        let each = |now: u64, then: u64| {
            let rate = now.saturating_sub(then) as f64 / seconds;
            // A status is read by people.
            (rate * 100.0 + 0.5) as u64 as f64 / 100.0
        };
        TrafficRate {
            frames_in: each(self.total.frames_in, then.frames_in),
            bytes_in: each(self.total.bytes_in, then.bytes_in),
            frames_out: each(self.total.frames_out, then.frames_out),
            bytes_out: each(self.total.bytes_out, then.bytes_out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_last_minute() {
        let mut traffic = Traffic::default();
        for second in 0..600 {
            traffic.tick(Instant::from_micros(second * 1_000_000));
            // A burst that is long past by the end.
            traffic.add_out(if second < 300 { 1000 } else { 50 });
            traffic.add_in(7);
        }
        let rate = traffic.rate();
        assert!((0.9..1.1).contains(&rate.frames_out), "{rate:?}");
        assert!((45.0..55.0).contains(&rate.bytes_out), "{rate:?}");
        assert!((6.5..7.5).contains(&rate.bytes_in), "{rate:?}");
    }
}
