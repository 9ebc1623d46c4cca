//! A voter for unit tests, and its storage.

use alloc::vec::Vec;
use core::time::Duration;

use super::key::SLOT_COUNT;
use super::message::{Message, Vote};
use super::peers::Living;
use super::version::Version;
use super::view::{SlotView, View};
use super::{Kvs, KvsAction, Reply};
use crate::config::TOMBSTONE_GRACE;
use crate::id::NodeId;
use crate::identity::{Facts, Identity};
use crate::rng::Rng;
use crate::status::Class;
use crate::store::{StoreError, StoreOp, Stored};
use crate::time::{Instant, Now};

pub(super) fn id(seed: u8) -> NodeId {
    Identity::from_seed(&[seed; 32]).id()
}

pub(super) fn at(millis: u64) -> Now {
    Now {
        mono: Instant::default() + Duration::from_millis(millis),
        unix_ms: millis,
    }
}

/// What a clock says that is ten hours ahead.
pub(super) fn hours_later() -> Now {
    Now {
        unix_ms: 10 * 60 * 60 * 1000,
        ..at(0)
    }
}

/// What a durable member says of itself.
pub(super) fn facts() -> Facts {
    Facts {
        epoch: 1,
        class: Class::Durable,
        name: alloc::string::String::new(),
    }
}

/// The first of three voters on everything, which serves, and whose fellows have
/// caught up; a fourth durable member lives, too.
pub(super) fn voter() -> Kvs {
    voter_of(1)
}

/// The same, or the second or third of them.
pub(super) fn voter_of(own: u8) -> Kvs {
    let mut kvs = Kvs::new(
        id(own),
        Class::Durable,
        TOMBSTONE_GRACE,
        Rng::from_seed([5; 32]),
    );
    let voters: Vec<NodeId> = [id(1), id(2), id(3)].into();
    let view = View {
        number: 3,
        voters: voters.clone(),
        previous: voters,
    };
    let (first, last) = (0, SLOT_COUNT - 1);
    kvs.learn_views(&[SlotView { first, last, view }], at(0));
    let all = kvs.views.slots_where(|_| true);
    kvs.views.set_filled(&all, 3);
    let others = (1..=4).filter(|seed| *seed != own);
    let alive = others.map(|seed| (id(seed), Living::of(&facts())));
    kvs.set_members(alive.collect(), at(0));
    for fellow in (1..=3).filter(|seed| *seed != own).map(id) {
        kvs.peers.set_comparing(&fellow);
        kvs.peers.set_caught_up(&fellow);
    }
    // They took what came before.
    kvs.clock.trust(Version::end_of(60 * 60 * 1000), at(0).mono);
    drain(&mut kvs, at(0), Ok(Stored::Done));
    kvs
}

/// What a node has said since the last call.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) messages: Vec<(NodeId, Message)>,
    pub(super) replies: Vec<Reply>,
}

impl Said {
    /// The id of the votes that others were asked for.
    pub(super) fn write(&self) -> u64 {
        let mut ids = self
            .messages
            .iter()
            .filter_map(|(_, message)| match message {
                Message::Vote(Vote::Write { id, .. }) => Some(*id),
                _ => None,
            });
        ids.next_back().unwrap()
    }
}

/// Carries storage's orders out, all alike.
pub(super) fn drain(kvs: &mut Kvs, now: Now, stored: Result<Stored, StoreError>) -> Said {
    drain_with(kvs, now, |_| stored.clone())
}

/// Carries storage's orders out, and answers each.
pub(super) fn drain_with(
    kvs: &mut Kvs,
    now: Now,
    mut storage: impl FnMut(StoreOp) -> Result<Stored, StoreError>,
) -> Said {
    let mut said = Said::default();
    while let Some(action) = kvs.actions.pop_front() {
        match action {
            KvsAction::Store { token, op } => kvs.on_stored(token, storage(op), now),
            KvsAction::Send { to, message, .. } => said.messages.push((to, message)),
            KvsAction::Reply { reply, .. } => said.replies.push(reply),
            KvsAction::Doubt { .. } => {}
        }
    }
    said
}
