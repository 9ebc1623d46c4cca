//! A run from beginning to end.

use std::time::Duration;

use roundelay_core::kvs::{CLOCK_AHEAD_MS_MAX, Key, Mode};
use roundelay_core::status::Class;
use roundelay_core::{Event, TOMBSTONE_GRACE};

use crate::checker::Checker;
use crate::fault::{Breaker, Faults};
use crate::lists;
use crate::random::Random;
use crate::watchers;
use crate::workload::{Action, Workload};
use crate::world::{Clocks, MS, SECOND, Weather, World};

/// How long a ring may take to settle after the last fault.
const SETTLE: u64 = 60 * SECOND;

/// How far clocks are ahead or behind that differ by minutes: no two by more than
/// peers believe.
const SKEW_MS: u64 = 145_000;
/// How far a clock is ahead or behind that is wrong; when it is chosen, and when it
/// goes wrong: what was asked for before has ended by then.
const WRONG_MS: i64 = 20 * 60 * 1000;
const CHOSEN_AT: u64 = 6 * SECOND;
const WRONG_AT: u64 = 12 * SECOND;

/// Frames that a process may send in a second, on an average of the whole run.
/// Calls alone make some 40: a storm makes thousands.
const FRAMES_MAX: u64 = 400;
/// The same, where a clock is wrong: while a majority needs that one, writes are
/// stamped anew until their time is over.
const FRAMES_MAX_WRONG: u64 = 800;

/// One run: everything follows from the seed.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub seed: u64,
    pub relays: usize,
    /// Durable nodes, the relays among them.
    pub durable: usize,
    pub pages: usize,
    pub weather: Weather,
    pub faults: Faults,
    pub clocks: Clocks,
    /// For how long nodes remember what was deleted.
    pub grace: Duration,
    /// How long things happen, before the ring is left to settle.
    pub duration: u64,
    /// Whether there are linearizable calls.
    pub linearizes: bool,
    /// Whether there are lists.
    pub lists: bool,
    /// Whether there are watchers.
    pub watches: bool,
}

impl Scenario {
    /// 2 to 12 nodes of both classes in all kinds of weather.
    pub fn general(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0xfeed);
        let durable = random.between(1, 6) as usize;
        let pages = random.between(u64::from(durable == 1), 6) as usize;
        let slow = [200, 2 * MS, 20 * MS, 60 * MS];
        let latency = random.pick(&slow).unwrap_or(MS);
        let weather = Weather {
            latency_us: (latency / 4, latency),
            loss: random.pick(&[0.0, 0.0, 0.01, 0.05]).unwrap_or(0.0),
            resent: 0.0,
            repeats: random.pick(&[0.0, 0.02]).unwrap_or(0.0),
            reorders: random.chance(0.5),
            blocked: random.pick(&[0.0, 0.0, 0.3, 1.0]).unwrap_or(0.0),
            disk_us: (20, random.pick(&[50, 500, 10 * MS]).unwrap_or(50)),
        };
        Self {
            seed,
            relays: 1,
            durable,
            pages,
            weather,
            faults: Faults::OneAtATime,
            clocks: Clocks::SET,
            grace: match seed % 4 {
                3 => Duration::from_secs(2),
                _ => TOMBSTONE_GRACE,
            },
            duration: 20 * SECOND,
            linearizes: false,
            lists: false,
            watches: false,
        }
    }

    /// Watchers, in all the trouble there is, some of linearizable keys.
    pub fn watches(seed: u64) -> Self {
        Self {
            lists: false,
            watches: true,
            ..Self::lists(seed)
        }
    }

    /// Lists, in all the trouble there is, some of linearizable keys.
    pub fn lists(seed: u64) -> Self {
        let registers = Self::registers(seed);
        Self {
            linearizes: seed / 4 % 2 == 1,
            lists: true,
            ..registers
        }
    }

    /// Linearizable calls, in all the trouble there is.
    pub fn registers(seed: u64) -> Self {
        let base = match seed % 5 {
            0 => Self::general(seed),
            1 => Self::lost_disk(seed),
            2 => Self::partitions(seed),
            3 => Self::frozen(seed),
            _ => Self::moves(seed),
        };
        let skew_ms = [1000, SKEW_MS, SKEW_MS][seed as usize / 5 % 3];
        Self {
            duration: base.duration.min(40 * SECOND),
            linearizes: true,
            clocks: Clocks {
                skew_ms,
                wrong_ms: [0, 0, WRONG_MS, -WRONG_MS][seed as usize / 15 % 4],
            },
            // A tombstone is not forgotten by a clock that is minutes ahead before
            // the checkers have seen it.
            grace: base.grace.max(Duration::from_millis(3 * skew_ms)),
            ..base
        }
    }

    /// Three voters; one is away while another loses its disk.
    pub fn lost_disk(seed: u64) -> Self {
        let general = Self::general(seed);
        Self {
            durable: 3,
            pages: 1,
            faults: Faults::LostDisk,
            weather: Weather {
                loss: 0.0,
                latency_us: (5 * MS, 200 * MS),
                ..general.weather
            },
            ..general
        }
    }

    /// Some do not hear the others for a while, and meet again.
    pub fn partitions(seed: u64) -> Self {
        let general = Self::general(seed);
        Self {
            durable: 3 + general.durable % 4,
            faults: Faults::Partitions,
            duration: 60 * SECOND,
            weather: Weather {
                blocked: 0.0,
                ..general.weather
            },
            ..general
        }
    }

    /// Some do nothing for a while, pages and durable nodes, and go on.
    pub fn frozen(seed: u64) -> Self {
        let general = Self::general(seed);
        Self {
            durable: 2 + general.durable % 4,
            pages: 1 + general.pages % 4,
            faults: Faults::Frozen,
            duration: 40 * SECOND,
            weather: Weather {
                blocked: 0.0,
                ..general.weather
            },
            ..general
        }
    }

    /// Members are at home at two to four relays.
    pub fn relays(seed: u64) -> Self {
        let general = Self::general(seed);
        let relays = 2 + seed as usize % 3;
        Self {
            relays,
            durable: relays + general.durable,
            weather: Weather {
                blocked: [0.0, 0.3][seed as usize / 3 % 2],
                ..general.weather
            },
            ..general
        }
    }

    /// Votes move: three to seven durable nodes, who come and go for good.
    pub fn moves(seed: u64) -> Self {
        let general = Self::general(seed);
        Self {
            durable: 3 + general.durable % 3,
            pages: general.pages % 3,
            faults: Faults::Moves,
            duration: 90 * SECOND,
            weather: Weather {
                blocked: 0.0,
                ..general.weather
            },
            ..general
        }
    }
}

