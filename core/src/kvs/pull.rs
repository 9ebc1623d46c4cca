//! Pulling: a node brings its entries up to those of another.
//!
//! The puller compares fingerprints of slots, lists those that differ, and
//! fetches what is newer there. It drives, with one question open at a time,
//! so that a source is never flooded. Filling a new voter, catching up after
//! an absence, learning ahead of a change and mirroring are all pulls.

mod weed;

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

pub(crate) use self::weed::Weed;
use super::Kvs;
use super::branch::Branch;
use super::entry::{Entry, Meta};
use super::expiry::Expiry;
use super::horizon::{Collected, Horizon};
use super::key::{Key, Slot};
use super::message::{Message, Pull, Split, ViewMessage};
use super::mirrors::Pages;
use super::pulling::{Pulling, Purpose, REVIEW, Step};
use super::slots::{SlotMap, SlotSet};
use super::storage::{Pending, Placed, entry_write};
use super::version::Version;
use super::view::SlotState;
use crate::event::Lane;
use crate::flat::{FlatMap, FlatSet};
use crate::id::NodeId;
use crate::store::{StoreOp, Write};
use crate::time::{Instant, Now};

/// Pulls under way at once; further ones wait.
const PULL_COUNT_MAX: usize = 4;
/// Offers and lessons are taken up while no more than so many pulls wait: they
/// come again.
const WAITING_COUNT_MAX: usize = 64;
/// How often a question is repeated before the pull is given up.
const TRY_COUNT_MAX: u32 = 6;
/// How long storage may take.
const STORAGE: Duration = Duration::from_secs(60);
/// Keys fetched with one question.
const FETCH_COUNT_MAX: usize = 128;

impl Kvs {
    /// Starts what is to be pulled: for votes, for company, for mirrors.
    pub(super) fn schedule_pulls(&mut self, now: Instant) {
        let missing = self.missing_pulls();
        let incomplete = !missing.is_empty();
        for (source, slots, purpose) in missing {
            if !slots.is_empty() && !self.pulls.is_under_way(&source, &slots, &purpose) {
                self.pulls.waiting.push_back((source, slots, purpose));
            }
        }
        self.start_pulls(now);
        let behind = self.views.co_voters().into_iter().any(|peer| {
            self.peers.is_alive(&peer)
                && !(self.peers.has_caught_up(&peer) && self.pulls.has_pulled(&peer))
        });
        let open = behind || incomplete || !self.views.is_serving_all();
        self.pulls.review_at = open.then(|| now + REVIEW);
    }

    fn missing_pulls(&self) -> Vec<(NodeId, SlotSet, Purpose)> {
        let mut missing = Vec::new();
        for (slots, state) in self.views.unfilled() {
            let view = state.view.number;
            let done = self.filled_from(view, &slots);
            for source in self.fill_from(&state).0 {
                if self.peers.is_alive(&source) && !done.is_some_and(|done| done.contains(&source))
                {
                    missing.push((source, slots.clone(), Purpose::Fill { view }));
                }
            }
        }
        let fellows = self.views.co_voters().into_iter();
        let fellows = fellows.map(|peer| (peer, self.views.shared_with(&peer)));
        for (peer, slots) in fellows.chain(self.mirrored()) {
            if self.peers.is_alive(&peer) && self.pulls.pulled.get(&peer) != Some(&slots) {
                missing.push((peer, slots, Purpose::CatchUp));
            }
        }
        missing
    }

    /// The slots shared as a mirror, or with mirrors, by peer: pages pull
    /// from the first live voter, and that voter from the pages. Where no voter
    /// lives, pages pull from one another.
    pub(super) fn mirrored(&self) -> Vec<(NodeId, SlotSet)> {
        let mut shared: FlatMap<NodeId, SlotSet> = FlatMap::new();
        let mut views = self.views.runs().peekable();
        for (first, last, pages) in self.mirrors.runs() {
            while let Some((view_first, view_last, state)) = views.peek() {
                let (from, to) = (first.max(*view_first), last.min(*view_last));
                for peer in self.mirrored_with(&state.view.voters, pages) {
                    shared.entry(peer).or_default().push(from, to);
                }
                if *view_last > last {
                    break;
                }
                views.next();
            }
        }
        shared.into_iter().collect()
    }

