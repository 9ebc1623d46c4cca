//! The other members, as the store sees them.

use alloc::vec::Vec;
use core::time::Duration;

use crate::flat::{FlatMap, FlatSet};
use crate::id::NodeId;
use crate::identity::Facts;
use crate::kvs::mirrors::Mirrors;
use crate::kvs::waits::{Answered, Question, Waits};
use crate::rtt::Rtt;
use crate::status::Class;
use crate::time::Instant;

/// A member that lives, since it started last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Living {
    class: Class,
    epoch: u64,
}

impl Living {
    pub(crate) const fn of(facts: &Facts) -> Self {
        Self {
            class: facts.class,
            epoch: facts.epoch,
        }
    }
}

/// The members that live, and what they said of their copies.
#[derive(Debug, Default)]
pub(super) struct Peers {
    alive: FlatMap<NodeId, Living>,
    /// When each of them came.
    came: FlatMap<NodeId, Instant>,
    /// Since when voters that this node leads are missed.
    absent: FlatMap<NodeId, Instant>,
    timeouts: FlatMap<NodeId, Duration>,
    waits: Waits,
    /// Fellow voters that hold all that this node held when they last asked,
    /// and that missed no write since.
    caught_up: FlatSet<NodeId>,
    /// Fellow voters all of whose entries this node has pulled since they came.
    agreed: FlatSet<NodeId>,
    /// Those that compare, and have not been behind since.
    comparing: FlatSet<NodeId>,
}

/// What changed.
#[derive(Debug, Default)]
pub(super) struct News {
    pub(super) gone: Vec<NodeId>,
    came: bool,
}

impl News {
    pub(super) const fn is_empty(&self) -> bool {
        self.gone.is_empty() && !self.came
    }
}

impl Peers {
    /// Whoever started again was gone, and came.
    pub(super) fn set(&mut self, alive: FlatMap<NodeId, Living>, now: Instant) -> News {
        let gone = missing(&self.alive, &alive);
        let came = missing(&alive, &self.alive);
        for id in &gone {
            self.caught_up.remove(id);
            self.comparing.remove(id);
            self.timeouts.remove(id);
            self.waits.on_gone(id);
            self.came.remove(id);
        }
        for id in &came {
            self.came.insert(*id, now);
            self.agreed.remove(id);
        }
        self.absent.retain(|id, _| !alive.contains_key(id));
        self.alive = alive;
        News {
            gone,
            came: !came.is_empty(),
        }
    }

    pub(super) fn is_alive(&self, id: &NodeId) -> bool {
        self.alive.contains_key(id)
    }

