//! Round-trip times and the time-outs made of them (RFC 6298).

use core::time::Duration;

/// The time-out before anything is measured.
const TIMEOUT_INITIAL: Duration = Duration::from_millis(1000);
/// The shortest time-out: a busy peer is no lost peer.
const TIMEOUT_MIN: Duration = Duration::from_millis(100);
/// The longest.
const TIMEOUT_MAX: Duration = Duration::from_secs(4);

/// A smoothed round-trip time with its variation (RFC 6298, section 2).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rtt {
    measured: Option<Measured>,
}

#[derive(Clone, Copy, Debug)]
struct Measured {
    smoothed: Duration,
    variation: Duration,
}

impl Rtt {
    /// Takes in one measurement.
    pub(crate) fn measure(&mut self, sample: Duration) {
        self.measure_among(sample, &Self::default());
    }

    /// The same, of one among many: until more is known, its times vary as
    /// those of all do.
    pub(crate) fn measure_among(&mut self, sample: Duration, all: &Self) {
        let half = sample / 2;
        self.measured = Some(match self.measured {
            None => Measured {
                smoothed: sample,
                variation: all.measured.map_or(half, |all| all.variation.min(half)),
            },
            // A path that became twice as fast is another path, or was first
            // measured while both ends were busy: believed at once.
            Some(old) if sample * 2 < old.smoothed => Measured {
                smoothed: sample,
                variation: sample / 2,
            },
            Some(old) => Measured {
                smoothed: (old.smoothed * 7 + sample) / 8,
                variation: (old.variation * 3 + old.smoothed.abs_diff(sample)) / 4,
            },
        });
    }

    /// The smoothed round-trip time, once measured.
    pub(crate) fn smoothed(&self) -> Option<Duration> {
        self.measured.map(|measured| measured.smoothed)
    }

    /// How long an answer takes, with so many times its variation; once
    /// measured.
    pub(crate) fn patience(&self, variations: u32) -> Option<Duration> {
        let measured = self.measured?;
        let patience = measured.smoothed + measured.variation * variations;
        Some(patience.clamp(TIMEOUT_MIN, TIMEOUT_MAX))
    }

    /// How long to wait for an answer before asking again.
    pub(crate) fn timeout(&self) -> Duration {
        self.measured.map_or(TIMEOUT_INITIAL, |measured| {
            (measured.smoothed * 2 + measured.variation * 4).clamp(TIMEOUT_MIN, TIMEOUT_MAX)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeout_follows_what_is_measured() {
        let mut rtt = Rtt::default();
        assert_eq!(rtt.timeout(), TIMEOUT_INITIAL);
        for _ in 0..50 {
            rtt.measure(Duration::from_millis(200));
        }
        assert_eq!(rtt.smoothed(), Some(Duration::from_millis(200)));
        assert!(rtt.timeout() < Duration::from_millis(500));
        rtt.measure(Duration::from_secs(5));
        assert!(rtt.timeout() > Duration::from_secs(2));
    }
}