    /// The other members with whom this node shares slots of these voters and
    /// pages, as a page or with pages.
    fn mirrored_with(
        &self,
        voters: &[NodeId],
        pages: Pages,
    ) -> impl Iterator<Item = NodeId> + use<> {
        let lives = |id: &&NodeId| **id == self.own || self.peers.is_alive(id);
        let (leader, pages) = match voters.iter().find(lives) {
            _ if voters.is_empty() => (None, Pages::default()),
            Some(leader) if *leader == self.own => (None, pages),
            _ if !pages.contains(&self.own) => (None, Pages::default()),
            Some(leader) => (Some(*leader), Pages::default()),
            None => (None, pages),
        };
        let own = self.own;
        let peers = leader.into_iter().chain(pages.iter());
        peers.filter(move |peer| *peer != own)
    }

    /// This node is to become a voter: it fills itself from the leader.
    pub(super) fn learn_slots(&mut self, from: NodeId, change: u64, slots: SlotSet, now: Now) {
        let purpose = Purpose::Learn { change };
        let has_room = self.pulls.waiting.len() < WAITING_COUNT_MAX;
        if self.retirements.is_own() || !has_room {
            return;
        }
        if slots.is_valid() && !self.pulls.is_under_way(&from, &slots, &purpose) {
            self.hand_overs.learn(from, slots.clone(), now.mono);
            self.pulls.waiting.push_front((from, slots, purpose));
            self.start_pulls(now.mono);
        }
    }

    /// Pulls what a peer offers, who has no part in these slots any more.
    pub(super) fn take_over(&mut self, from: NodeId, offer: u64, slots: SlotSet, now: Instant) {
        let purpose = Purpose::TakeOver { offer };
        if self.pulls.waiting.len() < WAITING_COUNT_MAX
            && !self.pulls.is_under_way(&from, &slots, &purpose)
        {
            self.pulls.waiting.push_back((from, slots, purpose));
            self.start_pulls(now);
        }
    }

    fn start_pulls(&mut self, now: Instant) {
        while self.pulls.active.len() < PULL_COUNT_MAX {
            let Some((source, slots, purpose)) = self.pulls.waiting.pop_front() else {
                return;
            };
            let id = self.new_id();
            let pulling = Pulling {
                source,
                slots,
                purpose,
                step: Step::Comparing,
                lacks: false,
                collected: SlotMap::new(Horizon::default()),
                is_levelled: false,
                narrowing: VecDeque::new(),
                differing: VecDeque::new(),
                wanted: VecDeque::new(),
                question: 0,
                resend_at: now,
                tries: 0,
            };
            self.pulls.active.insert(id, pulling);
            self.ask_pull(id, now);
        }
    }

    /// Sends the question of the step.
    fn ask_pull(&mut self, id: u64, now: Instant) {
        let Some(pulling) = self.pulls.active.get_mut(&id) else {
            return;
        };
        pulling.resend_at = now + self.peers.timeout(&pulling.source) * 2;
        let (source, question) = (pulling.source, pulling.question);
        let message = match &pulling.step {
            Step::Comparing => Pull::Compare {
                id,
                slots: pulling.slots.clone(),
                view: match pulling.purpose {
                    Purpose::Fill { view } => view,
                    Purpose::CatchUp | Purpose::Learn { .. } | Purpose::TakeOver { .. } => 0,
                },
                sums: self.index.sums(&pulling.slots).into_iter().collect(),
            },
            Step::Splitting { branches } => {
                let branches: Vec<Branch> = branches.iter().map(|one| one.branch).collect();
                Pull::Split(Split::Sums {
                    id,
                    question,
                    sums: self.index.branch_sums(&branches).unwrap_or_default(),
                    branches,
                })
            }
            Step::Listing { branches, after } => Pull::List {
                id,
                question,
                branches: branches.clone(),
                after: after.clone(),
            },
            Step::Fetching => Pull::Fetch {
                id,
                question,
                keys: pulling
                    .wanted
                    .iter()
                    .take(FETCH_COUNT_MAX)
                    .cloned()
                    .collect(),
            },
            Step::Levelling { slots } => Pull::Weed(Weed::Sums {
                id,
                question,
                slots: slots.clone(),
            }),
            Step::Keeping | Step::Ending => return,
        };
        self.send(source, Lane::Repair, Message::Pull(message));
    }