/// Runs a scenario; says what went wrong.
pub fn run(scenario: Scenario) -> Result<(), String> {
    let mut world = World::new(scenario.seed, scenario.weather.clone());
    world.relay_count = scenario.relays;
    world.grace = scenario.grace;
    world.skew_ms = scenario.clocks.skew_ms;
    let mut workload = Workload::default();
    workload.linearizes = scenario.linearizes;
    workload.does_list = scenario.lists;
    if scenario.watches {
        workload.watchers.start();
    }
    let mut checker = Checker::default();
    let random = Random::new(scenario.seed ^ 0xdead);
    let first_fault = 4 * SECOND;
    let mut breaker = Breaker::new(scenario.faults, 6, first_fault, random);
    let mut joins = begin(&scenario, &mut world);
    let mut wrong_ms = Some(scenario.clocks.wrong_ms).filter(|ms| *ms != 0);
    while world.now < scenario.duration || !breaker.is_idle() {
        if wrong_ms.is_some() && world.now >= CHOSEN_AT {
            world.choose_wrong();
        }
        if let Some(ms) = wrong_ms.take_if(|_| world.now >= WRONG_AT) {
            world.set_wrong(ms);
        }
        joins.retain(|(at, class)| {
            let due = *at <= world.now;
            if due {
                world.add_skewed(*class);
            }
            !due
        });
        if world.now < scenario.duration {
            workload.begin(&mut world, &mut checker);
        }
        workload.watch(&mut world, &mut checker);
        breaker.step(&mut world, &mut workload, &mut checker);
        let pause = world.random.between(MS, 40 * MS);
        pass(&mut world, &mut workload, &mut checker, pause)?;
    }
    world.set_right();
    // What was believed is refused by whoever is behind, until its time comes;
    // and what one of two took alone, with a clock that was ahead, by the other.
    let believed_ms = match scenario.clocks.wrong_ms {
        0 => 0,
        _ => {
            let ahead_ms = checker.newest_ms().saturating_sub(world.unix_ms());
            CLOCK_AHEAD_MS_MAX.max(ahead_ms)
        }
    };
    let settling = SETTLE + believed_ms * MS;
    settle_within(settling, &mut world, &mut workload, &mut checker)?;
    read_back(&mut world, &mut workload, &mut checker)?;
    if scenario.lists {
        lists::read_back(&mut world, &mut workload, &mut checker)?;
    }
    if scenario.watches {
        watchers::check(&mut world, &mut workload, &mut checker)?;
    }
    check_end(&scenario, &world, &mut workload, &checker)
}

/// The first members; and when the others join.
fn begin(scenario: &Scenario, world: &mut World) -> Vec<(u64, Class)> {
    let mut joins = plan_joins(scenario, world);
    world.add_skewed(Class::Durable);
    if scenario.faults == Faults::LostDisk {
        // The first three, in the order of their numbers, are the voters.
        world.add_skewed(Class::Durable);
        world.add_skewed(Class::Durable);
        joins.retain(|(_, class)| *class == Class::Transient);
    }
    for _ in 1..scenario.relays {
        world.add_skewed(Class::Durable);
        joins.remove(0);
    }
    joins
}

