//! News of members, passed on once by each who learns it.

use alloc::vec::Vec;
use core::time::Duration;

use super::Ring;
use super::message::{Message, Update};
use crate::flat::{FlatMap, FlatSet};
use crate::id::NodeId;
use crate::time::Instant;

/// Successors that news is passed on to, beside the predecessor and one of
/// the fingers.
const SUCCESSOR_COUNT: usize = 3;
/// News that comes within this time of the last goes out together: what comes
/// alone waits for nothing.
const GATHER: Duration = Duration::from_millis(100);
/// Updates in one message.
pub(super) const UPDATE_COUNT_MAX: usize = 64;

/// News that is not yet passed on: the last of each member, so that there is
/// never more than the table holds.
#[derive(Debug, Default)]
pub(super) struct News {
    updates: FlatMap<NodeId, (Update, Option<NodeId>)>,
    /// When the next may go out.
    free_at: Option<Instant>,
}

impl News {
    /// Takes in an update, and who said it.
    pub(super) fn add(&mut self, update: Update, from: Option<NodeId>) {
        self.updates.insert(update.id, (update, from));
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.free_at.filter(|_| !self.updates.is_empty())
    }

    fn is_due(&self, now: Instant) -> bool {
        !self.updates.is_empty() && self.free_at.is_none_or(|at| at <= now)
    }
}

impl Ring {
    /// Passes news on, at once or soon.
    pub(super) fn flood(&mut self, updates: &[Update], from: Option<NodeId>, now: Instant) {
        for update in updates {
            self.news.add(update.clone(), from);
        }
        self.on_news_timeout(now);
    }

    pub(super) fn on_news_timeout(&mut self, now: Instant) {
        if self.news.is_due(now) {
            self.news.free_at = Some(now + GATHER);
            self.flush_news();
        }
    }

    pub(super) fn flush_news(&mut self) {
        let news = core::mem::take(&mut self.news.updates);
        let near = self.successors.as_slice().iter().take(SUCCESSOR_COUNT);
        let mut targets: FlatSet<NodeId> = near.chain(&self.predecessor).copied().collect();
        targets.extend(self.random_finger());
        for to in targets {
            // Neither to whom it is about, nor back to who said it.
            let others = news.values();
            let others = others.filter(|(update, from)| update.id != to && *from != Some(to));
            let updates: Vec<Update> = others.map(|(update, _)| update.clone()).collect();
            self.send_updates(to, &updates);
        }
    }

    /// Tells one member news, in messages of bounded size.
    pub(super) fn send_updates(&mut self, to: NodeId, updates: &[Update]) {
        let Some(ring) = self.id else {
            return;
        };
        for updates in updates.chunks(UPDATE_COUNT_MAX) {
            let updates = updates.to_vec();
            self.send(to, Message::Members { ring, updates });
        }
    }
}
