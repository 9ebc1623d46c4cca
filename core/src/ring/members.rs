//! The table of all members: who is in the ring, and who lives.
//!
//! News spreads as in SWIM (Das et al. 2002): suspicion before death, and a
//! member that hears of its own death denies it with a higher incarnation. A
//! greater (epoch, incarnation, state) wins, so that all tables converge.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use super::message::Update;
use crate::id::NodeId;
use crate::identity::{Network, Record};
use crate::status::{Class, MemberState, MemberStatus};
use crate::time::Instant;

/// Members a node knows at once. Beyond it further news is not kept: the ring
/// still routes by its successors.
const MEMBER_COUNT_MAX: usize = 1024;
/// How long a suspected member has to deny it.
const SUSPECT: Duration = Duration::from_secs(2);
/// How often one that is held for dead is told so.
const ACCUSE: Duration = Duration::from_millis(500);
/// How long the dead are remembered, so that stale news cannot raise them.
const REMEMBER: Duration = Duration::from_secs(600);

/// One member.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) epoch: u64,
    pub(crate) incarnation: u32,
    pub(crate) state: MemberState,
    pub(crate) record: Option<Record>,
    since: Instant,
    /// When it was told last that it is held for dead.
    accused_at: Option<Instant>,
}

/// All members but this node itself.
#[derive(Debug, Default)]
pub(crate) struct Members {
    members: BTreeMap<NodeId, Member>,
}

/// What became of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Merge {
    /// It changed the table: pass it on.
    News,
    /// It was known, or older than what is known.
    Old,
    /// It is forged or incomplete.
    Bad,
}

impl Members {
    /// Takes in an update of another member.
    pub(super) fn merge(&mut self, update: &Update, network: &Network, now: Instant) -> Merge {
        let known = self.members.get(&update.id);
        let rank = (update.epoch, update.incarnation, update.state);
        if known.is_some_and(|known| (known.epoch, known.incarnation, known.state) >= rank) {
            return Merge::Old;
        }
        let lives = matches!(update.state, MemberState::Alive | MemberState::Suspect);
        let record = match (
            &update.record,
            known.and_then(|known| known.record.as_ref()),
        ) {
            (Some(record), Some(known)) if record == known => Some(record.clone()),
            (Some(record), _) => {
                let genuine = record.id() == update.id
                    && record.facts().epoch == update.epoch
                    && record.verify(network).is_ok();
                if !genuine {
                    return Merge::Bad;
                }
                Some(record.clone())
            }
            (None, known) => known
                .filter(|known| known.facts().epoch == update.epoch || !lives)
                .cloned(),
        };
        if lives && record.is_none() {
            return Merge::Bad;
        }
        if known.is_none() && self.members.len() >= MEMBER_COUNT_MAX {
            return Merge::Old;
        }
        let member = Member {
            epoch: update.epoch,
            incarnation: update.incarnation,
            state: update.state,
            record,
            since: now,
            accused_at: None,
        };
        self.members.insert(update.id, member);
        Merge::News
    }

    /// Marks a member as suspected since that epoch; returns the news, if it is
    /// some.
    pub(super) fn suspect(&mut self, id: &NodeId, epoch: u64, now: Instant) -> Option<Update> {
        let member = self.members.get_mut(id)?;
        if member.state != MemberState::Alive || member.epoch > epoch {
            return None;
        }
        member.state = MemberState::Suspect;
        member.since = now;
        Some(member.update(*id))
    }

    /// Ends suspicions that nobody denied; returns the news. Forgets those
    /// who are long gone.
    pub(super) fn on_timeout(&mut self, now: Instant) -> Vec<Update> {
        self.members.retain(|_, member| {
            !matches!(member.state, MemberState::Dead | MemberState::Left)
                || now.since(member.since) < REMEMBER
        });
        let mut dead = Vec::new();
        for (id, member) in &mut self.members {
            if member.state == MemberState::Suspect && now.since(member.since) >= SUSPECT {
                member.state = MemberState::Dead;
                member.since = now;
                dead.push(member.update(*id));
            }
        }
        dead
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let suspects = self.members.values();
        let suspects = suspects.filter(|member| member.state == MemberState::Suspect);
        suspects.map(|member| member.since + SUSPECT).min()
    }

