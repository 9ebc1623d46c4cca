//! What was acknowledged survives the loss of power at any point.
//!
//! A seed reproduces a run: `ROUNDELAY_SEED=17` runs one alone,
//! `ROUNDELAY_SEEDS=5000` runs more.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, mpsc};

use fastrand::Rng;
use redb::ReadableTable;
use roundelay_core::store::Write;

use super::super::committer::{Committer, Order};
use super::super::disk::Snapshot;
use super::super::open::Opened;
use super::super::overlay::bytes_of;
use super::power::PowerDisk;

/// Runs of random cuts, unless the environment says otherwise.
const SEEDS: u64 = 60;
/// How often the power goes in each of them.
const LIVES: u64 = 6;
/// Power for ever.
const NO_CUT: u64 = u64::MAX;
/// Every order writes its number here.
const NUMBER: &[u8] = b"number";

type Records = BTreeMap<Vec<u8>, Vec<u8>>;

#[test]
fn power_may_go_at_random_again_and_again() {
    for seed in seeds() {
        let mut run = Run::new(seed, PowerDisk::new);
        for _ in 0..LIVES {
            let cut = run.rng.u64(1..200);
            run.live(cut, 30).unwrap();
        }
        run.live(NO_CUT, 1).unwrap();
    }
}

#[test]
fn power_may_go_before_any_operation() {
    for seed in 0..3 {
        let reached = (1..).take_while(|cut| {
            let mut run = Run::new(seed, PowerDisk::new);
            let done = run.live(*cut, 6).unwrap();
            run.live(NO_CUT, 1).unwrap();
            // One operation is the one that fails.
            done + 1 == *cut
        });
        let operations = reached.count();
        assert!(operations > 30, "there were {operations} operations only");
    }
}

/// Or else these tests would prove nothing.
#[test]
fn a_disk_that_lies_is_caught() {
    let caught = (0..20).filter(|seed| {
        let mut run = Run::new(*seed, |bytes, cut| PowerDisk::new(bytes, cut).lying());
        let died = run.live(100, 30);
        died.and_then(|_| run.live(NO_CUT, 1)).is_err()
    });
    assert!(caught.count() > 10);
}

/// A file from life to life, and what must be in it.
struct Run {
    seed: u64,
    rng: Rng,
    make: fn(Vec<u8>, u64) -> PowerDisk,
    bytes: Vec<u8>,
    epoch: u64,
    /// All orders given that may be there, the first `acknowledged` of which
    /// must be.
    orders: Vec<Vec<Write>>,
    acknowledged: usize,
}

impl Run {
    fn new(seed: u64, make: fn(Vec<u8>, u64) -> PowerDisk) -> Self {
        Self {
            seed,
            rng: Rng::with_seed(seed),
            make,
            bytes: Vec::new(),
            epoch: 0,
            orders: Vec::new(),
            acknowledged: 0,
        }
    }

    /// Opens the file and commits groups to it until the power goes, after so
    /// many operations. Tells how many there were.
    fn live(&mut self, cut: u64, groups: usize) -> Result<u64, String> {
        let disk = (self.make)(std::mem::take(&mut self.bytes), cut);
        let created = disk.create().map_err(|error| error.to_string());
        let opened = created.and_then(|()| {
            let opened = Opened::open(Box::new(disk.clone()), Path::new("dir"), 1);
            opened.map_err(|error| error.to_string())
        });
        let lived = match opened {
            Ok(opened) => self.work(opened, &disk, groups),
            Err(error) if disk.has_power() => Err(error),
            Err(_) => Ok(()),
        };
        let done = disk.operations();
        self.bytes = disk.after_power_loss(&mut self.rng);
        lived.map_err(|error| format!("seed {}: {error}", self.seed))?;
        Ok(done)
    }

