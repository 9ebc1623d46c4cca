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

/// Living members a node knows at once. Beyond it a newcomer takes the place of
/// one of those that are many, at about the same distance: see `make_room`.
const MEMBER_COUNT_MAX: usize = 1024;
/// The gone of whom a node knows at once; beyond it the oldest are forgotten.
const GONE_COUNT_MAX: usize = 1024;
/// Ranges of ids, by their first bits, in which two tables are compared.
pub(super) const RANGE_COUNT: usize = 32;
/// How long a suspected member has to deny it.
const SUSPECT: Duration = Duration::from_secs(2);
/// How often one that is held for dead is told so.
const ACCUSE: Duration = Duration::from_millis(500);
/// For how long the gone are news to those who never heard of them.
const RECENT: Duration = Duration::from_secs(60);
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
    /// Whether it is this node that it does not answer. Whom others alone
    /// suspect is a member like any other until it is dead, or found silent.
    silent: bool,
    /// When it was told last that it is held for dead.
    accused_at: Option<Instant>,
}

/// All members but this node itself, while they are few enough; beyond that
/// about as many at every distance, counted in octaves, as Chord's fingers and
/// successors are, only more (Stoica et al. 2001, section 4.3; Leong et al.,
/// *EpiChord*, 2004).
#[derive(Debug)]
pub(crate) struct Members {
    own: NodeId,
    members: BTreeMap<NodeId, Member>,
    /// How many of them live or are suspected.
    living: usize,
}

/// What became of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Merge {
    /// It changed the table: pass it on.
    News,
    /// It took the place of another entry, which is of no use to others.
    Noted,
    /// It was known, or older than what is known.
    Old,
    /// It is forged or incomplete.
    Bad,
}

