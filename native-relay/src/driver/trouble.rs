//! What a person should know goes to the log, but not without end.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use roundelay_core::{Trouble, TroubleKind};

/// The same words are said once in this time.
const REPEAT_AFTER: Duration = Duration::from_secs(60);
/// Different words remembered at once; then all are forgotten.
const REMEMBERED_MAX: usize = 64;

/// What was said lately.
#[derive(Debug, Default)]
pub(super) struct Troubles(HashMap<String, Instant>);

impl Troubles {
    /// Logs a trouble, unless it was just logged.
    pub(super) fn tell(&mut self, trouble: &Trouble, now: Instant) {
        let Trouble { kind, message } = trouble;
        if !self.is_news(message, now) {
            return;
        }
        match kind {
            // It works on, only slower.
            TroubleKind::NoDirectLink => tracing::info!("{message}"),
            TroubleKind::RelayUnreachable
            | TroubleKind::RelayLost
            | TroubleKind::OtherRing
            | TroubleKind::RelayRefused
            | TroubleKind::WrongNetwork => tracing::warn!("{message}"),
            // A person has to act, or this node is of no use.
            TroubleKind::IdentityInUse | TroubleKind::Storage => tracing::error!("{message}"),
        }
    }

    fn is_news(&mut self, message: &str, now: Instant) -> bool {
        let said = self.0.get(message);
        if said.is_some_and(|at| now.saturating_duration_since(*at) < REPEAT_AFTER) {
            return false;
        }
        if self.0.len() >= REMEMBERED_MAX {
            self.0.clear();
        }
        self.0.insert(message.to_owned(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_words_are_said_once_a_minute() {
        let mut troubles = Troubles::default();
        let start = Instant::now();
        assert!(troubles.is_news("a", start));
        assert!(troubles.is_news("b", start));
        assert!(!troubles.is_news("a", start + REPEAT_AFTER / 2));
        assert!(troubles.is_news("a", start + REPEAT_AFTER));
        for number in 0..1_000 {
            troubles.is_news(&number.to_string(), start);
        }
        assert!(troubles.0.len() <= REMEMBERED_MAX);
    }
}
