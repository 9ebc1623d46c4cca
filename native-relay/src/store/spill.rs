//! A file that may be full: what it refuses is kept in memory until it takes it.
//!
//! redb answers nothing any more after one failed write, no reads either, until
//! the file is opened again, which walks through all of it and needs room to
//! write. So failures are not shown to redb. From the first step that the file
//! refuses, this one and all that follow are kept here in order, and reads see
//! them. The committer asks [`Spill::is_dry`] before it believes a transaction.
//!
//! Steps since the last sync are kept as well: a sync that fails may have
//! dropped what was written before it, which therefore is written again.

use std::io;
use std::ops::{Bound, Range};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use redb::{BackendError, StorageBackend};

/// Room for the bytes of steps that is kept for the next transaction.
const SPARE_BYTES: usize = 1 << 20;

/// How often a read is tried before redb hears that it failed, and gives up.
const READ_TRIES: usize = 3;

/// The file as redb has it, and as its owner pours it.
#[derive(Clone, Debug)]
pub(super) struct Spill(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    file: Box<dyn StorageBackend>,
    /// Whether the file took all steps: then reads need no lock, which is held
    /// while the file is synced.
    dry: AtomicBool,
    /// Whether the file was ever to take anything.
    poured: AtomicBool,
    state: RwLock<State>,
}

/// At most one transaction and its undoing: nothing more is begun before the
/// file took them.
#[derive(Debug, Default)]
struct State {
    /// All since the file was synced, or since it refused.
    steps: Vec<Step>,
    /// The bytes of all writes among them.
    bytes: Vec<u8>,
    progress: Progress,
    /// Why the file did not take the first step that it did not take.
    trouble: Option<io::Error>,
}

#[derive(Clone, Debug)]
enum Step {
    Write { offset: u64, bytes: Range<usize> },
    Len(u64),
    Sync,
}

/// How many steps the file took, and how many of them are synced.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    taken: usize,
    synced: usize,
}

impl Progress {
    fn note(&mut self, step: &Step, result: &io::Result<()>) {
        match (step, result) {
            (Step::Sync, Ok(())) => {
                self.taken += 1;
                self.synced = self.taken;
            }
            (Step::Sync, Err(_)) => self.taken = self.synced,
            (_, Ok(())) => self.taken += 1,
            (_, Err(_)) => {}
        }
    }
}

impl Spill {
    /// Keeps all steps until they are poured for the first time.
    pub(super) fn holding(file: Box<dyn StorageBackend>) -> Self {
        Self(Arc::new(Shared {
            file,
            dry: AtomicBool::new(false),
            poured: AtomicBool::new(false),
            state: RwLock::default(),
        }))
    }

    /// Whether the file took all steps.
    pub(super) fn is_dry(&self) -> bool {
        self.0.dry.load(Ordering::Acquire)
    }

    /// Lets the file take what it has not, in order, with every sync on the
    /// way.
    pub(super) fn pour(&self) -> io::Result<()> {
        if self.is_dry() {
            return Ok(());
        }
        self.0.poured.store(true, Ordering::Release);
        // Others may read meanwhile; only this thread adds steps.
        let (progress, poured) = self.read_state().pour(&*self.0.file);
        let mut state = self.write_state();
        state.progress = progress;
        poured?;
        state.trouble = None;
        state.drop_synced();
        self.0.dry.store(true, Ordering::Release);
        Ok(())
    }

    /// A transaction was undone by redb itself: no step since the last sync
    /// waits for another, and what the file was to grow by is of no use. Tells
    /// why the file did not take one.
    pub(super) fn undone(&self) -> Option<io::Error> {
        let mut state = self.write_state();
        let len = state.len().unwrap_or(u64::MAX);
        let progress = state.progress;
        // Pages of before, which redb had kept back, are among those written.
        let mut steps = state.steps.split_off(progress.synced);
        steps.retain(|step| match step {
            Step::Write { offset, bytes } => offset.saturating_add(bytes.len() as u64) <= len,
            Step::Len(of) => *of == len,
            Step::Sync => false,
        });
        state.steps.append(&mut steps);
        state.progress.taken = progress.synced;
        let trouble = state.trouble.take();
        drop(state);
        self.0.dry.store(false, Ordering::Release);
        // Where this is refused, too, it is poured before the next transaction.
        let _ = self.pour();
        trouble
    }

