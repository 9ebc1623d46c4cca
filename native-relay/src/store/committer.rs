//! The thread that makes commits durable, many with one sync.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use redb::{Database, Table, WriteTransaction};
use roundelay_core::store::StoreError;
use tokio::sync::mpsc as channel;

use super::disk::{Panicked, RECORDS, Snapshot, guard, snapshot_of};
use super::mark::Mark;
use super::medium::Medium;
use super::open::{COMMITS, META};
use super::overlay::SharedWrites;
use super::seal::{SEAL_BYTES, seal};
use super::spill::Spill;

/// A group takes no further commit beyond this many bytes, so that the first
/// in it do not wait for ever.
const GROUP_BYTES_MAX: usize = 8 << 20;

/// A group that adds to the records is refused as [`StoreError::Full`] unless
/// this many bytes and [`ROOM_FACTOR`] times its own are free.
pub(super) const RESERVE_BYTES: u64 = 8 << 20;

/// The part of [`RESERVE_BYTES`] that is left for closing the file, also by
/// groups that only delete or replace: they are how room is made.
pub(super) const LAST_BYTES: u64 = 1 << 20;

/// redb copies every page that it changes.
const ROOM_FACTOR: u64 = 4;

/// How often it is looked for room while commits are refused.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// How long a file that refused a write itself is held for full.
const DOUBT: Duration = Duration::from_secs(10);

type Records<'a> = Table<'a, &'static [u8], &'static [u8]>;

/// One commit to carry out.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) writes: SharedWrites,
    pub(super) bytes: usize,
}

/// What became of a group of commits; of none, where it was looked for room.
#[derive(Debug)]
pub(super) struct Finished {
    /// How many commits: the oldest in flight.
    pub(super) commits: usize,
    /// Durable all together, or all together without effect for now: a failure,
    /// as [`StoreError`] says, may come to light later.
    pub(super) result: Result<(), StoreError>,
    /// The records afterwards; `None` where nothing changed.
    pub(super) snapshot: Option<Arc<Snapshot>>,
    /// Why the next commits are refused, as far as that is known.
    pub(super) refusing: Option<StoreError>,
}

/// Owns the database.
pub(super) struct Committer {
    database: Database,
    spill: Spill,
    /// The records as of the last group that is durable.
    last: Arc<Snapshot>,
    mark: Mark,
    /// Why commits are refused, if they are.
    refusing: Option<StoreError>,
    /// Until when no room is believed in that was only looked for.
    doubt_until: Option<Instant>,
    /// Last, since it holds the directory until the database is closed.
    medium: Box<dyn Medium>,
}

impl Committer {
    pub(super) fn new(
        medium: Box<dyn Medium>,
        spill: Spill,
        database: Database,
        last: Arc<Snapshot>,
        mark: Mark,
    ) -> Self {
        Self {
            database,
            spill,
            last,
            mark,
            refusing: None,
            doubt_until: None,
            medium,
        }
    }

    /// Carries out orders until there is no one left to give them.
    pub(super) fn run(
        mut self,
        orders: &mpsc::Receiver<Order>,
        finished: &channel::Sender<Finished>,
    ) {
        let _ = finished.blocking_send(self.probe());
        while let Some(group) = self.step(orders) {
            // While the node shuts down nobody listens; the rest is written
            // all the same.
            let _ = finished.blocking_send(group);
        }
    }

