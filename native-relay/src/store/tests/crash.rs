//! What was acknowledged survives the loss of power at any point, and what was
//! refused is not there.
//!
//! A seed reproduces a run: `ROUNDELAY_SEED=17` runs one alone,
//! `ROUNDELAY_SEEDS=5000` runs more.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, mpsc};

use fastrand::Rng;
use redb::ReadableTable;
use roundelay_core::store::Write;

use super::super::committer::{Committer, Order};
use super::super::disk::Snapshot;
use super::super::open::Opened;
use super::super::overlay::bytes_of;
use super::super::seal::unseal;
use super::OWNER;
use super::power::{Image, PowerDisk};

/// Runs of random cuts, unless the environment says otherwise.
const SEEDS: u64 = 20;
/// How often the power goes in each of them.
const LIVES: u64 = 6;
/// Power for ever.
pub(super) const NO_CUT: u64 = u64::MAX;
/// Every order writes its number here.
const NUMBER: &[u8] = b"number";

pub(super) type Records = BTreeMap<Vec<u8>, Vec<u8>>;

#[test]
fn power_may_go_at_random_again_and_again() {
    for seed in seeds(SEEDS) {
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
    for seed in 0..2 {
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

#[test]
fn a_disk_may_refuse_at_random_and_the_power_go_too() {
    let mut refused = 0;
    for seed in seeds(SEEDS) {
        let mut run = Run::new(seed, PowerDisk::new);
        run.refuses = true;
        for _ in 0..LIVES {
            let cut = run.rng.u64(1..500);
            run.live(cut, 50).unwrap();
        }
        run.live(NO_CUT, 20).unwrap();
        refused += run.refused;
    }
    assert!(refused > 0, "nothing was refused");
}

/// Or else these tests would prove nothing.
#[test]
fn a_disk_that_lies_is_caught() {
    let caught = (0..20).filter(|seed| {
        let mut run = Run::new(*seed, |image, cut| PowerDisk::new(image, cut).lying());
        let died = run.live(100, 30);
        died.and_then(|_| run.live(NO_CUT, 1)).is_err()
    });
    assert!(caught.count() > 10);
}

/// A file from life to life, and what must be in it.
pub(super) struct Run {
    seed: u64,
    rng: Rng,
    make: fn(Image, u64) -> PowerDisk,
    /// Whether the disk refuses some operations.
    refuses: bool,
    /// Whether the process is killed in the end, and the disk keeps its power.
    pub(super) is_killed: bool,
    pub(super) image: Image,
    epoch: u64,
    /// What may be in the file, by the number of the last order: what was
    /// acknowledged last, and a group that came after it.
    possible: BTreeMap<u64, Records>,
    acknowledged: u64,
    /// Orders so far, and refused groups.
    ordered: u64,
    refused: u64,
}

impl Run {
    pub(super) fn new(seed: u64, make: fn(Image, u64) -> PowerDisk) -> Self {
        Self {
            seed,
            rng: Rng::with_seed(seed),
            make,
            refuses: false,
            is_killed: false,
            image: Image::default(),
            epoch: 0,
            possible: [(0, Records::new())].into(),
            acknowledged: 0,
            ordered: 0,
            refused: 0,
        }
    }

    /// Opens the file and commits groups to it until the power goes, after so
    /// many operations. Tells how many there were.
    pub(super) fn live(&mut self, cut: u64, groups: usize) -> Result<u64, String> {
        let disk = (self.make)(std::mem::take(&mut self.image), cut);
        let created = disk.create().map_err(|error| error.to_string());
        let opened = created.and_then(|()| {
            let opened = Opened::open(Box::new(disk.clone()), Path::new("dir"), &OWNER, 1);
            opened.map_err(|error| error.to_string())
        });
        let lived = match opened {
            Ok(opened) => self.work(opened, &disk, groups),
            Err(error) if disk.has_power() => Err(error),
            Err(_) => Ok(()),
        };
        let done = disk.operations();
        self.image = match self.is_killed {
            true => disk.image(),
            false => disk.after_power_loss(&mut self.rng),
        };
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
        let found = records(&snapshot)?;
        self.acknowledged = number_of(&found);
        self.possible
            .retain(|number, _| *number == self.acknowledged);
        self.check(&found)?;
        for _ in 0..groups {
            if self.refuses && self.rng.u8(0..3) == 0 {
                let (after, count) = (self.rng.u64(0..12), self.rng.u64(1..30));
                let why = [ErrorKind::StorageFull, ErrorKind::Other];
                disk.refuse(after, count, why[self.rng.usize(0..2)]);
            }
            let done = self.commit_group(&mut committer, &mut snapshot);
            self.check(&records(&snapshot)?)?;
            if !done && !disk.has_power() {
                return Ok(());
            }
            if !done && !disk.has_refused() {
                return Err("a commit was refused without a reason".to_owned());
            }
        }
        if self.is_killed {
            disk.cut();
        }
        Ok(())
    }

    /// Orders a few commits at once; tells whether the group is acknowledged.
    fn commit_group(&mut self, committer: &mut Committer, snapshot: &mut Arc<Snapshot>) -> bool {
        let (orders, queue) = mpsc::channel();
        let mut group = Vec::new();
        for number in 1..self.rng.u64(2..6) {
            let writes = self.writes(self.ordered + number);
            group.push(writes.clone());
            let bytes = bytes_of(&writes);
            let writes = Arc::new(writes);
            orders.send(Order { writes, bytes }).unwrap();
        }
        let finished = committer.step(&queue).unwrap();
        let mut state = self.possible[&self.acknowledged].clone();
        for write in group.into_iter().take(finished.commits).flatten() {
            match write.value {
                Some(value) => state.insert(write.key, value),
                None => state.remove(&write.key),
            };
        }
        self.ordered += finished.commits as u64;
        if finished.result.is_ok() {
            self.acknowledged = self.ordered;
            self.possible.clear();
        } else {
            self.refused += 1;
            // The group that came to the end of a commit is the one before.
            self.possible.retain(|number, _| *number <= self.ordered);
        }
        self.possible.insert(self.ordered, state);
        if let Some(newer) = finished.snapshot {
            *snapshot = newer;
        }
        finished.result.is_ok()
    }

    /// One order: its number, and changes to a few keys of fifty, some of
    /// them large.
    fn writes(&mut self, number: u64) -> Vec<Write> {
        let rng = &mut self.rng;
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

    /// What is found is what was acknowledged, all of it and nothing else.
    pub(super) fn check(&self, found: &Records) -> Result<(), String> {
        let number = number_of(found);
        if number != self.acknowledged || !self.possible.contains_key(&number) {
            let (last, possible) = (self.acknowledged, self.possible.keys());
            return Err(format!(
                "order {number} is there, {last} was acknowledged, possible are {possible:?}"
            ));
        }
        match self.possible.get(&number) == Some(found) {
            true => Ok(()),
            false => Err(format!("order {number} is not there alone and whole")),
        }
    }
}

pub(super) fn records(snapshot: &Snapshot) -> Result<Records, String> {
    let entries = snapshot.iter().map_err(|error| error.to_string())?;
    let entries = entries.map(|entry| {
        let (key, value) = entry.map_err(|error| error.to_string())?;
        let value = unseal(key.value(), value.value()).ok_or("a record is damaged")?;
        Ok((key.value().to_vec(), value.to_vec()))
    });
    entries.collect()
}

fn number_of(records: &Records) -> u64 {
    let number = records.get(NUMBER).map(Vec::as_slice);
    number.map_or(0, |bytes| u64::from_be_bytes(bytes.try_into().unwrap()))
}

/// The seed that `ROUNDELAY_SEED` names, else as many as `ROUNDELAY_SEEDS`.
pub(super) fn seeds(count: u64) -> Range<u64> {
    let number = |name| Some(std::env::var(name).ok()?.parse().expect(name));
    match number("ROUNDELAY_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("ROUNDELAY_SEEDS").unwrap_or(count),
    }
}
