//! The table of all members: who is in the ring, and who lives.
//!
//! News spreads as in SWIM (Das et al. 2002): suspicion before death, and a
//! member that hears of its own death denies it with a higher incarnation. A
//! greater (epoch, incarnation, state) wins, so that all tables converge.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use super::census::{Census, octave_of, within};
use super::message::Update;
use crate::flat::FlatMap;
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
    pub(super) since: Instant,
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
    /// In boxes: where a thousand are known, one that comes moves half of them.
    members: FlatMap<NodeId, Box<Member>>,
    census: Census,
    /// Whether signatures go unchecked: thousands of tables in one test.
    #[cfg(test)]
    pub(super) trusting: bool,
}

/// What became of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Merge {
    /// It changed the table: pass it on.
    News,
    /// It took a place from which entries are let go all the time: whoever
    /// passed that on would hear of it as news again, and never stop.
    Noted,
    /// It was known, or older than what is known.
    Old,
    /// It is forged or incomplete.
    Bad,
}

impl Members {
    pub(super) fn new(own: NodeId) -> Self {
        Self {
            own,
            members: FlatMap::new(),
            census: Census::default(),
            #[cfg(test)]
            trusting: false,
        }
    }

    /// Takes in an update of another member.
    pub(super) fn merge(&mut self, update: &Update, network: &Network, now: Instant) -> Merge {
        let known = self.get(&update.id);
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
                    && self.is_signed(record, network);
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
        let member = Member {
            epoch: update.epoch,
            incarnation: update.incarnation,
            state: update.state,
            record,
            since: now,
            silent: false,
            accused_at: None,
        };
        let mut merge = Merge::News;
        if is_full {
            let octave = octave_of(&self.own, &update.id);
            if member.is_page() && self.census.is_crowded(octave) {
                merge = Merge::Noted;
            }
            if !self.make_room(&update.id) {
                return Merge::Old;
            }
        }
        self.put(update.id, member);
        self.forget_gone(now);
        merge
    }

    fn put(&mut self, id: NodeId, member: Member) {
        self.take(&id);
        self.census.add(&self.own, &id, &member);
        self.members.insert(id, Box::new(member));
    }

    fn take(&mut self, id: &NodeId) -> Option<Member> {
        let member = self.members.remove(id)?;
        self.census.remove(&self.own, id, &member);
        Some(*member)
    }

    fn is_signed(&self, record: &Record, network: &Network) -> bool {
        #[cfg(test)]
        if self.trusting {
            return true;
        }
        record.verify(network).is_ok()
    }

    /// Whether there may be members that this table does not know.
    pub(super) const fn is_partial(&self) -> bool {
        self.census.living >= MEMBER_COUNT_MAX
    }

    /// How many live or are suspected.
    pub(super) const fn living(&self) -> usize {
        self.census.living
    }

    /// Lets go of a page where pages are most numerous: in the fullest octave of
    /// distance, a page that the newcomer's id chooses. Durable members stay.
    /// Returns whether there is room.
    fn make_room(&mut self, newcomer: &NodeId) -> bool {
        let Some(octave) = self.census.fullest() else {
            return false;
        };
        let start = within(&self.own, octave, newcomer);
        let round = self.members.range(start..);
        let mut round = round.chain(self.members.range(..start));
        let next = round.find(|(id, member)| {
            member.lives() && member.is_page() && octave_of(&self.own, id) == octave
        });
        let next = next.map(|(id, _)| *id);
        next.is_some_and(|next| self.take(&next).is_some())
    }

    /// Forgets who is gone for long, and who is one too many.
    fn forget_gone(&mut self, now: Instant) {
        while let Some((since, id)) = self.census.gone.front().copied() {
            let many = self.census.gone.len() > GONE_COUNT_MAX;
            if !many && now.since(since) < REMEMBER {
                return;
            }
            self.census.gone.pop_front();
            let member = self.get(&id);
            if member.is_some_and(|member| !member.lives() && member.since == since) {
                self.take(&id);
            }
        }
    }

    /// Marks a member as suspected since that epoch; returns the news, if it is
    /// some.
    pub(super) fn suspect(&mut self, id: &NodeId, epoch: u64, now: Instant) -> Option<Update> {
        let known = self.get(id)?;
        if !known.is_alive() || known.epoch > epoch {
            return None;
        }
        let mut member = known.clone();
        member.silent = true;
        if member.state == MemberState::Alive {
            member.state = MemberState::Suspect;
            member.since = now;
        }
        let update = member.update(*id);
        self.put(*id, member);
        Some(update)
    }

    /// Ends suspicions that nobody denied; returns the news. Forgets those
    /// who are long gone.
    pub(super) fn on_timeout(&mut self, now: Instant) -> Vec<Update> {
        let mut dead = Vec::new();
        for (id, mut member) in self.suspects() {
            if now.since(member.since) >= SUSPECT {
                member.state = MemberState::Dead;
                member.since = now;
                dead.push(member.update(id));
                self.put(id, member);
            }
        }
        self.forget_gone(now);
        dead
    }

    /// Whoever is suspected has its time to deny that from now on.
    pub(super) fn on_late(&mut self, now: Instant) {
        for (id, mut member) in self.suspects() {
            member.since = now;
            self.put(id, member);
        }
    }

    fn suspects(&self) -> Vec<(NodeId, Member)> {
        let suspects = self.census.suspects.iter();
        let suspects = suspects.filter_map(|id| Some((*id, self.get(id)?.clone())));
        suspects.collect()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let suspects = self.census.suspects.iter();
        let times = suspects.filter_map(|id| Some(self.get(id)?.since + SUSPECT));
        times.min()
    }

    pub(crate) fn get(&self, id: &NodeId) -> Option<&Member> {
        self.members.get(id).map(|member| &**member)
    }

    pub(crate) fn is_alive(&self, id: &NodeId) -> bool {
        self.get(id).is_some_and(Member::is_alive)
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
        let before = self.members.range(..position);
        #[cfg(planted_bugs)]
        let before = before.filter(|_| !crate::planted::is("no_wrap_around"));
        after.chain(before).filter_map(|(id, member)| {
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

    /// The same of one.
    pub(super) fn update(&self, id: &NodeId) -> Option<Update> {
        self.get(id).map(|member| member.update(*id))
    }

    /// All entries in short, in order.
    pub(super) fn ranks(&self) -> impl Iterator<Item = (&NodeId, u64, &Member)> {
        self.members.iter().map(|(id, member)| {
            let rank = mix(id, member.epoch, member.incarnation, member.state);
            (id, rank, &**member)
        })
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

    /// Whether one who never heard of it should: it lives, or is gone of late.
    /// Else tables would remind one another of the dead for ever.
    pub(super) fn is_recent(&self, now: Instant) -> bool {
        self.lives() || now.since(self.since) < RECENT
    }

    const fn is_alive(&self) -> bool {
        match self.state {
            MemberState::Alive => true,
            MemberState::Suspect => !self.silent,
            MemberState::Left | MemberState::Dead => false,
        }
    }

    pub(super) const fn lives(&self) -> bool {
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

/// A well-mixed number for one entry (the finaliser of splitmix64).
fn mix(id: &NodeId, epoch: u64, incarnation: u32, state: MemberState) -> u64 {
    let epoch = epoch.rotate_left(17);
    let incarnation = u64::from(incarnation).rotate_left(43);
    let mut x = id.head() ^ epoch ^ incarnation ^ (state as u64).rotate_left(61);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
