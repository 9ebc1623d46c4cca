//! When an open link has to be given the time.

use std::time::{Duration, Instant};

use roundelay_core::event::Role;

use super::factory::{ICE_KEEPALIVE, PATH_DOUBT, PATH_LOST, PATH_REST, PATH_REST_ANSWERER};

/// What has come is acknowledged after so long (RFC 9260, section 6.2).
const ACK_DELAY: Duration = Duration::from_millis(200);

/// How often the timers are looked at while something is on its way. SCTP
/// sends nothing again before a second has passed; an acknowledgement comes
/// after a little more than [`ACK_DELAY`] at the latest.
const RESEND_PERIOD: Duration = Duration::from_millis(250);

/// A link that got no data for so long is at rest.
const AT_REST: Duration = Duration::from_secs(1);

/// A datagram that brings more than an acknowledgement is longer than this:
/// 37 bytes of DTLS's, and 28 of SCTP's.
const BARE_ACK: usize = 65;

/// The instants that count.
#[derive(Debug)]
pub(super) struct Timers {
    /// How long the path may be silent before it is checked.
    rest: Duration,
    /// When something came by the selected path last.
    heard: Instant,
    /// When the time was given last.
    given: Instant,
    /// When data came last.
    data: Option<Instant>,
    /// When an acknowledgement of ours is due.
    ack: Option<Instant>,
    /// It is of the first data after a rest.
    is_first: bool,
    /// When to look what has to be sent again.
    resend: Option<Instant>,
}

impl Timers {
    pub(super) fn new(role: Role, now: Instant) -> Self {
        Self {
            rest: match role {
                Role::Offerer => PATH_REST,
                Role::Answerer => PATH_REST_ANSWERER,
            },
            heard: now,
            given: now,
            data: None,
            ack: None,
            is_first: false,
            resend: None,
        }
    }

    /// Something came by the selected path.
    pub(super) fn on_heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// A datagram of data came, so long.
    pub(super) fn on_data(&mut self, length: usize, now: Instant) {
        if length <= BARE_ACK {
            return;
        }
        let data = self.data.replace(now);
        if self.ack.is_none() {
            self.ack = Some(now + ACK_DELAY);
            self.is_first = data.is_none_or(|at| now.saturating_duration_since(at) >= AT_REST);
        }
    }

    /// When the acknowledgement would be due that is better sent at once: a
    /// link at rest has little to say, and another wake-up later costs both
    /// ends more than what might have been acknowledged with it.
    pub(super) fn early_ack(&mut self) -> Option<Instant> {
        std::mem::take(&mut self.is_first).then(|| self.ack.take())?
    }

    /// Whether the peer has been heard by the selected path so lately that a
    /// check of it would say nothing new.
    pub(super) fn is_fresh(&self, is_idle: bool, now: Instant) -> bool {
        now < self.heard + if is_idle { self.rest } else { PATH_DOUBT }
    }

    /// Whether the path has been silent, in spite of our checks, for so long
    /// that it leads nowhere.
    pub(super) fn is_lost(&self, now: Instant) -> bool {
        now >= self.heard + PATH_LOST
    }

    /// The time was given.
    pub(super) fn on_given(&mut self, now: Instant) {
        self.given = now;
        if self.ack.is_some_and(|at| at <= now) {
            // Of what came since, if that was not acknowledged with the rest.
            let last = self.data.map(|at| at + ACK_DELAY);
            self.ack = last.filter(|at| *at > now);
        }
        self.is_first &= self.ack.is_some();
        self.resend = self.resend.filter(|at| *at > now);
    }

