//! The two clocks, read here alone.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use roundelay_core as core;

/// The process's monotonic clock, counted from its start, and the wall clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

/// One instant on every clock that somebody needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// For sockets and timers.
    pub(crate) instant: Instant,
    /// For core.
    pub(crate) now: core::Now,
}

impl Clock {
    /// A clock that starts now.
    #[must_use]
    pub(crate) fn start() -> Self {
        Self {
            origin: Instant::now(),
        }
    }

    pub(crate) fn moment(&self) -> Moment {
        let instant = Instant::now();
        let now = core::Now {
            mono: self.mono(instant),
            unix_ms: unix_ms(),
        };
        Moment { instant, now }
    }

    /// What core calls an instant.
    pub(crate) fn mono(&self, instant: Instant) -> core::Instant {
        let micros = instant.saturating_duration_since(self.origin).as_micros();
        core::Instant::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    /// The instant that core names; a day from now at most, since timers have
    /// their limits.
    pub(crate) fn instant(&self, mono: core::Instant, from: Instant) -> Instant {
        const DAY: Duration = Duration::from_secs(86_400);
        from + mono.since(self.mono(from)).min(DAY)
    }
}

/// Milliseconds since the Unix epoch.
#[must_use]
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
