//! The driver's timer.
//!
//! On Linux a file of its own: tokio's wheel wakes a thread at each of its
//! notches before an instant is there, and once more when a timer is set from
//! the thread itself, which is most of what a node does that rests.

use std::pin::Pin;
use std::time::{Duration, Instant};

use tokio::time::Sleep;

/// An alarm that is set too early by less than this is left as it is: it is
/// cheaper to ring for nothing now and then than to be set anew with every
/// message.
const EARLY: Duration = Duration::from_millis(5);

/// Rings at one instant at a time.
#[derive(Debug)]
pub(super) struct Alarm {
    clockwork: Clockwork,
    set: Option<Instant>,
}

#[derive(Debug)]
enum Clockwork {
    #[cfg(target_os = "linux")]
    File(tokio::io::unix::AsyncFd<std::os::fd::OwnedFd>),
    Sleep(Pin<Box<Sleep>>),
}

impl Alarm {
    /// One that is not set; must be called within a tokio runtime.
    pub(super) fn new() -> Self {
        Self {
            clockwork: Clockwork::new(),
            set: None,
        }
    }

    /// Sets it, or lets it rest.
    pub(super) fn set(&mut self, at: Option<Instant>) {
        let is_near = |set: Instant, at: Instant| set <= at && at - set < EARLY;
        match (self.set, at) {
            (Some(set), Some(at)) if is_near(set, at) => {}
            (None, None) => {}
            _ => {
                self.clockwork.set(at);
                self.set = at;
            }
        }
    }

    /// Waits until it rings, which it does once for each time it is set; for
    /// ever while it is not. Dropping the future loses nothing.
    pub(super) async fn rung(&mut self) {
        if self.set.is_none() {
            std::future::pending::<()>().await;
        }
        self.clockwork.rung().await;
        self.set = None;
    }
}

#[cfg(target_os = "linux")]
impl Clockwork {
    fn new() -> Self {
        use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
        use tokio::io::Interest;

        use crate::watch::watch;

        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let file = timerfd_create(TimerfdClockId::Monotonic, flags).map_err(Into::into);
        let file = file.and_then(|file| watch(file, Interest::READABLE));
        file.map_or_else(
            |_: std::io::Error| Self::Sleep(Box::pin(tokio::time::sleep(Duration::ZERO))),
            Self::File,
        )
    }

    fn set(&mut self, at: Option<Instant>) {
        use std::io::ErrorKind;

        use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime};
        use tokio::io::Interest;

        let zero = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        match self {
            Self::File(file) => {
                // Nothing at all would not mean at once, but never.
                let nothing = Duration::from_nanos(1);
                let pause = |at: Instant| at.saturating_duration_since(Instant::now()).max(nothing);
                let value = at.map_or(zero, |at| Timespec {
                    tv_sec: pause(at).as_secs().cast_signed(),
                    tv_nsec: pause(at).subsec_nanos().into(),
                });
                let new = Itimerspec {
                    it_interval: zero,
                    it_value: value,
                };
                // It fails for no argument that this can name.
                let _ = timerfd_settime(file.get_ref(), TimerfdTimerFlags::empty(), &new);
                // If it has rung already, that was for the old time.
                let forget = |_: &_| Err::<(), _>(ErrorKind::WouldBlock.into());
                let _ = file.try_io(Interest::READABLE, forget);
            }
            Self::Sleep(sleep) => reset(sleep, at),
        }
    }

    async fn rung(&mut self) {
        match self {
            // To be set anew empties it: nothing needs to be read.
            Self::File(file) => match file.readable().await {
                Ok(mut ready) => ready.clear_ready(),
                // The runtime shuts down.
                Err(_) => std::future::pending().await,
            },
            Self::Sleep(sleep) => sleep.await,
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl Clockwork {
    fn new() -> Self {
        Self::Sleep(Box::pin(tokio::time::sleep(Duration::ZERO)))
    }

    fn set(&mut self, at: Option<Instant>) {
        let Self::Sleep(sleep) = self;
        reset(sleep, at);
    }

    async fn rung(&mut self) {
        let Self::Sleep(sleep) = self;
        sleep.await;
    }
}

fn reset(sleep: &mut Pin<Box<Sleep>>, at: Option<Instant>) {
    if let Some(at) = at {
        sleep.as_mut().reset(at.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ring_after(alarm: &mut Alarm, pause: Duration) {
        let start = Instant::now();
        alarm.set(Some(start + pause));
        alarm.rung().await;
        assert!(start.elapsed() >= pause);
        assert!(start.elapsed() < pause + Duration::from_secs(5));
    }

    async fn rings(alarm: &mut Alarm) -> bool {
        let limit = Duration::from_millis(150);
        tokio::time::timeout(limit, alarm.rung()).await.is_ok()
    }

    #[tokio::test]
    async fn it_rings_once_for_each_time_it_is_set() {
        let mut alarm = Alarm::new();
        for pause in [0, 30, 1] {
            ring_after(&mut alarm, Duration::from_millis(pause)).await;
            assert!(!rings(&mut alarm).await);
        }
    }

    #[tokio::test]
    async fn it_can_be_set_earlier_later_and_not_at_all() {
        let mut alarm = Alarm::new();
        let now = Instant::now();
        alarm.set(Some(now + Duration::from_secs(3600)));
        assert!(!rings(&mut alarm).await);
        ring_after(&mut alarm, Duration::from_millis(10)).await;
        alarm.set(Some(Instant::now()));
        alarm.set(Some(Instant::now() + Duration::from_secs(3600)));
        assert!(!rings(&mut alarm).await);
        alarm.set(Some(Instant::now()));
        alarm.set(None);
        assert!(!rings(&mut alarm).await);
    }

    #[tokio::test]
    async fn an_instant_that_is_long_past_rings_at_once() {
        let mut alarm = Alarm::new();
        alarm.set(Instant::now().checked_sub(Duration::from_millis(1)));
        assert!(rings(&mut alarm).await);
    }
}
