//! The other members, as the store sees them.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use crate::id::NodeId;
use crate::rtt::Rtt;
use crate::status::Class;

/// The members that live, and what they said of their copies.
#[derive(Debug, Default)]
pub(super) struct Peers {
    alive: BTreeMap<NodeId, Class>,
    timeouts: BTreeMap<NodeId, Duration>,
    /// Fellow voters that hold all that this node held when they last asked,
    /// and that missed no write since.
    caught_up: BTreeSet<NodeId>,
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
    pub(super) fn set(&mut self, alive: BTreeMap<NodeId, Class>) -> News {
        let gone = self.alive.keys().filter(|id| !alive.contains_key(*id));
        let news = News {
            gone: gone.copied().collect(),
            came: alive.keys().any(|id| !self.alive.contains_key(id)),
        };
        for id in &news.gone {
            self.caught_up.remove(id);
            self.timeouts.remove(id);
        }
        self.alive = alive;
        news
    }

    pub(super) fn is_alive(&self, id: &NodeId) -> bool {
        self.alive.contains_key(id)
    }

    pub(super) fn class(&self, id: &NodeId) -> Option<Class> {
        self.alive.get(id).copied()
    }

    pub(super) fn alive(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.alive.keys().copied()
    }

    pub(super) fn durable_count(&self) -> usize {
        let durable = self.alive.values();
        durable.filter(|class| **class == Class::Durable).count()
    }

    /// The first members at or after a position, clockwise, `own` among them.
    pub(super) fn first_clockwise(
        &self,
        position: &NodeId,
        own: (NodeId, Class),
        count: usize,
    ) -> Vec<(NodeId, Class)> {
        let after = self.alive.range(position..);
        let others = after.chain(self.alive.range(..position));
        let mut first: Vec<(NodeId, Class)> = others
            .take(count)
            .map(|(id, class)| (*id, *class))
            .chain([own])
            .collect();
        first.sort_by_key(|(id, _)| position.distance_to(id));
        first.truncate(count);
        first
    }

    pub(super) fn set_timeout(&mut self, id: &NodeId, timeout: Duration) {
        self.timeouts.insert(*id, timeout);
    }

    /// How long a peer may take to answer.
    pub(super) fn timeout(&self, id: &NodeId) -> Duration {
        let known = self.timeouts.get(id).copied();
        known.unwrap_or_else(|| Rtt::default().timeout())
    }

    pub(super) fn set_caught_up(&mut self, id: &NodeId, caught_up: bool) {
        if caught_up && self.is_alive(id) {
            self.caught_up.insert(*id);
        } else {
            self.caught_up.remove(id);
        }
    }

    pub(super) fn has_caught_up(&self, id: &NodeId) -> bool {
        self.caught_up.contains(id)
    }
}