    fn step(&self, make: impl FnOnce(&mut Vec<u8>) -> Step) {
        let mut state = self.write_state();
        let step = make(&mut state.bytes);
        state.steps.push(step.clone());
        if !self.is_dry() {
            return;
        }
        let result = state.carry_out(&step, &*self.0.file);
        state.progress.note(&step, &result);
        match result {
            Ok(()) => state.drop_synced(),
            Err(error) => {
                state.trouble = Some(error);
                self.0.dry.store(false, Ordering::Release);
            }
        }
    }

    fn read_state(&self) -> RwLockReadGuard<'_, State> {
        self.0.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_state(&self) -> RwLockWriteGuard<'_, State> {
        self.0.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The length of the file once it took all steps, where they change it.
    fn len(&self) -> Option<u64> {
        self.steps.iter().rev().find_map(|step| match step {
            Step::Len(len) => Some(*len),
            Step::Write { .. } | Step::Sync => None,
        })
    }

    fn written(&self, range: &Range<usize>) -> &[u8] {
        self.bytes.get(range.clone()).unwrap_or_default()
    }

    fn carry_out(&self, step: &Step, file: &dyn StorageBackend) -> io::Result<()> {
        match step {
            Step::Write { offset, bytes } => file.write(*offset, self.written(bytes)),
            Step::Len(len) => file.set_len(*len),
            Step::Sync => file.sync_data(),
        }
    }

    fn pour(&self, file: &dyn StorageBackend) -> (Progress, io::Result<()>) {
        let mut progress = self.progress;
        while let Some(step) = self.steps.get(progress.taken) {
            let result = self.carry_out(step, file);
            progress.note(step, &result);
            if result.is_err() {
                return (progress, result);
            }
        }
        (progress, Ok(()))
    }

    fn drop_synced(&mut self) {
        if self.progress.synced == self.steps.len() {
            self.steps.clear();
            self.bytes.clear();
            self.bytes.shrink_to(SPARE_BYTES);
            self.progress = Progress::default();
        }
    }

