//! Storage on disk: one redb file, read through snapshots.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use redb::{Database, ReadOnlyTable, ReadableDatabase, TableDefinition};
use roundelay_core::NodeId;
use roundelay_core::store::{Read, StoreError, StoreOp, Stored};
use tokio::sync::mpsc as channel;

use super::committer::{Finished, Order};
use super::medium::{File, Medium};
use super::open::Opened;
use super::overlay::{Merge, Overlay, bytes_of, scan};
use super::seal::unseal;
use super::{COMMIT_BYTES_MAX, Completed, DataDir, Health, OpenError};

/// What core keeps.
pub(super) const RECORDS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("records");

/// Finished groups that wait for the driver before the committer waits too.
const FINISHED_QUEUE_LEN: usize = 16;

/// The records as of a finished transaction.
pub(super) type Snapshot = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// An open data directory. Dropping it waits for the commits in flight.
#[derive(Debug)]
pub(super) struct Disk {
    epoch: u64,
    snapshot: Arc<Snapshot>,
    overlay: Overlay,
    /// Of the commits in the overlay, in order.
    tokens: VecDeque<u64>,
    ready: VecDeque<Completed>,
    health: Health,
    finished: channel::Receiver<Finished>,
    /// `None` only while dropping.
    orders: Option<mpsc::Sender<Order>>,
    committer: Option<JoinHandle<()>>,
}

impl Disk {
    pub(super) fn open(dir: DataDir, owner: &NodeId, unix_ms: u64) -> Result<Self, OpenError> {
        let path = dir.path().to_owned();
        let medium = File::in_dir(dir, owner)?;
        Self::open_medium(Box::new(medium), &path, owner, unix_ms)
    }

    pub(super) fn open_medium(
        medium: Box<dyn Medium>,
        dir: &Path,
        owner: &NodeId,
        unix_ms: u64,
    ) -> Result<Self, OpenError> {
        let Opened {
            committer,
            epoch,
            snapshot,
        } = Opened::open(medium, dir, owner, unix_ms)?;
        let (orders, queue) = mpsc::channel();
        let (done, finished) = channel::channel(FINISHED_QUEUE_LEN);
        let committer = std::thread::Builder::new()
            .name("committer".into())
            .spawn(move || committer.run(&queue, &done))
            .map_err(|source| OpenError::Unusable {
                dir: dir.to_owned(),
                source,
            })?;
        Ok(Self {
            epoch,
            snapshot,
            overlay: Overlay::default(),
            tokens: VecDeque::new(),
            ready: VecDeque::new(),
            health: Health::default(),
            finished,
            orders: Some(orders),
            committer: Some(committer),
        })
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(super) fn health(&self) -> Health {
        self.health
    }

    pub(super) fn has_room(&self) -> bool {
        self.overlay.bytes() < COMMIT_BYTES_MAX
    }

    pub(super) fn submit(&mut self, token: u64, op: StoreOp) -> Option<Result<Stored, StoreError>> {
        match op {
            StoreOp::Read(read) => {
                let answer = guard(|| match read {
                    Read::Get { key } => self.get(&key),
                    Read::Scan { from, to, limit } => self.scan(&from, &to, limit),
                });
                Some(answer.unwrap_or_else(|panicked| Err(read_failed(&panicked))))
            }
            StoreOp::Commit(writes) => {
                let bytes = bytes_of(&writes);
                let writes = Arc::new(writes);
                let order = Order {
                    writes: Arc::clone(&writes),
                    bytes,
                };
                let sent = self
                    .orders
                    .as_ref()
                    .is_some_and(|orders| orders.send(order).is_ok());
                if !sent {
                    return Some(Err(StoreError::Failed));
                }
                self.overlay.push(writes);
                self.tokens.push_back(token);
                None
            }
        }
    }

    pub(super) async fn completed(&mut self) -> Completed {
        loop {
            if let Some(completed) = self.try_completed() {
                return completed;
            }
            match self.finished.recv().await {
                Some(finished) => self.on_finished(finished),
                None if self.tokens.is_empty() => std::future::pending().await,
                // The committer is gone, by a panic: nobody else will answer.
                None => self.on_finished(Finished {
                    commits: self.tokens.len(),
                    result: Err(StoreError::Failed),
                    snapshot: None,
                    refusing: Some(StoreError::Failed),
                }),
            }
        }
    }

    pub(super) fn try_completed(&mut self) -> Option<Completed> {
        if self.ready.is_empty()
            && let Ok(finished) = self.finished.try_recv()
        {
            self.on_finished(finished);
        }
        self.ready.pop_front()
    }

    /// The snapshot changes in the same step as the overlay: readers see each
    /// commit in one of the two, always.
    fn on_finished(&mut self, finished: Finished) {
        if let Some(snapshot) = finished.snapshot {
            self.snapshot = snapshot;
        }
        self.health.refusing = finished.refusing;
        if finished.result.is_err() {
            self.health.refused += finished.commits as u64;
        }
        for token in self.tokens.drain(..finished.commits) {
            self.overlay.pop();
            let result = finished.result.map(|()| Stored::Done);
            self.ready.push_back(Completed { token, result });
        }
    }

    fn get(&self, key: &[u8]) -> Result<Stored, StoreError> {
        if let Some(value) = self.overlay.get(key) {
            return Ok(Stored::Value(value.map(<[u8]>::to_vec)));
        }
        let value = self
            .snapshot
            .get(key)
            .map_err(|error| read_failed(&error))?;
        let value = value.map(|value| opened(key, value.value()));
        value.transpose().map(Stored::Value)
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Stored, StoreError> {
        if from >= to {
            return Ok(Stored::Entries(Vec::new()));
        }
        let over = self
            .overlay
            .range(from, to)
            .map(|(key, value)| Ok((key.to_vec(), value.map(<[u8]>::to_vec))));
        let under = self
            .snapshot
            .range::<&[u8]>(from..to)
            .map_err(|error| read_failed(&error))?
            .map(|entry| {
                let (key, value) = entry.map_err(|error| read_failed(&error))?;
                let value = opened(key.value(), value.value())?;
                Ok((key.value().to_vec(), Some(value)))
            });
        scan(Merge::new(over, under), limit)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // First nobody waits for answers, then no orders can come: the thread
        // carries out what it has and ends, and gives the file up.
        self.finished.close();
        self.orders = None;
        if let Some(committer) = self.committer.take() {
            let _ = committer.join();
        }
    }
}

/// redb panicked.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("its structure makes no sense")]
pub(super) struct Panicked;

/// Calls redb. It answers damage with errors, but not in all places: it checks
/// no page's sum while reading, and a page that makes no sense can make it
/// panic. That must not take the process down.
pub(super) fn guard<T>(call: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|_| Panicked)
}

/// The records as of the last transaction.
pub(super) fn snapshot_of(database: &Database) -> Result<Snapshot, redb::Error> {
    Ok(database.begin_read()?.open_table(RECORDS)?)
}

fn opened(key: &[u8], sealed: &[u8]) -> Result<Vec<u8>, StoreError> {
    match unseal(key, sealed) {
        Some(value) => Ok(value.to_vec()),
        None => Err(read_failed(&DamagedRecord(key.escape_ascii().to_string()))),
    }
}

/// A record that is not what was written.
#[derive(Debug, thiserror::Error)]
#[error("the record {0} is damaged; start this process again, which looks through all of them")]
struct DamagedRecord(String);

fn read_failed(error: &dyn std::error::Error) -> StoreError {
    tracing::error!(%error, "cannot read from storage");
    StoreError::Failed
}
