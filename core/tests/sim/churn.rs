//! Many pages that come and go all day: lifetimes by Weibull's distribution
//! (Stutzbach and Rejaie, *Understanding churn in peer-to-peer networks*, 2006),
//! with Zave's invariant asserted whenever a ring changes somewhere.

use std::collections::{BTreeMap, BTreeSet};

use roundelay_core::Event;
use roundelay_core::status::Class;

use crate::checker::Checker;
use crate::random::Random;
use crate::scenario::{self, Scenario};
use crate::workload::Workload;
use crate::world::{MS, SECOND, Weather, World};
use crate::zave;

/// Half of all pages live for at most this long.
const MEDIAN_LIFE: f64 = 120.0;
/// The shape of the distribution: many are gone at once, some stay for long.
const SHAPE: f64 = 0.6;
/// How long pages are frozen at most.
const FROZEN_MAX: u64 = 20 * SECOND;

/// One run of so many members.
pub struct Churn {
    pub scenario: Scenario,
    pub members: usize,
    /// Whether pages freeze, too: they say that others are silent.
    pub freezes: bool,
    /// Whether who joins has to find its place at once: nobody is taken for dead
    /// without cause.
    pub exact: bool,
    /// Reads that begin with each step beside the workload.
    pub reads: usize,
}

/// Shares of what is lost on its way.
#[derive(Debug)]
pub struct Lost {
    /// For good: more than links do that live.
    pub frames: f64,
    /// And sent again by the link, which is late then, and keeps its order.
    pub datagrams: f64,
}

/// What is reported of a run.
#[derive(Debug)]
#[allow(dead_code, reason = "its Debug is the report")]
pub struct Report {
    pub members: usize,
    pub joined: usize,
    pub gone: usize,
    pub gets: usize,
    pub gets_failed: usize,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub frames_per_second: u64,
    pub bytes_per_second: u64,
    pub invariant_checked: u64,
    pub settled_ms: u64,
}

struct Run {
    world: World,
    workload: Workload,
    checker: Checker,
    random: Random,
    exact: bool,
    /// When each page goes.
    ends: BTreeMap<usize, u64>,
    thaws: BTreeMap<usize, u64>,
    /// A durable node that is away, and when it is back.
    away: Option<(usize, u64)>,
    away_next: u64,
    /// When to look next who is parted from all others.
    look_at: u64,
    /// Who has found its place, once.
    placed: BTreeSet<usize>,
    joined: usize,
    gone: usize,
    checked: u64,
}

impl Churn {
    /// Half a minute of churn among so many members, a dozen of them durable.
    pub fn of(members: usize, seed: u64) -> Self {
        let general = Scenario::general(seed);
        let weather = Weather::calm((5 * MS, 20 * MS));
        let scenario = Scenario {
            durable: 12.min(members),
            weather,
            duration: 30 * SECOND,
            ..general
        };
        Self {
            scenario,
            members,
            freezes: false,
            exact: true,
            reads: 0,
        }
    }

    /// The same on links that lose so much of what is sent.
    pub fn lossy(members: usize, seed: u64, lost: &Lost) -> Self {
        let mut churn = Self {
            exact: false,
            reads: 3,
            ..Self::of(members, seed)
        };
        churn.scenario.weather.loss = lost.frames;
        churn.scenario.weather.resent = lost.datagrams;
        churn
    }

    /// 4 to 50 members, at home at up to three relays, in all kinds of weather,
    /// with pages that freeze.
    pub fn mixed(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0xc0de);
        let members = random.pick(&[4, 6, 9, 14, 24, 36, 50]).unwrap_or(4);
        let general = Scenario::general(seed);
        let durable = random.between(3, 7.min(members as u64 - 1)) as usize;
        Self {
            scenario: Scenario {
                relays: 1 + seed as usize % 3,
                durable,
                weather: general.weather,
                ..Self::of(members, seed).scenario
            },
            members,
            freezes: random.chance(0.5),
            exact: false,
            reads: 0,
        }
    }
}

/// Runs it; says what went wrong.
pub fn run(churn: &Churn) -> Result<Report, String> {
    let scenario = &churn.scenario;
    let mut world = World::new(scenario.seed, scenario.weather.clone());
    let random = Random::new(scenario.seed ^ 0xc4u64);
    world.relay_count = scenario.relays;
    world.add(Class::Durable, 0);
    let mut run = Run {
        world,
        workload: Workload::default(),
        checker: Checker::default(),
        random,
        exact: churn.exact,
        ends: BTreeMap::new(),
        thaws: BTreeMap::new(),
        away: None,
        away_next: 30 * SECOND,
        look_at: 0,
        placed: BTreeSet::new(),
        joined: 1,
        gone: 0,
        checked: 0,
    };
    run.bring_up(churn)?;
    let (frames, bytes, from) = (run.world.frames, run.world.bytes, run.world.now);
    let end = run.world.now + scenario.duration;
    while run.world.now < end || run.away.is_some() || !run.thaws.is_empty() {
        run.step(churn, end)?;
    }
    let took = (run.world.now - from) * churn.members as u64 / SECOND;
    let (frames, bytes) = (run.world.frames - frames, run.world.bytes - bytes);
    let (frames, bytes) = (frames / took, bytes / took);
    let quiet_at = run.world.now;
    let mut times = std::mem::take(&mut run.workload.get_times);
    let gets_failed = run.workload.gets_failed;
    scenario::settle(&mut run.world, &mut run.workload, &mut run.checker)?;
    let settled_ms = (run.world.now - quiet_at) / MS;
    scenario::read_back(&mut run.world, &mut run.workload, &mut run.checker)?;
    times.sort_unstable();
    let percentile = |part: usize| {
        let at = (times.len() * part / 100).min(times.len().saturating_sub(1));
        times.get(at).map_or(0.0, |time| *time as f64 / MS as f64)
    };
    Ok(Report {
        members: churn.members,
        joined: run.joined,
        gone: run.gone,
        gets: times.len(),
        gets_failed,
        p50_ms: percentile(50),
        p99_ms: percentile(99),
        frames_per_second: frames,
        bytes_per_second: bytes,
        invariant_checked: run.checked,
        settled_ms,
    })
}

