//! What breaks, and when. Faults know nothing of checkers.

use std::collections::BTreeSet;

use roundelay_core::Node;
use roundelay_core::kvs::Key;
use roundelay_core::status::Class;

use crate::checker::Checker;
use crate::random::Random;
use crate::workload::{BUCKETS, Workload};
use crate::world::{MS, SECOND, World};

/// Which faults a scenario has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Faults {
    /// Nodes of both classes come and go; one durable node is down at a time,
    /// and comes back with its disk.
    OneAtATime,
    /// One voter is away while another loses its disk.
    LostDisk,
    /// Durable nodes come, and go for good, one after another.
    Moves,
    /// Some processes hear the others no more for a while.
    Partitions,
    /// Pages and durable nodes do nothing for a while, one at a time.
    Frozen,
}

/// Durable nodes that live at most, and at least, while they come and go.
const DURABLE_MAX: usize = 7;
const DURABLE_MIN: usize = 3;
/// How long one may take to pass its places on.
const RETIRE: u64 = 8 * SECOND;

/// Breaks things, one after another.
pub struct Breaker {
    faults: Faults,
    next_at: u64,
    down: Vec<(usize, u64)>,
    heal_at: Option<u64>,
    /// Who does nothing, and until when.
    frozen: Option<(usize, u64)>,
    /// Who passes its places on before it leaves, and until when.
    retiring: Option<(usize, u64)>,
    pages_max: usize,
    random: Random,
}

impl Breaker {
    pub fn new(faults: Faults, pages_max: usize, first_at: u64, random: Random) -> Self {
        let down = Vec::new();
        Self {
            faults,
            next_at: first_at,
            down,
            heal_at: None,
            frozen: None,
            retiring: None,
            pages_max,
            random,
        }
    }

    /// Whether everything that was broken is mended.
    pub fn is_idle(&self) -> bool {
        let is_broken = self.heal_at.is_some() || self.frozen.is_some();
        self.down.is_empty() && !is_broken && self.retiring.is_none()
    }

    /// Does what is due.
    pub fn step(&mut self, world: &mut World, workload: &mut Workload, checker: &mut Checker) {
        for (index, at) in std::mem::take(&mut self.down) {
            if at <= world.now {
                world.start(index);
                self.next_at = self.next_at.max(world.now + SECOND);
            } else {
                self.down.push((index, at));
            }
        }
        if let Some((index, until)) = self.retiring {
            let node = world.processes[index].node.as_ref();
            let retired = node.is_some_and(Node::is_retired);
            if retired || until <= world.now {
                self.retiring = None;
                checker.retired += u64::from(retired);
                checker.not_retired += u64::from(!retired && has_heirs(world, index));
                workload.on_crash(index, checker);
                world.leave(index);
            }
        }
        if self.heal_at.is_some_and(|at| at <= world.now) {
            self.heal_at = None;
            world.heal();
            self.next_at = world.now + self.random.between(100 * MS, 5 * SECOND);
        }
        if let Some((index, _)) = self.frozen.take_if(|(_, at)| *at <= world.now) {
            world.thaw(index);
            self.next_at = world.now + self.random.between(100 * MS, 5 * SECOND);
        }
        if world.now < self.next_at || !self.is_idle() {
            return;
        }
        self.next_at = world.now + self.random.between(300 * MS, 3 * SECOND);
        match self.faults {
            Faults::OneAtATime => self.one_fault(world, workload, checker),
            Faults::LostDisk => self.lose_disk(world, workload, checker),
            Faults::Moves => self.move_one(world, workload, checker),
            Faults::Partitions => self.part(world),
            Faults::Frozen => self.freeze(world),
        }
    }

    /// Parts the members for a while; some partitions come and go quickly.
    fn part(&mut self, world: &mut World) {
        if !is_whole(world) {
            return;
        }
        let mut second: BTreeSet<usize> = world.alive().map(|(index, _)| index).collect();
        second.retain(|_| self.random.chance(0.4));
        let both_ways = self.random.chance(0.7);
        world.part(&second, both_ways);
        let longest = self.random.pick(&[300 * MS, 3 * SECOND, 20 * SECOND]);
        let longest = longest.unwrap_or(SECOND);
        self.heal_at = Some(world.now + self.random.between(longest / 4, longest));
    }

    /// Freezes one for a while, a page as a rule; some find all links broken.
    fn freeze(&mut self, world: &mut World) {
        if !is_whole(world) {
            return;
        }
        let pages = of(world, Class::Transient);
        let class = match self.random.chance(0.6) && !pages.is_empty() {
            true => pages,
            false => of(world, Class::Durable),
        };
        let Some(index) = self.random.pick(&class) else {
            return;
        };
        let longest = self.random.pick(&[SECOND, 8 * SECOND, 20 * SECOND]);
        let longest = longest.unwrap_or(SECOND);
        world.freeze(index);
        if self.random.chance(0.3) {
            world.break_links(index);
        }
        self.frozen = Some((index, world.now + self.random.between(longest / 4, longest)));
    }

