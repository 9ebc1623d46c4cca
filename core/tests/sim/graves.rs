//! Keys are deleted, and long after that their tombstones go: meanwhile somebody
//! was away who still holds what was deleted.
//!
//! No deleted key ever comes back, in any mode; nothing that was acknowledged since
//! is lost to what was forgotten; and in the end no tombstone is left.

use std::time::Duration;

use roundelay_core::TOMBSTONE_GRACE;
use roundelay_core::kvs::{CLOCK_AHEAD_MS_MAX, Key, Mode};
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
        world.passed_ms +=
            (TOMBSTONE_GRACE + Duration::from_millis(3 * CLOCK_AHEAD_MS_MAX)).as_millis() as u64;
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
    world.passed_ms += 2 * TOMBSTONE_GRACE.as_millis() as u64;
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
        for index in &alive {
            for mode in [Mode::Quorum, Mode::One] {
                callers.call(world, *index, key.clone(), mode, Action::Get);
            }
        }
        callers.advance(world, 100 * MS)?;
    }
    callers.advance(world, 5 * SECOND)
}

/// No tombstone is left on any disk of those who are there.
fn collect(world: &mut World, callers: &mut Callers) -> Result<(), String> {
    let deadline = world.now + COLLECT;
    loop {
        callers.advance(world, SECOND)?;
        let kept = world.alive().find_map(|(index, _)| {
            let mut keys = callers.records.keys();
            let disk = &world.processes[index].disk;
            let key = keys.find(|key| disk.synced_version(key).is_some())?;
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