impl Run {
    /// All come within ten seconds, durable nodes among them.
    fn bring_up(&mut self, churn: &Churn) -> Result<(), String> {
        let count = churn.members;
        for place in 1..count {
            let durable = place < churn.scenario.durable;
            let class = if durable {
                Class::Durable
            } else {
                Class::Transient
            };
            self.add(class);
            self.pass(10 * SECOND / count as u64, false)?;
        }
        self.pass(10 * SECOND, false)
    }

    fn add(&mut self, class: Class) {
        self.joined += 1;
        let index = self.world.add(class, 0);
        if class == Class::Transient {
            let life = (self.random.weibull(MEDIAN_LIFE, SHAPE) * SECOND as f64) as u64;
            let stays = life.clamp(SECOND, 86_400 * SECOND);
            self.ends.insert(index, self.world.now + stays);
        }
    }

    fn step(&mut self, churn: &Churn, end: u64) -> Result<(), String> {
        let active = self.world.now < end;
        self.thaw();
        if active {
            self.workload.begin(&mut self.world, &mut self.checker);
            for _ in 0..churn.reads {
                self.workload.read(&mut self.world, &mut self.checker);
            }
            self.end_lives();
            if churn.freezes && self.random.chance(0.004) {
                self.freeze();
            }
        }
        self.durable_fault(active);
        self.note_parted();
        let pause = self.random.between(MS, 40 * MS);
        self.pass(pause, active)
    }

    /// Whoever's time has come goes, one way or another, and another comes.
    fn end_lives(&mut self) {
        let now = self.world.now;
        let due: Vec<usize> = self
            .ends
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(index, _)| *index)
            .collect();
        for index in due {
            self.ends.remove(&index);
            self.thaws.remove(&index);
            self.world.thaw(index);
            self.gone += 1;
            self.workload.on_crash(index, &mut self.checker);
            match self.random.below(3) {
                0 => self.world.leave(index),
                1 => self.world.crash(index, true),
                _ => self.world.crash(index, false),
            }
            self.add(Class::Transient);
        }
    }

    fn freeze(&mut self) {
        let pages: Vec<usize> = self.ends.keys().copied().collect();
        if let Some(index) = self.random.pick(&pages) {
            let back = self.world.now + self.random.between(SECOND, FROZEN_MAX);
            self.thaws.entry(index).or_insert(back);
            self.world.freeze(index);
        }
    }

    fn thaw(&mut self) {
        let now = self.world.now;
        let due = self.thaws.iter().filter(|(_, at)| **at <= now);
        for index in due.map(|(index, _)| *index).collect::<Vec<_>>() {
            self.thaws.remove(&index);
            self.world.thaw(index);
        }
    }

    /// Whoever has no way to anybody is in no ring that others can see: its
    /// relay was away, and it is not attached again. Then it has time anew to
    /// find its place.
    fn note_parted(&mut self) {
        if self.look_at > self.world.now {
            return;
        }
        self.look_at = self.world.now + 200 * MS;
        for index in 0..self.world.processes.len() {
            if !self.world.has_way(index) {
                self.world.processes[index].placed_at = None;
            }
        }
    }

    /// Durable nodes are away one at a time, while all else is whole.
    fn durable_fault(&mut self, active: bool) {
        match self.away {
            Some((index, back)) if back <= self.world.now => {
                self.away = None;
                self.world.start(index);
                self.away_next = self.world.now + 15 * SECOND;
            }
            None if active && self.away_next <= self.world.now => {
                let durable = crate::fault::of(&self.world, Class::Durable);
                if let Some(index) = self.random.pick(&durable)
                    && crate::fault::is_whole(&self.world)
                {
                    self.workload.on_crash(index, &mut self.checker);
                    let told = self.random.chance(0.7);
                    self.world.crash(index, told);
                    let back = self.world.now + self.random.between(100 * MS, 8 * SECOND);
                    self.away = Some((index, back));
                }
            }
            _ => {}
        }
    }

    /// Lets time pass; whenever the ring changes somewhere, looks at it.
    fn pass(&mut self, by: u64, strict: bool) -> Result<(), String> {
        let until = self.world.now + by;
        let Self {
            world,
            workload,
            checker,
            checked,
            placed,
            exact,
            ..
        } = self;
        let exact = *exact && strict;
        checker.observe_all(world);
        let mut broken = None;
        world.run_until(until, &mut |world, index, event| match event {
            Event::Reply { request, reply } => {
                workload.on_reply(world, checker, index, request, reply);
            }
            Event::Ring => {
                zave::check_list(world, index).unwrap_or_else(|words| checker.fail(words));
                if world.processes[index].placed_at.is_some() && placed.insert(index) && exact {
                    let joined = zave::check_joined(world, index);
                    joined.unwrap_or_else(|words| checker.fail(words));
                }
                if strict && broken.is_none() {
                    *checked += 1;
                    broken = zave::check(world).err();
                }
            }
            Event::Link | Event::Session { .. } | Event::Trouble(_) => {}
        });
        let failure = checker.failure.take().or(broken);
        if failure.is_some() {
            scenario::show(&self.world);
        }
        match failure {
            Some(failure) => Err(format!("{:.3} s: {failure}", self.world.now as f64 / 1e6)),
            None => Ok(()),
        }
    }
}