    fn move_one(&mut self, world: &mut World, workload: &mut Workload, checker: &mut Checker) {
        if !is_whole(world) {
            return;
        }
        let durable = of(world, Class::Durable);
        let Some(index) = self.random.pick(&durable) else {
            return;
        };
        // The relay always comes back: nobody could meet without it.
        let may_go = durable.len() > DURABLE_MIN && index > 0;
        match self.random.below(6) {
            0 if may_go => {
                if world.retire(index) {
                    self.retiring = Some((index, world.now + RETIRE));
                } else {
                    workload.on_crash(index, checker);
                    world.leave(index);
                }
            }
            1 if may_go => {
                workload.on_crash(index, checker);
                let told = self.random.chance(0.7);
                world.crash(index, told);
            }
            2 => {
                workload.on_crash(index, checker);
                let told = self.random.chance(0.7);
                world.crash(index, told);
                let back = world.now + self.random.between(SECOND, 20 * SECOND);
                self.down.push((index, back));
            }
            3 => {
                let pages = of(world, Class::Transient);
                if pages.len() < self.pages_max {
                    world.add_skewed(Class::Transient);
                } else if let Some(page) = self.random.pick(&pages) {
                    workload.on_crash(page, checker);
                    world.crash(page, true);
                    if self.random.chance(0.5) {
                        let back = world.now + self.random.between(SECOND, 20 * SECOND);
                        self.down.push((page, back));
                    }
                }
            }
            _ if durable.len() < DURABLE_MAX => {
                world.add_skewed(Class::Durable);
            }
            _ => {}
        }
        // Views are whole again before the next one goes, of slots without
        // records too: nobody can tell from outside when that is.
        self.next_at = world.now + self.random.between(9 * SECOND, 16 * SECOND);
    }

    fn one_fault(&mut self, world: &mut World, workload: &mut Workload, checker: &mut Checker) {
        let (durable, pages) = (of(world, Class::Durable), of(world, Class::Transient));
        match self.random.below(6) {
            0..=2 => {
                if !is_whole(world) {
                    return;
                }
                let Some(index) = self.random.pick(&durable) else {
                    return;
                };
                workload.on_crash(index, checker);
                let told = self.random.chance(0.7);
                world.crash(index, told);
                let back = world.now + self.random.between(100 * MS, 5 * SECOND);
                self.down.push((index, back));
            }
            3 => {
                if let Some(index) = self.random.pick(&pages) {
                    workload.on_crash(index, checker);
                    world.leave(index);
                }
            }
            4 => {
                if let Some(index) = self.random.pick(&pages) {
                    workload.on_crash(index, checker);
                    let told = self.random.chance(0.7);
                    world.crash(index, told);
                }
            }
            _ => {
                if pages.len() < self.pages_max {
                    world.add_skewed(Class::Transient);
                }
            }
        }
    }

    /// One voter is down for a while; when it comes back, another loses its
    /// disk, and starts anew under its old identity. The third, who alone has
    /// what was acknowledged meanwhile, may be gone for a moment, too.
    fn lose_disk(&mut self, world: &mut World, workload: &mut Workload, checker: &mut Checker) {
        if !is_whole(world) {
            return;
        }
        // Either the relay is away, and the third voter goes when it comes
        // back; or a node is, and all the others stay.
        let relay_away = self.random.chance(0.7);
        let (away, loser) = if self.random.chance(0.5) {
            (1, 2)
        } else {
            (2, 1)
        };
        let (away, third) = if relay_away {
            (0, Some(away))
        } else {
            (away, None)
        };
        if [0, 1, 2]
            .iter()
            .any(|index| world.processes[*index].node.is_none())
        {
            return;
        }
        workload.on_crash(away, checker);
        world.crash(away, true);
        let until = world.now + self.random.between(SECOND, 3 * SECOND);
        let mut calls = until - world.now;
        while calls > 0 {
            let pause = 20 * MS;
            calls = calls.saturating_sub(pause);
            crate::scenario::advance(world, workload, checker, pause);
            workload.begin(world, checker);
        }
        workload.on_crash(loser, checker);
        world.crash(loser, true);
        world.processes[loser].disk = Default::default();
        checker.disk_lost_at = Some(world.now);
        if let Some(third) = third {
            workload.on_crash(third, checker);
            world.crash(third, true);
            let back = world.now + self.random.between(SECOND, 3 * SECOND);
            self.down.push((third, back));
        }
        world.start(away);
        world.start(loser);
        self.next_at = world.now + 6 * SECOND;
    }
}

/// The living nodes of a class.
pub fn of(world: &World, class: Class) -> Vec<usize> {
    let all = world.alive().map(|(index, _)| index);
    all.filter(|index| world.processes[*index].class == class)
        .collect()
}

/// Whether there are voters enough without one, all of whose clocks are right: nothing
/// can be passed on to one that refuses it for its clock, and one that leads changes
/// passes others over first, which takes longer than there is.
fn has_heirs(world: &World, without: usize) -> bool {
    let mut others = of(world, Class::Durable);
    others.retain(|index| *index != without);
    let is_wrong = others.iter().any(|index| world.is_wrong(*index));
    others.len() >= DURABLE_MIN && !is_wrong
}

/// Whether every living node is ready and holds all its copies, and views have
/// grown.
pub fn is_whole(world: &World) -> bool {
    world.alive().all(|(_, node)| {
        let status = node.status();
        let grown = BUCKETS.iter().all(|bucket| {
            let key = Key::new(*bucket).unwrap();
            node.locate(&key).voters.len() >= of(world, Class::Durable).len().min(3)
        });
        grown && status.ready && status.store.under_replicated == 0
    })
}