    /// Goes on to the next step.
    pub(super) fn go_on(&mut self, id: u64, step: Option<Step>, now: Now) {
        let Some(pulling) = self.pulls.active.get_mut(&id) else {
            return;
        };
        pulling.tries = 0;
        let next = step.or_else(|| pulling.next_step());
        let next = next.or_else(|| self.levelling(id));
        let Some(pulling) = self.pulls.active.get_mut(&id) else {
            return;
        };
        match next {
            Some(step) => {
                pulling.step = step;
                pulling.question = pulling.question.wrapping_add(1);
                self.ask_pull(id, now.mono);
            }
            None => self.await_orders(id, now),
        }
    }

    pub(super) fn on_pull(&mut self, from: NodeId, message: Pull, now: Now) {
        match message {
            Pull::Compare {
                id,
                slots,
                view,
                sums,
            } => {
                self.on_compare(from, (id, view), (&slots, sums), now);
            }
            Pull::Split(message) => self.on_split_message(from, message, now),
            Pull::List {
                id,
                question,
                branches,
                after,
            } => self.on_list(from, (id, question), &branches, after.as_ref()),
            Pull::Fetch { id, question, keys } => self.on_fetch(from, (id, question), &keys),
            Pull::Differ {
                id,
                slots,
                sealed,
                collected,
            } => self.on_differ(from, id, (slots, sealed), &collected, now),
            Pull::Listing {
                id,
                question,
                entries,
                done,
            } => self.on_listing(from, (id, question), entries, done, now),
            Pull::Entries {
                id,
                question,
                entries,
            } => self.on_entries(from, (id, question), entries, now),
            Pull::Weed(message) => self.on_weed(from, message, now),
            Pull::Caught { slots } => {
                if slots == self.views.shared_with(&from) {
                    self.peers.set_caught_up(&from);
                    self.changes.hurry(now.mono);
                }
            }
            Pull::Please => {
                self.pulls.forget(&from);
                self.schedule_pulls(now.mono);
            }
        }
    }

    fn on_differ(
        &mut self,
        from: NodeId,
        id: u64,
        (slots, sealed): (Vec<(u16, u32)>, bool),
        collected: &[Collected],
        now: Now,
    ) {
        let Some(pulling) = self.pulls.own(from, id, &Step::Comparing) else {
            return;
        };
        if matches!(pulling.purpose, Purpose::Fill { .. }) && !sealed {
            // The source still votes in the old view; it hears of the new one.
            self.pulls.active.remove(&id);
            return self.exchange_views(from);
        }
        self.note_collected(id, collected);
        self.sort_slots(id, slots);
        self.go_on(id, None, now);
    }

    fn on_listing(
        &mut self,
        from: NodeId,
        (id, question): (u64, u32),
        entries: Vec<(Key, Version)>,
        done: u16,
        now: Now,
    ) {
        let active = self.pulls.active.get(&id);
        let Some(pulling) = active.filter(|pulling| pulling.is_asked(&from, question)) else {
            return;
        };
        let Step::Listing { branches, after } = pulling.step.clone() else {
            return;
        };
        let asked = (branches.as_slice(), after.as_ref());
        let weeds = self.weeds(pulling, asked, &entries, usize::from(done));
        let last = entries.last().map(|(key, _)| key.clone());
        // Of what goes, something may take the place that was outranked by it.
        let outranks =
            |key: &Key, version| version > self.index.version(key) || weeds.contains(key);
        let newer = entries.into_iter().filter(|(key, version)| {
            outranks(key, *version)
                && branches.iter().any(|branch| branch.holds(key))
                && !self.is_dead(pulling, key, *version)
        });
        let newer: Vec<(Key, Version)> = newer.collect();
        let Some(pulling) = self.pulls.active.get_mut(&id) else {
            return;
        };
        // What this clock does not believe yet is missing all the same.
        let is_believed = |version: &Version| version.is_believed(now.unix_ms);
        pulling.lacks |= !newer.iter().all(|(_, version)| is_believed(version));
        let believed = newer
            .into_iter()
            .filter(|(_, version)| is_believed(version));
        pulling.wanted.extend(believed.map(|(key, _)| key));
        // What is wanted of this page is fetched before the next is listed: no
        // more than a page is ever remembered.
        let rest = branches.get(usize::from(done)..).unwrap_or_default();
        if let Some((first, others)) = rest.split_first() {
            let within = last.filter(|last| first.holds(last));
            if done == 0 && within <= after {
                // Nothing new, though there is more: the source makes no sense.
                self.pulls.active.remove(&id);
                return self.counters.add("kvs_malformed");
            }
            for branch in others.iter().rev() {
                pulling.differing.push_front((*branch, None));
            }
            pulling.differing.push_front((*first, within));
        }
        if weeds.is_empty() {
            return self.go_on(id, None, now);
        }
        pulling.step = Step::Keeping;
        pulling.resend_at = now.mono + STORAGE;
        self.weed(id, weeds);
    }