    /// When the time is due next. `is_idle`: all that was sent is acknowledged;
    /// `is_moving`: the peer may have another address, and has to answer from
    /// there.
    pub(super) fn due(&mut self, is_idle: bool, is_moving: bool, now: Instant) -> Instant {
        if is_idle {
            self.resend = None;
        } else {
            self.resend.get_or_insert(now + RESEND_PERIOD);
        }
        let again = self.given + ICE_KEEPALIVE;
        let path = match is_moving {
            true => again,
            false => again.max(self.heard + self.rest),
        };
        let sooner = [self.ack, self.resend].into_iter().flatten().min();
        sooner.map_or(path, |at| at.min(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_at_rest_is_looked_at_when_its_path_was_silent() {
        let start = Instant::now();
        let mut timers = Timers::new(Role::Offerer, start);
        let mut other = Timers::new(Role::Answerer, start);
        assert_eq!(timers.due(true, false, start), start + PATH_REST);
        assert!(other.due(true, false, start) > start + PATH_REST);
        let later = start + Duration::from_secs(9);
        timers.on_heard(later);
        assert_eq!(timers.due(true, false, later), later + PATH_REST);
        // Unanswered, it is asked again and again.
        let silent = later + PATH_REST;
        timers.on_given(silent);
        assert_eq!(timers.due(true, false, silent), silent + ICE_KEEPALIVE);
    }

    #[test]
    fn what_is_under_way_is_looked_after() {
        let start = Instant::now();
        let mut timers = Timers::new(Role::Offerer, start);
        assert_eq!(timers.due(false, false, start), start + RESEND_PERIOD);
        let soon = start + Duration::from_millis(10);
        timers.on_data(BARE_ACK, soon);
        assert_eq!(timers.due(false, false, soon), start + RESEND_PERIOD);
        timers.on_data(BARE_ACK + 1, soon);
        assert_eq!(timers.due(false, false, soon), soon + ACK_DELAY);
        timers.on_given(soon + ACK_DELAY);
        assert_eq!(timers.due(true, false, soon), start + PATH_REST);
    }

    #[test]
    fn what_comes_while_an_acknowledgement_waits_gets_its_own() {
        let start = Instant::now();
        let mut timers = Timers::new(Role::Offerer, start);
        let later = start + Duration::from_millis(150);
        timers.on_data(100, start);
        timers.on_data(100, later);
        assert_eq!(timers.due(true, false, later), start + ACK_DELAY);
        timers.on_given(start + ACK_DELAY);
        assert_eq!(timers.due(true, false, later), later + ACK_DELAY);
        timers.on_given(later + ACK_DELAY);
        assert_eq!(timers.due(true, false, later), start + PATH_REST);
    }

    #[test]
    fn what_comes_after_a_rest_is_acknowledged_at_once() {
        let start = Instant::now();
        let mut timers = Timers::new(Role::Offerer, start);
        assert_eq!(timers.early_ack(), None);
        for rest in [0, 5] {
            let first = start + Duration::from_secs(rest);
            timers.on_data(100, first);
            assert_eq!(timers.early_ack(), Some(first + ACK_DELAY));
            assert_eq!(timers.early_ack(), None);
            let second = first + Duration::from_millis(900);
            timers.on_data(100, second);
            assert_eq!(timers.early_ack(), None);
            assert_eq!(timers.due(true, false, second), second + ACK_DELAY);
            timers.on_given(second + ACK_DELAY);
            assert_eq!(timers.ack, None);
        }
    }

    #[test]
    fn a_path_that_was_heard_needs_no_check() {
        let start = Instant::now();
        let mut timers = Timers::new(Role::Offerer, start);
        assert!(timers.is_fresh(true, start + Duration::from_secs(14)));
        assert!(!timers.is_fresh(true, start + PATH_REST));
        assert!(!timers.is_fresh(false, start + PATH_DOUBT));
        timers.on_heard(start + PATH_REST);
        assert!(timers.is_fresh(true, start + PATH_REST));
        assert!(timers.is_fresh(false, start + PATH_REST));
    }

    #[test]
    fn a_peer_that_may_have_moved_is_asked_soon() {
        let start = Instant::now();
        let mut timers = Timers::new(Role::Answerer, start);
        assert_eq!(timers.due(true, true, start), start + ICE_KEEPALIVE);
    }
}