    pub(crate) fn get(&self, id: &NodeId) -> Option<&Member> {
        self.members.get(id)
    }

    pub(crate) fn is_alive(&self, id: &NodeId) -> bool {
        self.members
            .get(id)
            .is_some_and(|member| member.state == MemberState::Alive)
    }

    /// The members that live, clockwise from position zero.
    pub(crate) fn alive(&self) -> impl Iterator<Item = (&NodeId, &Record)> {
        self.members.iter().filter_map(|(id, member)| {
            let alive = member.state == MemberState::Alive;
            member
                .record
                .as_ref()
                .filter(|_| alive)
                .map(|record| (id, record))
        })
    }

    /// The members of whom somebody says that they do not answer, or are dead.
    pub(crate) fn accused(&self) -> impl Iterator<Item = (&NodeId, &Record)> {
        self.members
            .iter()
            .filter(|(_, member)| matches!(member.state, MemberState::Suspect | MemberState::Dead))
            .filter_map(|(id, member)| Some((id, member.record.as_ref()?)))
    }

    /// A digest of who lives, `own` included: equal tables have equal ones.
    pub(super) fn digest(&self, own: &Update) -> u64 {
        let alive = self
            .members
            .iter()
            .filter(|(_, member)| member.state == MemberState::Alive);
        let alive = alive.map(|(id, member)| mix(id, member.epoch, member.incarnation));
        alive.fold(mix(&own.id, own.epoch, own.incarnation), u64::wrapping_add)
    }

    pub(super) fn updates(&self) -> impl Iterator<Item = Update> + '_ {
        self.members.iter().map(|(id, member)| member.update(*id))
    }

    /// What to say to one that speaks and yet is held for dead, so that it may
    /// deny that: not each time that it speaks, for it may think the same of
    /// this node, and neither would ever stop.
    pub(super) fn accusation(&mut self, id: &NodeId, now: Instant) -> Option<Update> {
        let member = self.members.get_mut(id)?;
        let early = |at: Instant| now.since(at) < ACCUSE;
        if member.state == MemberState::Alive || member.accused_at.is_some_and(early) {
            return None;
        }
        member.accused_at = Some(now);
        Some(member.update(*id))
    }

    /// Those who live, for all that is known. The others are remembered for
    /// the sake of the table alone.
    pub(super) fn status(&self) -> impl Iterator<Item = MemberStatus> + '_ {
        let living = self.members.iter().filter(|(_, member)| member.lives());
        living.map(|(id, member)| MemberStatus {
            id: *id,
            name: member
                .record
                .as_ref()
                .map(|record| record.facts().name.clone())
                .unwrap_or_default(),
            class: member
                .record
                .as_ref()
                .map_or(Class::Transient, |record| record.facts().class),
            state: member.state,
        })
    }
}

impl Member {
    fn update(&self, id: NodeId) -> Update {
        Update {
            id,
            epoch: self.epoch,
            incarnation: self.incarnation,
            state: self.state,
            record: self.record.clone().filter(|_| self.lives()),
        }
    }

    const fn lives(&self) -> bool {
        matches!(self.state, MemberState::Alive | MemberState::Suspect)
    }
}

/// A well-mixed number for one entry (the finaliser of splitmix64).
fn mix(id: &NodeId, epoch: u64, incarnation: u32) -> u64 {
    let head = id
        .as_bytes()
        .first_chunk()
        .map_or(0, |head| u64::from_be_bytes(*head));
    let mut x = head ^ epoch.rotate_left(17) ^ u64::from(incarnation).rotate_left(43);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