    fn on_entries(
        &mut self,
        from: NodeId,
        (id, question): (u64, u32),
        entries: Vec<(Key, Entry)>,
        now: Now,
    ) {
        let admitted = |(key, entry): &(Key, Entry)| self.admits(key, entry.version);
        let admitted: Vec<bool> = entries.iter().map(admitted).collect();
        let active = self.pulls.active.get(&id);
        let dead = |(key, entry): &(Key, Entry)| {
            active.is_none_or(|pulling| self.is_dead(pulling, key, entry.version))
        };
        let dead: Vec<bool> = entries.iter().map(dead).collect();
        let asked = self.pulls.own(from, id, &Step::Fetching);
        let Some(pulling) = asked.filter(|pulling| pulling.is_asked(&from, question)) else {
            return;
        };
        if entries.is_empty() {
            // The source has it no more.
            pulling.wanted.pop_front();
        }
        let mut writes: Vec<Write> = Vec::new();
        let mut placed: Vec<Placed> = Vec::new();
        let mut expires: Vec<Expiry> = Vec::new();
        let mut deleted = false;
        for (((key, entry), admitted), dead) in entries.into_iter().zip(admitted).zip(dead) {
            pulling.wanted.retain(|wanted| *wanted != key);
            if dead {
                continue;
            }
            let believed = self.clock.observe(entry.version, now.unix_ms);
            let newer = entry.version > self.index.version(&key);
            pulling.lacks |= newer && !(admitted && believed);
            if believed && admitted && newer {
                let before = self.index.set(&key, Some(Meta::of(&key, &entry)));
                expires.extend(entry.expires);
                deleted |= entry.value.is_none();
                writes.push(entry_write(&key, &entry));
                let version = entry.version;
                placed.push(Placed {
                    key,
                    version,
                    before,
                });
            }
        }
        if writes.is_empty() {
            return self.go_on(id, None, now);
        }
        pulling.step = Step::Keeping;
        pulling.resend_at = now.mono + STORAGE;
        let source = pulling.source;
        let slots: Vec<Slot> = placed.iter().map(|placed| placed.key.slot()).collect();
        for slot in &slots {
            self.review_slot(*slot, now.mono);
        }
        self.note_expiry(expires.into_iter().min(), now);
        if deleted {
            self.note_tombstone(now.mono);
        }
        self.owe_fellows(&source, &slots, now.mono);
        self.owe_mirrors(slots.into_iter(), now);
        let pending = Pending::Pulled { pull: id, placed };
        self.store(StoreOp::Commit(writes), pending);
    }

    /// A batch is durable.
    pub(super) fn on_pulled_kept(&mut self, id: u64, kept: bool, now: Now) {
        if kept {
            self.go_on(id, None, now);
        } else {
            self.pulls.active.remove(&id);
        }
    }

    /// Nothing is missing; but some of it may be on its way to the disk, as a
    /// vote: all that was ordered so far is awaited before anything is said.
    pub(super) fn await_orders(&mut self, id: u64, now: Now) {
        if let Some(pulling) = self.pulls.active.get_mut(&id) {
            pulling.step = Step::Ending;
            pulling.resend_at = now.mono + STORAGE;
            let pending = Pending::PullEnd { pull: id };
            self.store(StoreOp::Commit(Vec::new()), pending);
        }
    }