/// What has to hold of a whole run.
fn check_end(
    scenario: &Scenario,
    world: &World,
    workload: &mut Workload,
    checker: &Checker,
) -> Result<(), String> {
    workload.check_order(world)?;
    if scenario.linearizes && workload.history.count() == 0 {
        return Err("no linearizable call was answered".into());
    }
    // On links that lose nothing there is time enough.
    if checker.not_retired > 0 && scenario.weather.loss == 0.0 {
        let (retired, not) = (checker.retired, checker.not_retired);
        return Err(format!("{not} of {} kept places", retired + not));
    }
    let rate = world.frames * SECOND / world.now / world.processes.len() as u64;
    let limit = match scenario.clocks.wrong_ms {
        0 => FRAMES_MAX,
        _ => FRAMES_MAX_WRONG,
    };
    if rate > limit {
        show(world);
        return Err(format!("{rate} frames a second from each process"));
    }
    Ok(())
}

/// When the other nodes join: some at the start, some later.
fn plan_joins(scenario: &Scenario, world: &mut World) -> Vec<(u64, Class)> {
    let durable = (1..scenario.durable).map(|_| Class::Durable);
    let pages = (0..scenario.pages).map(|_| Class::Transient);
    let at_once = world.random.chance(0.3);
    durable
        .chain(pages)
        .map(|class| {
            let at = if at_once {
                0
            } else {
                world.random.below(4 * SECOND)
            };
            (at, class)
        })
        .collect()
}

/// Lets time pass.
pub fn advance(world: &mut World, workload: &mut Workload, checker: &mut Checker, by: u64) {
    let until = world.now + by;
    checker.observe_all(world);
    world.run_until(until, &mut |world, index, event| match event {
        Event::Reply { request, reply } => {
            workload.on_reply(world, checker, index, request, reply);
        }
        Event::Ring | Event::Link | Event::Session { .. } => {}
        Event::Trouble(trouble) => world.log(|| format!("p{index} trouble: {trouble:?}")),
    });
}

/// The same; says what a checker found.
pub fn pass(
    world: &mut World,
    workload: &mut Workload,
    checker: &mut Checker,
    by: u64,
) -> Result<(), String> {
    advance(world, workload, checker, by);
    checker.failure.take().map_or(Ok(()), Err)
}

/// The weather clears, and the ring becomes whole.
pub fn settle(
    world: &mut World,
    workload: &mut Workload,
    checker: &mut Checker,
) -> Result<(), String> {
    settle_within(SETTLE, world, workload, checker)
}

fn settle_within(
    settling: u64,
    world: &mut World,
    workload: &mut Workload,
    checker: &mut Checker,
) -> Result<(), String> {
    world.weather.loss = 0.0;
    world.weather.resent = 0.0;
    let keys = checker.keys();
    let deadline = world.now + settling;
    loop {
        pass(world, workload, checker, 200 * MS)?;
        match checker.settled(world, &keys) {
            Ok(()) if workload.open_count() == 0 => return Ok(()),
            Ok(()) if world.now >= deadline => {
                return Err(format!("{} requests never ended", workload.open_count()));
            }
            Err(missing) if world.now >= deadline => {
                show(world);
                return Err(format!("not settled: {missing}"));
            }
            _ => {}
        }
    }
}

/// Every key that was promised is read from every node.
pub fn read_back(
    world: &mut World,
    workload: &mut Workload,
    checker: &mut Checker,
) -> Result<(), String> {
    let alive: Vec<usize> = world.alive().map(|(index, _)| index).collect();
    let (done, failed) = (workload.done, workload.failed);
    let keys: Vec<Key> = checker.keys();
    for key in &keys {
        for index in &alive {
            let (key, get) = (key.clone(), Action::Get);
            workload.call(world, checker, *index, key, Mode::Quorum, get);
        }
    }
    pass(world, workload, checker, 8 * SECOND)?;
    if workload.failed > failed || workload.open_count() > 0 {
        show(world);
        return Err(format!(
            "{} reads failed at the end",
            workload.failed - failed
        ));
    }
    let read = workload.done - done;
    if read != (keys.len() * alive.len()) as u64 {
        return Err(format!("{read} reads of {} keys", keys.len()));
    }
    Ok(())
}

/// Shows what every node thinks.
pub fn show(world: &World) {
    for (index, node) in world.alive() {
        let (status, ring) = (node.status(), node.ring_status());
        world.log(|| {
            let members = ring.members.iter().map(|member| {
                let place = world.index(&member.id).unwrap_or(usize::MAX);
                format!("p{place}:{:?}", member.state)
            });
            format!(
                "p{index} {:?} before {:?} after {:?}\n  members {:?}\n  links {:?}\n  relays {:?}\n  {:?}\n  {:?}",
                node.id(),
                status.predecessor,
                status.successors,
                members.collect::<Vec<_>>(),
                status
                    .links
                    .iter()
                    .map(|link| (link.peer, link.kind, link.bytes_in, link.bytes_out, link.rtt_ms))
                    .collect::<Vec<_>>(),
                status.relays,
                status.store,
                status.counters,
            )
        });
    }
}
