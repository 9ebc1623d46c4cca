//! The voter's side of a watch.

use core::time::Duration;

use super::{Change, News, Place, Token, Watch};
use crate::flat::FlatSet;
use crate::id::NodeId;
use crate::kvs::Kvs;
use crate::kvs::coordinator::Origin;
use crate::kvs::key::{Key, Slot};
use crate::kvs::list::Page;
use crate::kvs::message::Outcome;
use crate::kvs::request::{Mode, RequestError};
use crate::kvs::version::Version;
use crate::time::Now;

/// How long a question is held when there is nothing to tell.
pub(in crate::kvs) const HOLD: Duration = Duration::from_secs(5);

impl Kvs {
    /// Tells what changed, now or later. Gives the watch back, with a token of
    /// this node's, if a page is to be listed before.
    pub(in crate::kvs) fn follow(
        &mut self,
        origin: Origin,
        watch: Watch,
        now: Now,
    ) -> Option<Watch> {
        if !self.hears_most(watch.list.slot(), now) {
            self.conclude(origin, Outcome::NotReady { perhaps: false }, now);
            return None;
        }
        let Some(token) = self.feed.lease(&watch, now.mono) else {
            self.conclude(origin, Outcome::Failed(RequestError::Busy), now);
            return None;
        };
        let is_listed = token.place == Place::Following;
        let watch = watch.with_token(token);
        if !is_listed {
            return Some(watch);
        }
        let news = self.feed.news(&watch, &self.index);
        if !news.changes.is_empty() {
            self.conclude(origin, Outcome::Watched(news), now);
        } else if !self
            .feed
            .hold(origin, watch.with_token(news.token), now.mono + HOLD)
        {
            self.conclude(origin, Outcome::Failed(RequestError::Busy), now);
        }
        None
    }

    /// The page that a watch begins with, or goes on with; if this node lacks too
    /// much of it, another is asked.
    pub(in crate::kvs) fn first_news(&mut self, watch: Watch, page: Page) -> Outcome {
        let not_ready = Outcome::NotReady { perhaps: false };
        let Some(token) = watch.token else {
            return not_ready;
        };
        for (key, version) in &page.keys {
            if self.index.version(key) < *version && !self.feed.set_ahead(key, *version) {
                return not_ready;
            }
        }
        let changes = page.keys.into_iter().map(|(key, version)| Change {
            key,
            version,
            deleted: false,
        });
        Outcome::Watched(News {
            reset: token.place == Place::Reset,
            changes: changes.collect(),
            token: Token {
                place: page.next.map_or(Place::Following, Place::Listing),
                ..token
            },
        })
    }

    /// A version of a key is durable here. If a newer one is on its way to the
    /// disk, that is told instead.
    pub(in crate::kvs) fn note_change(&mut self, key: &Key, version: Version, now: Now) {
        if !self.feed.is_watched(key.bucket()) {
            return;
        }
        let newest = self.index.get(key);
        let Some(meta) = newest.filter(|meta| meta.version == version) else {
            return;
        };
        let change = Change {
            key: key.clone(),
            version,
            deleted: meta.deleted,
        };
        for (origin, watch) in self.feed.note(change) {
            let news = self.feed.news(&watch, &self.index);
            self.conclude(origin, Outcome::Watched(news), now);
        }
    }

    pub(in crate::kvs) fn on_watch_timeout(&mut self, now: Now) {
        let asked = self.feed.due(now.mono);
        let served = asked.filter(|bucket| self.hears_most(bucket.slot(), now));
        let served: FlatSet<Key> = served.cloned().collect();
        for (origin, watch) in self.feed.review(now.mono, &served) {
            let outcome = match served.contains(watch.list.key()) {
                true => Outcome::Watched(self.feed.news(&watch, &self.index)),
                false => Outcome::NotReady { perhaps: false },
            };
            self.conclude(origin, outcome, now);
        }
    }

    /// Whether this node serves a slot, and has not lost most of its fellows: what
    /// they take it would not hear of.
    fn hears_most(&self, slot: Slot, now: Now) -> bool {
        let view = &self.views.get(slot).view;
        let lives = |voter: &&NodeId| **voter == self.own || self.peers.is_alive(voter);
        let need = self.votes_needed(view, Mode::Quorum, now.mono);
        self.views.serving(slot).is_some() && view.voters.iter().filter(lives).count() >= need
    }
}
