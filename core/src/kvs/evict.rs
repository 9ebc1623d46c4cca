//! Evicting: an operator gives a voter up for lost.
//!
//! A view changes when a majority of its voters agrees. Voters that are given
//! up count no more: the others are a view of their own, and choose the next
//! one. That is safe as long as the evicted are gone for good: one that lives
//! on elsewhere could choose otherwise with others that are. So nobody gives
//! up a member that answers. One that comes back finds that it votes no more,
//! and hands over what it holds.

use alloc::vec::Vec;
use core::time::Duration;

use super::Kvs;
use super::KvsAction;
use super::message::{Message, ViewMessage};
use super::request::{Reply, RequestError, RequestId};
use super::view::View;
use crate::event::Lane;
use crate::flat::{FlatMap, FlatSet};
use crate::id::NodeId;
use crate::time::{Instant, Now};

/// For how long a member is given up; by then its places are filled.
const GIVEN_UP: Duration = Duration::from_secs(60);
/// How long the caller waits for that.
const DEADLINE: Duration = Duration::from_secs(20);
/// How often it looks, and reminds the others.
const LOOK: Duration = Duration::from_millis(500);
/// Members given up at once, and callers who wait; a further one is refused.
const EVICTION_COUNT_MAX: usize = 64;

/// Who is given up, and who asked for that.
#[derive(Debug, Default)]
pub(super) struct Evictions {
    given_up: FlatMap<NodeId, Instant>,
    asked: Vec<Asked>,
    look_at: Option<Instant>,
}

#[derive(Debug)]
struct Asked {
    request: RequestId,
    id: NodeId,
    deadline: Instant,
}

impl Evictions {
    pub(super) const fn poll_timeout(&self) -> Option<Instant> {
        self.look_at
    }

    pub(super) fn has_given_up(&self, id: &NodeId) -> bool {
        self.given_up.contains_key(id)
    }

    /// One that lives is given up no more.
    pub(super) fn on_alive(&mut self, is_alive: impl Fn(&NodeId) -> bool) {
        self.given_up.retain(|id, _| !is_alive(id));
    }
}

impl Kvs {
    /// Gives a voter up, for this node's own caller. `known`: whether it is or
    /// was a member.
    pub(crate) fn evict(&mut self, request: RequestId, id: NodeId, known: bool, now: Now) {
        let reply = if id == self.own || self.peers.is_alive(&id) {
            Some(Reply::Failed(RequestError::Answers))
        } else if !self.has_place(&id) {
            Some(if known {
                Reply::Evicted
            } else {
                Reply::Missing
            })
        } else if self.evictions.asked.len() >= EVICTION_COUNT_MAX {
            Some(Reply::Failed(RequestError::Busy))
        } else {
            None
        };
        if let Some(reply) = reply {
            return self.actions.push_back(KvsAction::Reply { request, reply });
        }
        self.evictions.asked.push(Asked {
            request,
            id,
            deadline: now.mono + DEADLINE,
        });
        self.evictions.look_at = Some(now.mono);
        self.on_evict_timeout(now);
    }

    /// Another member says that one is given up: whoever leads its slots acts.
    pub(super) fn on_evict(&mut self, id: NodeId, now: Now) {
        let evictions = &mut self.evictions;
        if id == self.own || self.peers.is_alive(&id) {
            return self.counters.add("evictions_refused");
        }
        if evictions.given_up.len() < EVICTION_COUNT_MAX || evictions.has_given_up(&id) {
            evictions.given_up.insert(id, now.mono + GIVEN_UP);
            // It will show no newer view: nobody waits for it.
            self.views.confirm(&id);
            self.review(now);
        }
    }

    pub(super) fn on_evict_timeout(&mut self, now: Now) {
        if self.evictions.look_at.is_none_or(|at| at > now.mono) {
            return;
        }
        self.evictions.given_up.retain(|_, until| *until > now.mono);
        for asked in core::mem::take(&mut self.evictions.asked) {
            let request = asked.request;
            let reply = if !self.has_place(&asked.id) {
                Reply::Evicted
            } else if self.peers.is_alive(&asked.id) {
                Reply::Failed(RequestError::Answers)
            } else if asked.deadline <= now.mono {
                let missing = self.missing_with(&asked.id);
                Reply::Failed(RequestError::Unavailable { missing })
            } else {
                self.announce(asked.id, now);
                self.evictions.asked.push(asked);
                continue;
            };
            self.actions.push_back(KvsAction::Reply { request, reply });
        }
        let waiting = !self.evictions.asked.is_empty();
        self.evictions.look_at = waiting.then(|| now.mono + LOOK);
    }

    fn announce(&mut self, id: NodeId, now: Now) {
        for member in self.peers.alive().collect::<Vec<_>>() {
            let message = Message::View(ViewMessage::Evict { id });
            self.send(member, Lane::Control, message);
        }
        self.on_evict(id, now);
    }

    /// Whether a member votes on anything.
    pub(super) fn has_place(&self, id: &NodeId) -> bool {
        let mut runs = self.views.runs();
        runs.any(|(_, _, state)| state.view.voters.contains(id))
    }

    /// The dead with whom one votes: they may have to be given up, too.
    fn missing_with(&self, id: &NodeId) -> Vec<NodeId> {
        let runs = self.views.runs();
        let runs = runs.filter(|(_, _, state)| state.view.voters.contains(id));
        let voters = runs.flat_map(|(_, _, state)| state.view.voters.iter().copied());
        let dead = voters.filter(|voter| *voter != self.own && !self.peers.is_alive(voter));
        let dead: FlatSet<NodeId> = dead.collect();
        dead.into_iter().collect()
    }

    /// How many of a view's voters choose the next one: a majority of those
    /// that are not given up.
    pub(super) fn quorum(&self, view: &View) -> usize {
        let counted = view.voters.iter();
        let counted = counted.filter(|voter| !self.evictions.has_given_up(voter));
        counted.count() / 2 + 1
    }
}