impl Members {
    pub(super) const fn new(own: NodeId) -> Self {
        Self {
            own,
            members: BTreeMap::new(),
            living: 0,
        }
    }

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
        // Of one that was never heard of only life is news.
        if known.is_none() && !lives && self.is_partial() {
            return Merge::Old;
        }
        let is_full = lives && !known.is_some_and(Member::lives) && self.is_partial();
        let mut merge = Merge::News;
        if is_full {
            let Some(octave) = self.make_room() else {
                return Merge::Old;
            };
            let durable = record.as_ref().is_some_and(is_durable);
            if !durable && octave == octave_of(&self.own, &update.id) {
                merge = Merge::Noted;
            }
        }
        let member = Member {
            epoch: update.epoch,
            incarnation: update.incarnation,
            state: update.state,
            record,
            since: now,
            silent: false,
            accused_at: None,
        };
        let old = self.members.insert(update.id, member);
        self.living += usize::from(lives);
        self.living -= usize::from(old.is_some_and(|old| old.lives()));
        self.forget_gone();
        merge
    }

    /// Whether there may be members that this table does not know.
    pub(super) const fn is_partial(&self) -> bool {
        self.living >= MEMBER_COUNT_MAX
    }

    /// Lets go of a page where pages are most numerous: the one heard of
    /// longest ago in the fullest octave of distance, which is returned.
    /// Durable members stay.
    fn make_room(&mut self) -> Option<u32> {
        let mut octaves: BTreeMap<u32, (usize, Instant, NodeId)> = BTreeMap::new();
        for (id, member) in &self.members {
            if !member.lives() || member.record.as_ref().is_some_and(is_durable) {
                continue;
            }
            let entry = octaves.entry(octave_of(&self.own, id));
            let (count, since, oldest) = entry.or_insert((0, member.since, *id));
            *count += 1;
            if member.since < *since {
                (*since, *oldest) = (member.since, *id);
            }
        }
        let fullest = octaves.iter().max_by_key(|(_, (count, _, _))| *count);
        let (octave, oldest) = fullest.map(|(octave, (_, _, oldest))| (*octave, *oldest))?;
        self.members.remove(&oldest);
        self.living -= 1;
        Some(octave)
    }

    fn forget_gone(&mut self) {
        while self.members.len() - self.living > GONE_COUNT_MAX {
            let gone = self.members.iter().filter(|(_, member)| !member.lives());
            let oldest = gone.min_by_key(|(_, member)| member.since);
            let Some(oldest) = oldest.map(|(id, _)| *id) else {
                return;
            };
            self.members.remove(&oldest);
        }
    }

    /// Marks a member as suspected since that epoch; returns the news, if it is
    /// some.
    pub(super) fn suspect(&mut self, id: &NodeId, epoch: u64, now: Instant) -> Option<Update> {
        let member = self.members.get_mut(id)?;
        if !member.is_alive() || member.epoch > epoch {
            return None;
        }
        member.silent = true;
        if member.state == MemberState::Alive {
            member.state = MemberState::Suspect;
            member.since = now;
        }
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
                self.living -= 1;
                dead.push(member.update(*id));
            }
        }
        self.forget_gone();
        dead
    }

    /// Whoever is suspected has its time to deny that from now on.
    pub(super) fn on_late(&mut self, now: Instant) {
        let suspects = self.members.values_mut();
        for member in suspects.filter(|member| member.state == MemberState::Suspect) {
            member.since = now;
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let suspects = self.members.values();
        let suspects = suspects.filter(|member| member.state == MemberState::Suspect);
        suspects.map(|member| member.since + SUSPECT).min()
    }

    pub(crate) fn get(&self, id: &NodeId) -> Option<&Member> {
        self.members.get(id)
    }

    /// Whether one who never heard of a member should: it lives, or is gone of
    /// late. Else tables would remind one another of the dead for ever.
    pub(super) fn is_recent(&self, id: &NodeId, now: Instant) -> bool {
        let recent = |member: &Member| member.lives() || now.since(member.since) < RECENT;
        self.members.get(id).is_some_and(recent)
    }

    pub(crate) fn is_alive(&self, id: &NodeId) -> bool {
        self.members.get(id).is_some_and(Member::is_alive)
    }

    /// The members that live, clockwise from position zero.
    pub(crate) fn alive(&self) -> impl Iterator<Item = (&NodeId, &Record)> {
        self.members.iter().filter_map(|(id, member)| {
            member
                .record
                .as_ref()
                .filter(|_| member.is_alive())
                .map(|record| (id, record))
        })
    }

    /// Those that live, clockwise from a position.
    pub(super) fn clockwise(&self, position: &NodeId) -> impl Iterator<Item = NodeId> + '_ {
        let after = self.members.range(position..);
        let round = after.chain(self.members.range(..position));
        round.filter_map(|(id, member)| {
            let alive = member.is_alive() && member.record.is_some();
            alive.then_some(*id)
        })
    }

    /// The members of whom somebody says that they do not answer, or are dead.
    pub(crate) fn accused(&self) -> impl Iterator<Item = (&NodeId, &Record)> {
        self.members
            .iter()
            .filter(|(_, member)| matches!(member.state, MemberState::Suspect | MemberState::Dead))
            .filter_map(|(id, member)| Some((id, member.record.as_ref()?)))
    }

    /// Sums of who lives, `own` included, by range of ids: equal tables have
    /// equal ones.
    pub(super) fn sums(&self, own: &Update) -> [u64; RANGE_COUNT] {
        let mut sums = [0u64; RANGE_COUNT];
        let mut add = |id: &NodeId, rank: u64| {
            if let Some(sum) = sums.get_mut(range_of(id)) {
                *sum = sum.wrapping_add(rank);
            }
        };
        for (id, member) in &self.members {
            if member.state == MemberState::Alive {
                add(id, mix(id, member.epoch, member.incarnation, member.state));
            }
        }
        add(&own.id, own.rank());
        sums
    }

    /// News of those who live, and of those who are gone.
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

    const fn is_alive(&self) -> bool {
        match self.state {
            MemberState::Alive => true,
            MemberState::Suspect => !self.silent,
            MemberState::Left | MemberState::Dead => false,
        }
    }

    const fn lives(&self) -> bool {
        matches!(self.state, MemberState::Alive | MemberState::Suspect)
    }
}

impl Update {
    /// A digest of all but the record.
    pub(super) fn rank(&self) -> u64 {
        mix(&self.id, self.epoch, self.incarnation, self.state)
    }
}

/// The range of ids that one lies in.
pub(super) fn range_of(id: &NodeId) -> usize {
    const SHIFT: u32 = u8::BITS - RANGE_COUNT.trailing_zeros();
    let first = id.as_bytes().first().copied().unwrap_or_default();
    usize::from(first >> SHIFT)
}

fn is_durable(record: &Record) -> bool {
    record.facts().class == Class::Durable
}

/// How near two members are: the number of halvings of the ring between them.
fn octave_of(own: &NodeId, other: &NodeId) -> u32 {
    let way = |from: &NodeId, to: &NodeId| NodeId::from_bytes(from.distance_to(to)).head();
    way(own, other).min(way(other, own)).leading_zeros()
}

/// A well-mixed number for one entry (the finaliser of splitmix64).
fn mix(id: &NodeId, epoch: u64, incarnation: u32, state: MemberState) -> u64 {
    let epoch = epoch.rotate_left(17);
    let incarnation = u64::from(incarnation).rotate_left(43);
    let mut x = id.head() ^ epoch ^ incarnation ^ (state as u64).rotate_left(61);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
