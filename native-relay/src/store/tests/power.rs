//! A disk in memory whose power can be cut between any two operations.

use std::io;
use std::sync::{Arc, Mutex};

use fastrand::Rng;
use redb::{Database, DatabaseError, StorageBackend};

use super::super::medium::Medium;
use super::super::open::initialise;

/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// Small, so that pages leave redb's cache before a commit does.
const CACHE_BYTES: usize = 256 << 10;

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
}

#[derive(Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Len(usize),
}

/// What becomes of a change that was not synced.
#[derive(Clone, Copy)]
enum Fate {
    Kept,
    Dropped,
    Torn,
}

impl PowerDisk {
    /// A disk with these bytes on it, and power for so many operations.
    pub(super) fn new(bytes: Vec<u8>, operations: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            cached: bytes.clone(),
            synced: bytes,
            unsynced: Vec::new(),
            left: operations,
            done: 0,
            lies: false,
        })))
    }

    /// The same, but it says that it synced without doing it.
    pub(super) fn lying(self) -> Self {
        self.0.lock().unwrap().lies = true;
        self
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
        let elsewhere = Self::new(Vec::new(), self.left());
        let made = elsewhere.open().map_err(redb::Error::from);
        let made = made.and_then(initialise);
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

    /// What is on the disk after the power went: of what was not synced each
    /// write may be there, missing, or there in parts. Changes of the length
    /// keep their order, as file systems journal them.
    pub(super) fn after_power_loss(&self, rng: &mut Rng) -> Vec<u8> {
        let state = &mut *self.0.lock().unwrap();
        state.left = 0;
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
        bytes
    }

    fn operate(&self, change: impl FnOnce(&mut State)) -> io::Result<()> {
        let state = &mut *self.0.lock().unwrap();
        state.left = state.left.saturating_sub(1);
        if state.left == 0 {
            return Err(io::Error::other("no power"));
        }
        state.done += 1;
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
    fn open(&self) -> Result<Database, DatabaseError> {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        builder.create_with_backend(self.clone())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(u64::MAX)
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
        self.operate(|state| {
            state.cached.resize(len, 0);
            state.unsynced.push(Change::Len(len));
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.operate(|state| {
            if !state.lies {
                state.synced.clone_from(&state.cached);
                state.unsynced.clear();
            }
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let (offset, bytes) = (offset as usize, data.to_vec());
        self.operate(|state| {
            state.cached[offset..offset + bytes.len()].copy_from_slice(&bytes);
            state.unsynced.push(Change::Write { offset, bytes });
        })
    }
}