    fn work(&mut self, opened: Opened, disk: &PowerDisk, groups: usize) -> Result<(), String> {
        let Opened {
            mut committer,
            epoch,
            mut snapshot,
        } = opened;
        if epoch <= self.epoch {
            return Err(format!("epoch {epoch} came after {}", self.epoch));
        }
        self.epoch = epoch;
        self.acknowledged = self.check(&snapshot)?;
        self.orders.truncate(self.acknowledged);
        for _ in 0..groups {
            let (commits, done) = self.commit_group(&mut committer, &mut snapshot);
            if !done {
                return match disk.has_power() {
                    true => Err("a commit was refused".to_owned()),
                    false => Ok(()),
                };
            }
            self.acknowledged += commits;
            if self.rng.u8(0..4) == 0 {
                self.check(&snapshot)?;
            }
        }
        Ok(())
    }

    /// Orders a few commits at once; tells how many, and whether they are
    /// acknowledged.
    fn commit_group(
        &mut self,
        committer: &mut Committer,
        snapshot: &mut Snapshot,
    ) -> (usize, bool) {
        let (orders, queue) = mpsc::channel();
        for _ in 0..self.rng.usize(1..5) {
            let writes = self.writes();
            self.orders.push(writes.clone());
            let bytes = bytes_of(&writes);
            let writes = Arc::new(writes);
            orders.send(Order { writes, bytes }).unwrap();
        }
        let finished = committer.step(&queue).unwrap();
        if let Some(newer) = finished.snapshot {
            *snapshot = newer;
        }
        (finished.commits, finished.result.is_ok())
    }

    /// One order: its number, and changes to a few keys of fifty, some of
    /// them large.
    fn writes(&mut self) -> Vec<Write> {
        let rng = &mut self.rng;
        let number = self.orders.len() as u64 + 1;
        let mut writes = vec![Write {
            key: NUMBER.to_vec(),
            value: Some(number.to_be_bytes().to_vec()),
        }];
        for _ in 0..rng.usize(0..6) {
            let len = match rng.u8(0..20) {
                0 => rng.usize(4_000..40_000),
                1..5 => rng.usize(300..3_000),
                _ => rng.usize(0..200),
            };
            let value = vec![rng.u8(..); len];
            writes.push(Write {
                key: vec![b'k', rng.u8(0..50)],
                value: (rng.u8(0..4) > 0).then_some(value),
            });
        }
        writes
    }

    /// Looks what is there: all orders up to one that is not before the last
    /// acknowledged, and no part of another. Tells how many.
    fn check(&self, snapshot: &Snapshot) -> Result<usize, String> {
        let entries = snapshot.iter().map_err(|error| error.to_string())?;
        let entries = entries.map(|entry| {
            let (key, value) = entry.map_err(|error| error.to_string())?;
            Ok((key.value().to_vec(), value.value().to_vec()))
        });
        let found = entries.collect::<Result<Records, String>>()?;
        let number = found.get(NUMBER).map_or(0, |bytes| {
            u64::from_be_bytes(bytes.as_slice().try_into().unwrap()) as usize
        });
        let (least, most) = (self.acknowledged, self.orders.len());
        if !(least..=most).contains(&number) {
            return Err(format!(
                "{number} orders are there, {least} of {most} were acknowledged"
            ));
        }
        let mut expected = Records::new();
        for write in self.orders.iter().take(number).flatten().cloned() {
            match write.value {
                Some(value) => expected.insert(write.key, value),
                None => expected.remove(&write.key),
            };
        }
        match found == expected {
            true => Ok(number),
            false => Err(format!("not just the first {number} orders are there")),
        }
    }
}

/// The seed that `ROUNDELAY_SEED` names, else as many as `ROUNDELAY_SEEDS`.
fn seeds() -> std::ops::Range<u64> {
    let number = |name| Some(std::env::var(name).ok()?.parse().expect(name));
    match number("ROUNDELAY_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("ROUNDELAY_SEEDS").unwrap_or(SEEDS),
    }
}
