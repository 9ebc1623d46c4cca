//! A disk in memory that fails as it is told: its power can be cut between any
//! two operations, and it can refuse some.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use fastrand::Rng;
use redb::{Database, StorageBackend};

use super::super::medium::Medium;
use super::super::open::initialise;
use super::OWNER;

/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// Small, so that pages leave redb's cache before a commit does.
const CACHE_BYTES: usize = 256 << 10;

/// What is on a disk.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Image {
    pub(super) file: Vec<u8>,
    pub(super) mark: Vec<u8>,
}

#[derive(Clone, Debug)]
pub(super) struct PowerDisk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// What is there whatever happens.
    synced: Vec<u8>,
    /// What a process sees.
    cached: Vec<u8>,
    /// What leads from the one to the other.
    unsynced: Vec<Change>,
    /// How many operations there will be power for.
    left: u64,
    /// Operations carried out.
    done: u64,
    /// Whether syncing is said, but not done.
    lies: bool,
    /// Operations that are refused, and why.
    refused: Range<u64>,
    why: io::ErrorKind,
    free_bytes: u64,
    mark: Vec<u8>,
    /// What the mark was when the disk got its power.
    mark_before: Vec<u8>,
}

impl State {
    fn change(&mut self, change: Change) {
        change.carry_out(&mut self.cached);
        self.unsynced.push(change);
    }
}

#[derive(Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Len(usize),
}

impl Change {
    fn carry_out(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Len(len) => bytes.resize(*len, 0),
            Self::Write { offset, bytes: new } => {
                let end = offset + new.len();
                bytes.resize(bytes.len().max(end), 0);
                bytes[*offset..end].copy_from_slice(new);
            }
        }
    }
}

/// What becomes of a change that was not synced.
#[derive(Clone, Copy)]
enum Fate {
    Kept,
    Dropped,
    Torn,
}

impl PowerDisk {
    /// A disk with this on it, and power for so many operations.
    pub(super) fn new(image: Image, operations: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            cached: image.file.clone(),
            synced: image.file,
            unsynced: Vec::new(),
            left: operations,
            done: 0,
            lies: false,
            refused: 0..0,
            why: io::ErrorKind::Other,
            free_bytes: u64::MAX,
            mark: image.mark.clone(),
            mark_before: image.mark,
        })))
    }

    /// The same, but it says that it synced without doing it.
    pub(super) fn lying(self) -> Self {
        self.0.lock().unwrap().lies = true;
        self
    }

    /// Refuses operations, a while from now.
    pub(super) fn refuse(&self, after: u64, count: u64, why: io::ErrorKind) {
        let state = &mut *self.0.lock().unwrap();
        let first = state.done + after;
        (state.refused, state.why) = (first..first.saturating_add(count), why);
    }

    /// Whether it refused any of what it was told to.
    pub(super) fn has_refused(&self) -> bool {
        let state = self.0.lock().unwrap();
        !state.refused.is_empty() && state.done > state.refused.start
    }

    pub(super) fn set_free_bytes(&self, bytes: u64) {
        self.0.lock().unwrap().free_bytes = bytes;
    }

    fn left(&self) -> u64 {
        self.0.lock().unwrap().left
    }

    pub(super) fn has_power(&self) -> bool {
        self.left() > 0
    }

    /// Makes the file where there is none: as the real one, elsewhere, so that
    /// it comes to its place whole.
    pub(super) fn create(&self) -> Result<(), redb::Error> {
        if !self.0.lock().unwrap().cached.is_empty() {
            return Ok(());
        }
        let elsewhere = Self::new(Image::default(), self.left());
        let made = Database::builder().create_with_backend(elsewhere.clone());
        let made = made.map_err(redb::Error::from);
        let made = made.and_then(|made| initialise(made, &OWNER, 1));
        let other = &*elsewhere.0.lock().unwrap();
        let state = &mut *self.0.lock().unwrap();
        (state.left, state.done) = (other.left, other.done);
        made?;
        state.cached.clone_from(&other.cached);
        state.synced.clone_from(&other.cached);
        Ok(())
    }

    /// Operations carried out so far.
    pub(super) fn operations(&self) -> u64 {
        self.0.lock().unwrap().done
    }

    /// Carries out nothing more: who writes was killed, or is to see no power.
    pub(super) fn cut(&self) {
        self.0.lock().unwrap().left = 0;
    }

    /// What a process finds that comes after one that was killed.
    pub(super) fn image(&self) -> Image {
        let state = self.0.lock().unwrap();
        Image {
            file: state.cached.clone(),
            mark: state.mark.clone(),
        }
    }

    /// What is on the disk after the power went: of what was not synced each
    /// write may be there, missing, or there in parts. Changes of the length
    /// keep their order, as file systems journal them.
    pub(super) fn after_power_loss(&self, rng: &mut Rng) -> Image {
        let state = &mut *self.0.lock().unwrap();
        state.left = 0;
        let mut mark = state.mark_before.clone();
        mark.resize(state.mark.len(), 0);
        let kept = rng.usize(0..=mark.len());
        mark[..kept].copy_from_slice(&state.mark[..kept]);
        let mut bytes = state.synced.clone();
        let mut lens_kept = true;
        let whole = *rng
            .choice(&[None, None, Some(Fate::Kept), Some(Fate::Dropped)])
            .unwrap();
        for change in &state.unsynced {
            let fate = whole.unwrap_or_else(|| match rng.u8(0..5) {
                0 | 1 => Fate::Kept,
                2 | 3 => Fate::Dropped,
                _ => Fate::Torn,
            });
            match change {
                Change::Len(len) => {
                    lens_kept &= matches!(fate, Fate::Kept);
                    if lens_kept {
                        bytes.resize(*len, 0);
                    }
                }
                Change::Write { offset, bytes: new } => {
                    tear(&mut bytes, *offset, new, fate, rng);
                }
            }
        }
        Image { file: bytes, mark }
    }

    fn operate(&self, change: impl FnOnce(&mut State)) -> io::Result<()> {
        let state = &mut *self.0.lock().unwrap();
        state.left = state.left.saturating_sub(1);
        if state.left == 0 {
            return Err(io::Error::other("no power"));
        }
        let number = state.done;
        state.done += 1;
        if state.refused.contains(&number) {
            return Err(state.why.into());
        }
        change(state);
        Ok(())
    }
}

