//! Keys are deleted, and long after that their tombstones go: meanwhile somebody
//! was away who still holds what was deleted.
//!
//! No deleted key ever comes back, in any mode; nothing that was acknowledged since
//! is lost to what was forgotten; and in the end no tombstone is left.

use roundelay_core::TOMBSTONE_GRACE;
use roundelay_core::kvs::{CLOCK_AHEAD_MS_MAX, Key, Mode, Version};
use roundelay_core::status::Class;

use crate::checker::Checker;
use crate::expiry::{Action, Callers, settle};
use crate::fault::{Breaker, Faults};
use crate::random::Random;
use crate::scenario::{Scenario, show};
use crate::workload::Workload;
use crate::world::{MS, SECOND, World};

/// How often all is deleted.
const ROUNDS: u64 = 2;
/// For how long there are calls before that.
const BUSY: u64 = 6 * SECOND;
/// How long the ring takes to do without somebody.
const APART: u64 = 20 * SECOND;
/// How long tombstones may take to go, once they may.
const COLLECT: u64 = 240 * SECOND;
/// How old every tombstone is, in milliseconds, that may go.
const OLD_MS: u64 = TOMBSTONE_GRACE.as_millis() as u64 + 3 * CLOCK_AHEAD_MS_MAX;
/// Who is put away for long: all but the relay.
const FIRST: usize = 1;

/// Runs one seed; says what went wrong.
pub fn run(seed: u64) -> Result<(), String> {
    let base = Scenario::general(seed);
    let mut world = World::new(seed, base.weather);
    let mut callers = Callers::default();
    let mut random = Random::new(seed ^ 0x96a7e5);
    for _ in 0..4 + seed % 2 {
        world.add(Class::Durable, random.between(0, 2000) as i64 - 1000);
    }
    for _ in 0..seed / 2 % 3 {
        world.add(Class::Transient, random.between(0, 2000) as i64 - 1000);
    }
    callers.advance(&mut world, 4 * SECOND)?;
    for round in 0..ROUNDS {
        call(&mut world, &mut callers, BUSY, seed + round)?;
        settle_in(&mut world, &mut callers)?;
        let last = world.processes.len() as u64 - 1;
        let absent = random.between(FIRST as u64, last) as usize;
        world.crash(absent, random.chance(0.5));
        callers.forget_gone(&world);
        callers.advance(&mut world, APART)?;
        delete_all(&mut world, &mut callers)?;
        settle_in(&mut world, &mut callers)?;
        world.passed_ms += OLD_MS;
        if random.chance(0.5) {
            call(&mut world, &mut callers, BUSY, seed + round)?;
            callers.advance(&mut world, random.between(0, 90) * SECOND)?;
        } else {
            collect(&mut world, &mut callers)?;
        }
        world.start(absent);
        read_all(&mut world, &mut callers)?;
        settle_in(&mut world, &mut callers)?;
        callers.is_settled = true;
        read_all(&mut world, &mut callers)?;
        callers.is_settled = false;
    }
    delete_all(&mut world, &mut callers)?;
    settle_in(&mut world, &mut callers)?;
    world.passed_ms += OLD_MS;
    collect(&mut world, &mut callers)?;
    settle_in(&mut world, &mut callers)
}

/// Callers call, while things break in half of all seeds.
fn call(world: &mut World, callers: &mut Callers, time: u64, seed: u64) -> Result<(), String> {
    let (mut workload, mut checker) = (Workload::default(), Checker::default());
    let faults = match seed % 4 {
        0 => Some(Faults::OneAtATime),
        1 => Some(Faults::Partitions),
        _ => None,
    };
    let random = Random::new(seed ^ world.now);
    let breaker = |faults| Breaker::new(faults, 3, world.now, random);
    let mut breaker = faults.map(breaker);
    let until = world.now + time;
    while world.now < until || breaker.as_ref().is_some_and(|breaker| !breaker.is_idle()) {
        if world.now < until {
            callers.begin(world);
        }
        if let Some(breaker) = &mut breaker {
            breaker.step(world, &mut workload, &mut checker);
        }
        callers.forget_gone(world);
        let pause = world.random.between(MS, 40 * MS);
        callers.advance(world, pause)?;
    }
    Ok(())
}

/// The ring becomes whole in bad weather, too: what is lost is only sent again.
fn settle_in(world: &mut World, callers: &mut Callers) -> Result<(), String> {
    let loss = std::mem::take(&mut world.weather.loss);
    settle(world, callers)?;
    world.weather.loss = loss;
    Ok(())
}

/// Every key is deleted, by somebody, and that is acknowledged.
fn delete_all(world: &mut World, callers: &mut Callers) -> Result<(), String> {
    let keys: Vec<Key> = callers.records.keys().cloned().collect();
    let deleted = |callers: &Callers, key| callers.records[key].deleted;
    for key in &keys {
        let before = deleted(callers, key);
        let deadline = world.now + 30 * SECOND;
        while deleted(callers, key) == before {
            if world.now > deadline {
                show(world);
                return Err(format!("{key} cannot be deleted"));
            }
            let alive: Vec<usize> = world.alive().map(|(index, _)| index).collect();
            let mode = match key.bucket() {
                "register" => Mode::Linearizable,
                _ => Mode::Quorum,
            };
            if let Some(index) = world.random.pick(&alive) {
                callers.call(world, index, key.clone(), mode, Action::Delete);
            }
            callers.advance(world, SECOND)?;
        }
    }
    Ok(())
}

/// Everybody reads everything.
fn read_all(world: &mut World, callers: &mut Callers) -> Result<(), String> {
    let keys: Vec<Key> = callers.records.keys().cloned().collect();
    let alive: Vec<usize> = world.alive().map(|(index, _)| index).collect();
    for key in &keys {
        // What one took alone in mode `one` is everywhere only when all is settled.
        let is_merged = key.bucket() != "one" || callers.is_settled;
        let modes = [Mode::Quorum, Mode::One]
            .into_iter()
            .skip(usize::from(!is_merged));
        for index in &alive {
            for mode in modes.clone() {
                callers.call(world, *index, key.clone(), mode, Action::Get);
            }
        }
        callers.advance(world, 100 * MS)?;
    }
    callers.advance(world, 5 * SECOND)
}

/// No old tombstone is left on any disk of those who are there. One that a promise
/// was kept with, which somebody left behind, has become new by that.
fn collect(world: &mut World, callers: &mut Callers) -> Result<(), String> {
    let deadline = world.now + COLLECT;
    loop {
        callers.advance(world, SECOND)?;
        let kept = world.alive().find_map(|(index, _)| {
            let mut keys = callers.records.keys();
            let disk = &world.processes[index].disk;
            let old = world.unix_ms() - OLD_MS;
            let is_old = |version: Version| version.unix_ms() < old;
            let key = keys.find(|key| disk.synced_version(key).is_some_and(is_old))?;
            Some(format!("p{index} keeps {key}, long after it was deleted"))
        });
        match kept {
            None => return Ok(()),
            Some(words) if world.now >= deadline => {
                show(world);
                return Err(words);
            }
            Some(_) => {}
        }
    }
}
