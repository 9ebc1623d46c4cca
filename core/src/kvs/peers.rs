//! The other members, as the store sees them.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use crate::id::NodeId;
use crate::identity::Facts;
use crate::kvs::key::Slot;
use crate::kvs::slots::{SlotMap, SlotSet};
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
    alive: BTreeMap<NodeId, Living>,
    /// When each of them came.
    came: BTreeMap<NodeId, Instant>,
    /// Since when voters that this node leads are missed.
    absent: BTreeMap<NodeId, Instant>,
    timeouts: BTreeMap<NodeId, Duration>,
    waits: Waits,
    /// Fellow voters that hold all that this node held when they last asked,
    /// and that missed no write since.
    caught_up: BTreeSet<NodeId>,
    /// Fellow voters all of whose entries this node has pulled since they came.
    agreed: BTreeSet<NodeId>,
    /// Those that compare, and have not been behind since.
    comparing: BTreeSet<NodeId>,
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
    pub(super) fn set(&mut self, alive: BTreeMap<NodeId, Living>, now: Instant) -> News {
        let gone = self
            .alive
            .iter()
            .filter(|(id, was)| alive.get(id) != Some(was));
        let mut others = alive.iter();
        let news = News {
            gone: gone.map(|(id, _)| *id).collect(),
            came: others.any(|(id, is)| self.alive.get(id) != Some(is)),
        };
        for id in &news.gone {
            self.caught_up.remove(id);
            self.comparing.remove(id);
            self.timeouts.remove(id);
            self.waits.on_gone(id);
        }
        for (id, is) in &alive {
            if self.alive.get(id) != Some(is) {
                self.came.insert(*id, now);
                self.agreed.remove(id);
            }
            self.absent.remove(id);
        }
        self.came.retain(|id, _| alive.contains_key(id));
        self.alive = alive;
        news
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

    /// The pages among the first three members, of any class, at or after the
    /// start of each slot; `own` is a member, too.
    pub(super) fn mirrors(&self, own: (NodeId, Class)) -> SlotMap<Vec<NodeId>> {
        /// Members of any class, from the start of a slot, that hold copies.
        const COPY_COUNT: usize = 3;
        let alive = self.alive.iter();
        let mut members: BTreeMap<NodeId, Class> =
            alive.map(|(id, living)| (*id, living.class)).collect();
        members.insert(own.0, own.1);
        let round: Vec<(NodeId, Class)> = members.into_iter().collect();
        let mut mirrors = SlotMap::new(Vec::new());
        let before = round.iter().cycle().skip(round.len() - 1);
        for (place, (id, (previous, _))) in round.iter().map(|(id, _)| id).zip(before).enumerate() {
            let (first, last) = (Slot::of(previous).next(), Slot::of(id));
            // Two members in one slot: the second comes first for none. The
            // first of all comes after the last: all in one slot, it has all.
            if Slot::of(previous) == last && place > 0 {
                continue;
            }
            let next = round
                .iter()
                .cycle()
                .skip(place)
                .take(COPY_COUNT.min(round.len()));
            let pages = next.filter(|(_, class)| *class == Class::Transient);
            let pages: Vec<NodeId> = pages.map(|(id, _)| *id).collect();
            mirrors.update(&SlotSet::arc(first, last), |own| own.clone_from(&pages));
        }
        mirrors
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
        known.unwrap_or_else(|| self.timeout(id))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn id(first: u8, second: u8) -> NodeId {
        let mut bytes = [0; 32];
        (bytes[0], bytes[1]) = (first, second);
        NodeId::from_bytes(bytes)
    }

    fn living(class: Class) -> Living {
        Living { class, epoch: 1 }
    }

    #[test]
    fn members_in_one_slot_mirror_all_slots() {
        // Slots are the first 12 bits: these three lie in one.
        let pages = [id(7, 1), id(7, 2)];
        let mut peers = Peers::default();
        peers.set(
            pages.map(|page| (page, living(Class::Transient))).into(),
            Instant::default(),
        );
        let mirrors = peers.mirrors((id(7, 3), Class::Durable));
        for slot in [id(0, 0), id(7, 0), id(200, 0)] {
            assert_eq!(mirrors.get(Slot::of(&slot)), &pages.to_vec());
        }
    }

    #[test]
    fn the_first_three_members_of_a_slot_are_asked() {
        let page = |first| (id(first, 0), living(Class::Transient));
        let mut peers = Peers::default();
        peers.set([page(10), page(20), page(30)].into(), Instant::default());
        let mirrors = peers.mirrors((id(15, 0), Class::Durable));
        let of = |first| mirrors.get(Slot::of(&id(first, 0))).clone();
        assert_eq!(of(5), [id(10, 0), id(20, 0)]);
        assert_eq!(of(16), [id(20, 0), id(30, 0), id(10, 0)]);
        assert_eq!(of(31), [id(10, 0), id(20, 0)]);
    }
}