/// Writes what fate lets through. What lies beyond the end is lost with the
/// length that was to be.
fn tear(bytes: &mut [u8], offset: usize, new: &[u8], fate: Fate, rng: &mut Rng) {
    for (index, sector) in new.chunks(SECTOR_BYTES).enumerate() {
        let kept = match fate {
            Fate::Kept => true,
            Fate::Dropped => false,
            Fate::Torn => rng.bool(),
        };
        let start = offset + index * SECTOR_BYTES;
        let old = bytes.get_mut(start..start + sector.len());
        if let Some(old) = old.filter(|_| kept) {
            old.copy_from_slice(sector);
        }
    }
}

impl Medium for PowerDisk {
    fn file(&self) -> io::Result<Box<dyn StorageBackend>> {
        Ok(Box::new(self.clone()))
    }

    fn read_mark(&self) -> Vec<u8> {
        self.0.lock().unwrap().mark.clone()
    }

    fn write_mark(&mut self, mark: &[u8]) {
        let state = &mut *self.0.lock().unwrap();
        if state.left > 0 {
            state.mark = mark.to_vec();
        }
    }

    fn cache_bytes(&self) -> usize {
        CACHE_BYTES
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().free_bytes)
    }
}

impl StorageBackend for PowerDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().cached.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.0.lock().unwrap();
        let range = offset as usize..offset as usize + out.len();
        let bytes = state.cached.get(range);
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = len as usize;
        self.operate(|state| state.change(Change::Len(len)))
    }

    fn sync_data(&self) -> io::Result<()> {
        let synced = self.operate(|state| {
            if !state.lies {
                for change in state.unsynced.drain(..) {
                    change.carry_out(&mut state.synced);
                }
            }
        });
        if synced.is_err() && self.has_power() {
            // As Linux does it: what could not be written is taken for clean,
            // and the next sync says nothing of it.
            self.0.lock().unwrap().unsynced.clear();
        }
        synced
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let (offset, bytes) = (offset as usize, data.to_vec());
        self.operate(|state| state.change(Change::Write { offset, bytes }))
    }
}