    /// Waits for an order, and carries it out with those that wait behind it.
    /// While commits are refused, each is tried alone, lest one that makes room
    /// be refused for the sake of others; and room is looked for.
    pub(super) fn step(&mut self, orders: &mpsc::Receiver<Order>) -> Option<Finished> {
        let alone = self.refusing.is_some();
        let first = if alone {
            match orders.recv_timeout(PROBE_EVERY) {
                Ok(order) => order,
                Err(RecvTimeoutError::Timeout) => return Some(self.probe()),
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        } else {
            orders.recv().ok()?
        };
        let mut bytes = first.bytes;
        let mut group = vec![first];
        while !alone
            && bytes < GROUP_BYTES_MAX
            && let Ok(order) = orders.try_recv()
        {
            bytes += order.bytes;
            group.push(order);
        }
        Some(self.carry_out(&group, bytes))
    }

    fn carry_out(&mut self, group: &[Order], bytes: usize) -> Finished {
        if group.iter().all(|order| order.writes.is_empty()) {
            // All before them are done.
            return self.finished(group.len(), Ok(()), None);
        }
        let committed = guard(|| self.commit(group, bytes));
        match committed.unwrap_or_else(|panicked| Err(panicked.into())) {
            Ok((snapshot, room)) => {
                if room == Room::ForAll {
                    self.accept();
                }
                self.finished(group.len(), Ok(()), Some(snapshot))
            }
            Err(refusal) => {
                let error = match refusal.perhaps {
                    true => StoreError::Failed,
                    false => refusal.error,
                };
                self.refuse(refusal);
                self.finished(group.len(), Err(error), None)
            }
        }
    }

    /// Looks whether there is room again. What the file itself refused may be
    /// refused again, although there seems to be room: that is believed after
    /// a while only.
    pub(super) fn probe(&mut self) -> Finished {
        let poured = self.spill.pour().map_err(Refusal::from);
        match poured.and_then(|()| self.check_room(&[], 0)) {
            Ok(_) if self.doubt_until.is_some_and(|at| Instant::now() < at) => {}
            Ok(_) => self.accept(),
            Err(refusal) => self.refuse(refusal),
        }
        self.finished(0, Ok(()), None)
    }

    fn accept(&mut self) {
        self.doubt_until = None;
        if self.refusing.take().is_some() {
            tracing::info!("storage takes writes again");
        }
    }

    fn refuse(&mut self, refusal: Refusal) {
        if refusal.by_file {
            self.doubt_until = Some(Instant::now() + DOUBT);
        }
        if self.refusing.replace(refusal.error) != Some(refusal.error) {
            tracing::error!("writes are refused: {}", refusal.words);
        }
    }

    fn finished(
        &self,
        commits: usize,
        result: Result<(), StoreError>,
        snapshot: Option<Arc<Snapshot>>,
    ) -> Finished {
        Finished {
            commits,
            result,
            snapshot,
            refusing: self.refusing,
        }
    }

    fn commit(&mut self, group: &[Order], bytes: usize) -> Result<(Arc<Snapshot>, Room), Refusal> {
        self.spill.pour()?;
        let room = self.check_room(group, bytes)?;
        let transaction = self.begin()?;
        let commits = self.mark.commits + 1;
        let written = change(&transaction, commits, |table| write(table, group));
        if written.is_err() || !self.spill.is_dry() {
            transaction.abort().map_err(redb::Error::from)?;
            let refused = self.spill.undone();
            written?;
            return Err(refused.map_or_else(Refusal::full, Refusal::from));
        }
        // redb's default durability: synced when this returns, as far as the
        // file took it.
        transaction.commit().map_err(redb::Error::from)?;
        if let Err(refused) = self.spill.pour() {
            self.undo(group)?;
            let refusal = Refusal::from(refused);
            return Err(Refusal {
                perhaps: true,
                ..refusal
            });
        }
        self.mark.commits = commits;
        self.medium.write_mark(&self.mark.encode());
        let snapshot = Arc::new(snapshot_of(&self.database)?);
        self.last = Arc::clone(&snapshot);
        Ok((snapshot, room))
    }

    fn begin(&self) -> Result<WriteTransaction, redb::Error> {
        Ok(self.database.begin_write()?)
    }

    /// Takes a group back that redb has committed, but the file did not take.
    /// Both are poured when there is room; who loses power in between may find
    /// the group, whole.
    fn undo(&self, group: &[Order]) -> Result<(), redb::Error> {
        let mut before = BTreeMap::new();
        for write in group.iter().flat_map(|order| order.writes.iter()) {
            before.insert(&write.key, self.last.get(write.key.as_slice())?);
        }
        let transaction = self.begin()?;
        change(&transaction, self.mark.commits, |table| {
            for (key, value) in &before {
                match value {
                    Some(value) => table.insert(key.as_slice(), value.value())?,
                    None => table.remove(key.as_slice())?,
                };
            }
            Ok(())
        })?;
        transaction.commit()?;
        Ok(())
    }

    /// A file system that cannot say what is free is not asked again by way of
    /// a refusal: it will refuse itself.
    fn check_room(&self, group: &[Order], bytes: usize) -> Result<Room, Refusal> {
        let Ok(free) = self.medium.free_bytes() else {
            return Ok(Room::ForAll);
        };
        let needed = ROOM_FACTOR.saturating_mul(bytes as u64);
        if free >= RESERVE_BYTES.saturating_add(needed) {
            return Ok(Room::ForAll);
        }
        let least = LAST_BYTES.saturating_add(needed);
        if free >= least && !group.is_empty() && !self.adds(group)? {
            return Ok(Room::ForThis);
        }
        Err(Refusal::full())
    }

    /// Whether the records are longer after a group than before.
    fn adds(&self, group: &[Order]) -> Result<bool, redb::Error> {
        let (mut before, mut after) = (0, 0);
        for write in group.iter().flat_map(|order| order.writes.iter()) {
            let old = self.last.get(write.key.as_slice())?;
            before += old.map_or(0, |old| {
                write.key.len() + old.value().len().saturating_sub(SEAL_BYTES)
            });
            let new = write.value.as_ref();
            after += new.map_or(0, |new| write.key.len() + new.len());
        }
        Ok(after > before)
    }
}

/// Changes the records within a transaction, and numbers it.
fn change(
    transaction: &WriteTransaction,
    commits: u64,
    change: impl FnOnce(&mut Records<'_>) -> Result<(), redb::StorageError>,
) -> Result<(), redb::Error> {
    change(&mut transaction.open_table(RECORDS)?)?;
    transaction.open_table(META)?.insert(COMMITS, commits)?;
    Ok(())
}

fn write(table: &mut Records<'_>, group: &[Order]) -> Result<(), redb::StorageError> {
    for write in group.iter().flat_map(|order| order.writes.iter()) {
        let key = write.key.as_slice();
        match &write.value {
            Some(value) => {
                let mut sealed = table.insert_reserve(key, value.len() + SEAL_BYTES)?;
                seal(key, value, sealed.as_mut());
            }
            None => drop(table.remove(key)?),
        }
    }
    Ok(())
}

/// What there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    ForAll,
    /// For a group that adds nothing.
    ForThis,
}

/// Why a group was not committed.
#[derive(Debug)]
struct Refusal {
    error: StoreError,
    words: String,
    /// By the file itself; else nothing was tried.
    by_file: bool,
    /// Whether a loss of power now may bring the group to light.
    perhaps: bool,
}

impl Refusal {
    fn full() -> Self {
        Self {
            error: StoreError::Full,
            words: "the disk is full; make room on it, or delete keys".to_owned(),
            by_file: false,
            perhaps: false,
        }
    }

    fn failed(error: &dyn std::error::Error) -> Self {
        Self {
            error: StoreError::Failed,
            words: format!("{error}; check the disk, then start this process again"),
            by_file: true,
            perhaps: false,
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        let refusal = match is_full(&error) {
            true => Self::full(),
            false => Self::failed(&error),
        };
        Self {
            by_file: true,
            ..refusal
        }
    }
}

impl From<redb::Error> for Refusal {
    fn from(error: redb::Error) -> Self {
        Self::failed(&error)
    }
}

impl From<Panicked> for Refusal {
    fn from(panicked: Panicked) -> Self {
        Self::failed(&panicked)
    }
}

/// Whether room is all that is missing.
pub(super) fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}
