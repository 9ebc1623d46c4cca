//! The thread that makes commits durable, many with one sync.

use std::collections::BTreeMap;
use std::sync::mpsc;

use redb::Database;
use roundelay_core::store::StoreError;
use tokio::sync::mpsc as channel;

use super::disk::{Panicked, RECORDS, Snapshot, guard, snapshot_of};
use super::medium::Medium;
use super::overlay::SharedWrites;

/// A group takes no further commit beyond this many bytes, so that the first
/// in it do not wait for ever.
const GROUP_BYTES_MAX: usize = 8 << 20;

/// A group is refused as [`StoreError::Full`] unless this many bytes and
/// [`ROOM_FACTOR`] times its own are free. redb cannot go on after a failed
/// write: it is better not to try.
pub(super) const RESERVE_BYTES: u64 = 8 << 20;

/// redb copies every page that it changes.
const ROOM_FACTOR: u64 = 4;

/// One commit to carry out.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) writes: SharedWrites,
    pub(super) bytes: usize,
}

/// What became of a group of commits.
#[derive(Debug)]
pub(super) struct Finished {
    /// How many commits: the oldest in flight.
    pub(super) commits: usize,
    /// Durable all together, or all together without effect.
    pub(super) result: Result<(), StoreError>,
    /// The records afterwards; `None` where nothing changed, or where the
    /// medium has failed for good.
    pub(super) snapshot: Option<Snapshot>,
}

/// Owns the database.
pub(super) struct Committer {
    /// `None` after a failure, until it could be opened again.
    database: Option<Database>,
    /// Last, since it holds the directory until the database is closed.
    medium: Box<dyn Medium>,
}

impl Committer {
    pub(super) fn new(medium: Box<dyn Medium>, database: Database) -> Self {
        Self {
            medium,
            database: Some(database),
        }
    }

    /// Carries out orders until there is no one left to give them.
    pub(super) fn run(
        mut self,
        orders: &mpsc::Receiver<Order>,
        finished: &channel::Sender<Finished>,
    ) {
        while let Some(group) = self.step(orders) {
            // While the node shuts down nobody listens; the rest is written
            // all the same.
            let _ = finished.blocking_send(group);
        }
    }

    /// Waits for an order, and carries it out with those that wait behind it.
    pub(super) fn step(&mut self, orders: &mpsc::Receiver<Order>) -> Option<Finished> {
        let first = orders.recv().ok()?;
        let mut bytes = first.bytes;
        let mut group = vec![first];
        while bytes < GROUP_BYTES_MAX
            && let Ok(order) = orders.try_recv()
        {
            bytes += order.bytes;
            group.push(order);
        }
        Some(self.on_group(&group, bytes))
    }

    fn on_group(&mut self, group: &[Order], bytes: usize) -> Finished {
        let committed = guard(|| self.commit_group(group, bytes));
        let (result, snapshot) = match committed.unwrap_or_else(|panicked| Err(panicked.into())) {
            Ok(snapshot) => (Ok(()), Some(snapshot)),
            Err(Refusal::Full) => (Err(StoreError::Full), None),
            Err(Refusal::Failed(error)) => self.on_failure(group, &error),
        };
        Finished {
            commits: group.len(),
            result,
            snapshot,
        }
    }

    fn commit_group(&mut self, group: &[Order], bytes: usize) -> Result<Snapshot, Refusal> {
        let needed = RESERVE_BYTES.saturating_add(ROOM_FACTOR.saturating_mul(bytes as u64));
        // A file system that cannot say is not asked again by way of a refusal.
        if self.medium.free_bytes().is_ok_and(|free| free < needed) {
            return Err(Refusal::Full);
        }
        let database = match self.database.take() {
            Some(database) => database,
            None => self.medium.open().map_err(redb::Error::from)?,
        };
        let database = self.database.insert(database);
        let transaction = database.begin_write().map_err(redb::Error::from)?;
        {
            let mut table = transaction.open_table(RECORDS).map_err(redb::Error::from)?;
            for write in group.iter().flat_map(|order| order.writes.iter()) {
                match &write.value {
                    Some(value) => table.insert(write.key.as_slice(), value.as_slice()),
                    None => table.remove(write.key.as_slice()),
                }
                .map_err(redb::Error::from)?;
            }
        }
        // redb's default durability: synced when this returns.
        transaction.commit().map_err(redb::Error::from)?;
        Ok(snapshot_of(database)?)
    }

    /// After a failed write redb refuses everything, reads too, until it is
    /// opened again; then the file says whether the group is in it.
    fn on_failure(
        &mut self,
        group: &[Order],
        error: &redb::Error,
    ) -> (Result<(), StoreError>, Option<Snapshot>) {
        tracing::error!(%error, "cannot write to storage");
        let refusal = refusal_of(error);
        let reopened = guard(|| {
            self.database = None;
            let database = self.medium.open()?;
            let snapshot = snapshot_of(&database)?;
            let applied = holds(&snapshot, group)?;
            Ok::<_, redb::Error>((database, snapshot, applied))
        });
        match reopened.unwrap_or_else(|panicked| Err(corrupted(panicked))) {
            Ok((database, snapshot, applied)) => {
                self.database = Some(database);
                let result = if applied { Ok(()) } else { Err(refusal) };
                (result, Some(snapshot))
            }
            Err(error) => {
                tracing::error!(%error, "cannot open storage again");
                (Err(refusal), None)
            }
        }
    }
}

/// Why a group was not committed.
enum Refusal {
    /// Nothing was tried.
    Full,
    /// The file must be opened again.
    Failed(redb::Error),
}

impl From<redb::Error> for Refusal {
    fn from(error: redb::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Panicked> for Refusal {
    fn from(panicked: Panicked) -> Self {
        Self::Failed(corrupted(panicked))
    }
}

fn corrupted(panicked: Panicked) -> redb::Error {
    redb::Error::Corrupted(panicked.to_string())
}

fn refusal_of(error: &redb::Error) -> StoreError {
    match error {
        redb::Error::Io(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
            ) =>
        {
            StoreError::Full
        }
        _ => StoreError::Failed,
    }
}

/// Whether all that a group leaves behind is there. A transaction is whole or
/// not at all, so one write that is missing says that it is not.
fn holds(snapshot: &Snapshot, group: &[Order]) -> Result<bool, redb::Error> {
    let mut last = BTreeMap::new();
    for write in group.iter().flat_map(|order| order.writes.iter()) {
        last.insert(write.key.as_slice(), write.value.as_deref());
    }
    for (key, value) in last {
        let found = snapshot.get(key)?;
        if found.as_ref().map(|found| found.value()) != value {
            return Ok(false);
        }
    }
    Ok(true)
}