    /// Reads the file as it will be.
    fn read(&self, file: &dyn StorageBackend, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let end = offset.saturating_add(out.len() as u64);
        let file_len = file.len()?;
        if end > self.len().unwrap_or(file_len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        out.fill(0);
        let there = part(offset..end, &(0..file_len));
        if let Some(out) = out.get_mut(there).filter(|out| !out.is_empty()) {
            read(file, offset, out)?;
        }
        for step in &self.steps {
            match step {
                Step::Write { offset: to, bytes } => {
                    let written = self.written(bytes);
                    let over = *to..to.saturating_add(written.len() as u64);
                    let from = part(over.clone(), &(offset..end));
                    let into = part(offset..end, &over);
                    if let (Some(out), Some(new)) = (out.get_mut(into), written.get(from)) {
                        out.copy_from_slice(new);
                    }
                }
                Step::Len(len) => {
                    let beyond = part(offset..end, &(*len..u64::MAX));
                    out.get_mut(beyond).unwrap_or_default().fill(0);
                }
                Step::Sync => {}
            }
        }
        Ok(())
    }
}

/// The part of a range that lies in another, counted from its own start.
fn part(range: Range<u64>, other: &Range<u64>) -> Range<usize> {
    let start = other.start.clamp(range.start, range.end);
    let end = other.end.clamp(start, range.end);
    // Both are within a buffer.
    (start - range.start) as usize..(end - range.start) as usize
}

fn read(file: &dyn StorageBackend, offset: u64, out: &mut [u8]) -> io::Result<()> {
    let mut tried = file.read(offset, out);
    for _ in 1..READ_TRIES {
        if tried.is_ok() {
            break;
        }
        tried = file.read(offset, out);
    }
    tried
}

impl StorageBackend for Spill {
    fn len(&self) -> io::Result<u64> {
        if self.is_dry() {
            return self.0.file.len();
        }
        let len = self.read_state().len();
        len.map_or_else(|| self.0.file.len(), Ok)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if self.is_dry() {
            return read(&*self.0.file, offset, out);
        }
        self.read_state().read(&*self.0.file, offset, out)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.step(|bytes| {
            let start = bytes.len();
            bytes.extend_from_slice(data);
            let bytes = start..bytes.len();
            Step::Write { offset, bytes }
        });
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.step(|_| Step::Len(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.step(|_| Step::Sync);
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        // A file that was looked at only stays as it is.
        let poured = match self.0.poured.load(Ordering::Acquire) {
            true => self.pour(),
            false => Ok(()),
        };
        let closed = self.0.file.close();
        poured.and(closed)
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.0.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.file.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use fastrand::Rng;

    use super::*;

    /// Bytes in memory, and how many more steps are taken.
    #[derive(Clone, Debug, Default)]
    struct Flaky(Arc<Mutex<(Vec<u8>, usize)>>);

    impl Flaky {
        fn take(&self, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
            let (bytes, left) = &mut *self.0.lock().unwrap();
            *left = left.checked_sub(1).ok_or(io::ErrorKind::StorageFull)?;
            change(bytes);
            Ok(())
        }

        fn allow(&self, steps: usize) {
            self.0.lock().unwrap().1 = steps;
        }
    }

    impl StorageBackend for Flaky {
        fn len(&self) -> io::Result<u64> {
            Ok(self.0.lock().unwrap().0.len() as u64)
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            let offset = offset as usize;
            out.copy_from_slice(&self.0.lock().unwrap().0[offset..offset + out.len()]);
            Ok(())
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.take(|bytes| bytes.resize(len as usize, 0))
        }

        fn sync_data(&self) -> io::Result<()> {
            self.take(|_| {})
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            let offset = offset as usize;
            let end = offset + data.len();
            self.take(|bytes| {
                bytes.resize(bytes.len().max(end), 0);
                bytes[offset..end].copy_from_slice(data);
            })
        }
    }

    /// A file that takes so many steps, and what is to make it so long.
    fn holding(steps: usize, len: u64) -> (Flaky, Spill) {
        let file = Flaky::default();
        file.allow(steps);
        let spill = Spill::holding(Box::new(file.clone()));
        spill.set_len(len).unwrap();
        (file, spill)
    }

    fn read_all(file: &impl StorageBackend) -> Vec<u8> {
        let mut bytes = vec![7; file.len().unwrap() as usize];
        let middle = bytes.len() / 3;
        let (head, tail) = bytes.split_at_mut(middle);
        file.read(0, head).unwrap();
        file.read(middle as u64, tail).unwrap();
        bytes
    }

    /// One step to both.
    fn step(rng: &mut Rng, spill: &Spill, model: &mut Vec<u8>) {
        match rng.u8(0..5) {
            0 => {
                model.resize(rng.usize(10..200), 0);
                spill.set_len(model.len() as u64).unwrap();
            }
            1 => spill.sync_data().unwrap(),
            _ => {
                let start = rng.usize(0..model.len());
                let end = rng.usize(start..model.len());
                model[start..end].fill(rng.u8(..));
                spill.write(start as u64, &model[start..end]).unwrap();
            }
        }
    }

    #[test]
    fn what_the_file_refuses_is_read_all_the_same_and_poured_in_order() {
        for seed in 0..300 {
            let mut rng = Rng::with_seed(seed);
            let (file, spill) = holding(0, 100);
            let mut model = vec![0; 100];
            for _ in 0..60 {
                file.allow(rng.usize(0..20));
                let poured = spill.pour().is_ok();
                assert_eq!(poured, spill.is_dry());
                assert!(!poured || read_all(&file) == model, "seed {seed}");
                step(&mut rng, &spill, &mut model);
                assert!(read_all(&spill) == model, "seed {seed}");
            }
            file.allow(usize::MAX);
            spill.close().unwrap();
            assert!(read_all(&file) == model, "seed {seed}");
        }
    }

    #[test]
    fn a_file_that_was_not_poured_stays_as_it_is() {
        let (file, spill) = holding(9, 10);
        assert_eq!(spill.len().unwrap(), 10);
        spill.close().unwrap();
        assert_eq!(file.len().unwrap(), 0);
    }

    #[test]
    fn after_a_failed_sync_all_since_the_last_is_written_again() {
        let (file, spill) = holding(4, 4);
        spill.sync_data().unwrap();
        spill.pour().unwrap();
        spill.write(0, b"ab").unwrap();
        spill.write(2, b"cd").unwrap();
        spill.sync_data().unwrap();
        assert!(!spill.is_dry());
        // As if the system had dropped it.
        file.0.lock().unwrap().0.fill(0);
        file.allow(3);
        spill.pour().unwrap();
        assert_eq!(read_all(&file), b"abcd");
    }

    #[test]
    fn what_was_undone_needs_no_room_to_grow() {
        let (file, spill) = holding(1, 5);
        spill.pour().unwrap();
        spill.write(1, b"kept").unwrap();
        spill.set_len(8).unwrap();
        spill.write(5, b"off").unwrap();
        spill.set_len(5).unwrap();
        file.allow(3);
        let error = spill.undone().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(spill.is_dry());
        assert_eq!(read_all(&file), b"\0kept");
    }
}