    /// Takes note of voters that do not live; forgets all others.
    pub(super) fn note_absent<'a>(
        &mut self,
        voters: impl Iterator<Item = &'a NodeId>,
        now: Instant,
    ) {
        let before = core::mem::take(&mut self.absent);
        let absent = voters.filter(|voter| !self.is_alive(voter));
        let since = |voter: &NodeId| before.get(voter).copied().unwrap_or(now);
        self.absent = absent.map(|voter| (*voter, since(voter))).collect();
    }

    /// Since when a voter is missed.
    pub(super) fn absent_since(&self, voter: &NodeId, now: Instant) -> Instant {
        self.absent.get(voter).copied().unwrap_or(now)
    }

    /// When a member came, or started again.
    pub(super) fn came_at(&self, id: &NodeId, now: Instant) -> Instant {
        self.came.get(id).copied().unwrap_or(now)
    }

    pub(super) fn alive(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.alive.keys().copied()
    }

    pub(super) fn durable_count(&self) -> usize {
        let durable = self.alive.values();
        durable
            .filter(|living| living.class == Class::Durable)
            .count()
    }

    /// The first durable member at or after a position that is not among
    /// `others`.
    pub(super) fn next_durable(&self, position: &NodeId, others: &[NodeId]) -> Option<NodeId> {
        let after = self.alive.range(position..);
        let mut clockwise = after.chain(self.alive.range(..position));
        let next =
            clockwise.find(|(id, living)| living.class == Class::Durable && !others.contains(id));
        next.map(|(id, _)| *id)
    }

    /// Which pages mirror which slots; `own` is a member, too.
    pub(super) fn mirrors(&self, own: (NodeId, Class)) -> Mirrors {
        let others = self.alive.iter().map(|(id, living)| (*id, living.class));
        Mirrors::new(others, own)
    }

    pub(super) fn set_timeout(&mut self, id: &NodeId, timeout: Duration) {
        self.timeouts.insert(*id, timeout);
    }

    /// How long a peer may take to answer: as long as any other, if nothing is
    /// known of it.
    pub(super) fn timeout(&self, id: &NodeId) -> Duration {
        let known = self.timeouts.get(id).copied();
        let known = known.or_else(|| self.timeouts.values().max().copied());
        known.unwrap_or_else(|| Rtt::default().timeout())
    }

    /// How long a peer may take to answer a question, before another is asked.
    pub(super) fn patience(&self, question: Question, id: &NodeId) -> Duration {
        let known = self.waits.patience(question, id);
        known.unwrap_or_else(|| match question.is_read() {
            true => self.first_patience(id),
            false => self.timeout(id),
        })
    }

    /// The same of a read, while nothing is known of any: two round trips, its own
    /// and that of whom it asks in its turn. Most pages read but a few times.
    fn first_patience(&self, id: &NodeId) -> Duration {
        let known = self.timeouts.get(id).copied();
        let sum = || self.timeouts.values().sum::<Duration>();
        let count = u32::try_from(self.timeouts.len()).unwrap_or(u32::MAX);
        // A time-out is two round trips and their variation four times.
        let timeout = known.or_else(|| sum().checked_div(count));
        timeout.map_or_else(|| self.timeout(id), |timeout| timeout * 3 / 4)
    }

    /// A peer answered what it was asked, perhaps not for the first time.
    pub(super) fn on_answered(&mut self, question: Question, id: NodeId, answer: Answered) {
        if self.is_alive(&id) {
            self.waits.measure(question, id, answer);
        }
    }

    /// A peer lacks something that this node holds: it has to compare again.
    pub(super) fn set_behind(&mut self, id: &NodeId) {
        self.caught_up.remove(id);
        self.comparing.remove(id);
    }

    /// This node holds all that a fellow voter held, and both will miss nothing
    /// that either of them takes.
    pub(super) fn set_agreed(&mut self, id: &NodeId, agreed: bool) {
        if agreed {
            self.agreed.insert(*id);
        } else {
            self.agreed.remove(id);
        }
    }

    /// This node has to compare with all fellow voters again.
    pub(super) fn forget_agreed(&mut self) {
        self.agreed.clear();
    }

    /// Whether this node held all that a fellow voter held, when that one was
    /// alive last.
    pub(super) fn has_agreed(&self, id: &NodeId) -> bool {
        self.agreed.contains(id)
    }

    /// A peer compares what it holds with what this node holds.
    pub(super) fn set_comparing(&mut self, id: &NodeId) {
        if self.is_alive(id) {
            self.comparing.insert(*id);
        }
    }

    /// A peer says that it holds all: true if it compared since it was behind.
    pub(super) fn set_caught_up(&mut self, id: &NodeId) {
        if self.comparing.remove(id) {
            self.caught_up.insert(*id);
        }
    }

    pub(super) fn has_caught_up(&self, id: &NodeId) -> bool {
        self.caught_up.contains(id)
    }
}

/// What is in the one and not, or not the same, in the other: both are in order,
/// and walked through once.
fn missing(these: &FlatMap<NodeId, Living>, those: &FlatMap<NodeId, Living>) -> Vec<NodeId> {
    let mut those = those.iter().peekable();
    let mut missing = Vec::new();
    for this in these {
        while those.next_if(|that| that.0 < this.0).is_some() {}
        if those.peek() != Some(&this) {
            missing.push(*this.0);
        }
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kvs::fixture::id;

    #[test]
    fn a_first_read_is_waited_for_as_long_as_two_round_trips_take() {
        let millis = Duration::from_millis;
        let mut peers = Peers::default();
        assert_eq!(peers.patience(Question::Get, &id(1)), peers.timeout(&id(1)));
        peers.set_timeout(&id(1), millis(200));
        peers.set_timeout(&id(2), millis(400));
        for (question, peer, expected) in [
            (Question::Get, 1, 150),
            (Question::Put, 1, 200),
            // Of one that is not known: as the others take, in the mean, or at most.
            (Question::Get, 3, 225),
            (Question::Put, 3, 400),
        ] {
            let patience = peers.patience(question, &id(peer));
            assert_eq!(patience, millis(expected), "{question:?} {peer}");
        }
    }
}