    /// All that a pull brought is durable, or that is not known.
    pub(super) fn end_pull(&mut self, id: u64, durable: bool, now: Now) {
        let Some(pulling) = self.pulls.active.remove(&id).filter(|_| durable) else {
            return;
        };
        if pulling.lacks {
            self.pulls.review(now.mono);
            return self.counters.add("pulls_failed");
        }
        self.counters.add("pulls_done");
        let Pulling {
            source,
            slots,
            purpose,
            ..
        } = pulling;
        match purpose {
            Purpose::Learn { change } => {
                let message = Message::View(ViewMessage::Learned { change });
                self.send(source, Lane::Control, message);
            }
            Purpose::Fill { view } => self.on_filled(source, slots, view, now),
            Purpose::TakeOver { offer } => self.on_taken_over(source, offer, &slots),
            Purpose::CatchUp => {
                if slots == self.views.shared_with(&source) {
                    self.peers.set_agreed(&source, true);
                }
                self.pulls.pulled.insert(source, slots.clone());
                let message = Message::Pull(Pull::Caught { slots });
                self.send(source, Lane::Repair, message);
            }
        }
        self.start_pulls(now.mono);
    }

    fn fill_from(&self, state: &SlotState) -> (Vec<NodeId>, usize) {
        state.fill_from(&self.own, |id| self.evictions.has_given_up(id))
    }

    fn filled_from(&self, view: u64, slots: &SlotSet) -> Option<&FlatSet<NodeId>> {
        let mut all = self.pulls.filled_from.iter();
        all.find(|(own, own_slots, _)| (*own, own_slots) == (view, slots))
            .map(|(_, _, done)| done)
    }

    fn on_filled(&mut self, source: NodeId, slots: SlotSet, view: u64, now: Now) {
        let Some((_, state)) = self
            .views
            .unfilled()
            .into_iter()
            .find(|(own, state)| *own == slots && state.view.number == view)
        else {
            return;
        };
        let mut done = self.filled_from(view, &slots).cloned().unwrap_or_default();
        done.insert(source);
        let (from, need) = self.fill_from(&state);
        let filled_from = &mut self.pulls.filled_from;
        filled_from.retain(|(own, own_slots, _)| (*own, own_slots) != (view, &slots));
        #[cfg(planted_bugs)]
        let need = if crate::planted::is("fill_from_one") {
            1
        } else {
            need
        };
        if from.iter().filter(|source| done.contains(*source)).count() < need {
            filled_from.push((view, slots, done));
            return;
        }
        self.views.set_filled(&slots, view);
        self.save_views(Vec::new());
        self.review(now);
    }

    pub(super) fn on_pull_timeout(&mut self, now: Now) {
        let due = self.pulls.active.iter();
        let due = due.filter(|(_, pulling)| pulling.resend_at <= now.mono);
        for id in due.map(|(id, _)| *id).collect::<Vec<_>>() {
            let Some(pulling) = self.pulls.active.get_mut(&id) else {
                continue;
            };
            pulling.tries += 1;
            if pulling.tries > TRY_COUNT_MAX {
                self.counters.add("pulls_failed");
                self.pulls.active.remove(&id);
            } else {
                self.ask_pull(id, now.mono);
            }
        }
        if self.pulls.review_at.is_some_and(|at| at <= now.mono) {
            self.ask_to_catch_up();
            self.confirm_views();
            self.schedule_pulls(now.mono);
        }
    }

    /// Entries came from `source`: other fellow voters may lack them, even if
    /// they pulled from this node before.
    fn owe_fellows(&mut self, source: &NodeId, slots: &[Slot], now: Instant) {
        let states = slots.iter().map(|slot| self.views.get(*slot));
        let states = states.filter(|state| self.views.votes(state));
        let fellows = states.flat_map(|state| state.view.voters.iter().copied());
        let fellows: FlatSet<NodeId> = fellows.collect();
        for fellow in fellows.iter().filter(|id| *id != source) {
            self.peers.set_behind(fellow);
            self.pulls.review(now);
        }
    }

    /// Asks fellow voters that are behind to pull.
    fn ask_to_catch_up(&mut self) {
        for peer in self.views.co_voters() {
            if self.peers.is_alive(&peer) && !self.peers.has_caught_up(&peer) {
                self.send(peer, Lane::Repair, Message::Pull(Pull::Please));
            }
        }
    }
}

#[cfg(test)]
mod tests;
