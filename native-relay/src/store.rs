//! Storage for a node: core's ordered map of bytes, on disk or in memory.
//!
//! [`Storage::submit`] takes core's orders as they come. Reads are answered at
//! once, on the caller's thread, from the last finished transaction and the
//! commits that are still on their way to disk (`overlay`); so a read never
//! waits for a sync, and yet sees every commit before it. Commits go to one
//! thread (`committer`) that puts all those which wait while one sync runs
//! into the next transaction, and are answered once that is synced.

mod committer;
mod dir;
mod disk;
mod error;
mod mark;
mod medium;
mod open;
mod overlay;
mod seal;
mod spill;

use roundelay_core::NodeId;
use roundelay_core::store::{MemoryStore, StoreError, StoreOp, Stored};

pub use self::dir::DataDir;
use self::disk::Disk;
pub use self::error::OpenError;

/// The file in the data directory.
pub const FILE_NAME: &str = "roundelay.redb";

/// The version of what is kept in the file. Another one is refused.
pub const FORMAT_VERSION: u64 = 3;

/// Bytes of commits on their way to disk beyond which [`Storage::has_room`]
/// says no.
pub const COMMIT_BYTES_MAX: usize = 32 << 20;

/// A node's storage.
#[derive(Debug)]
pub struct Storage {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Memory { records: MemoryStore, epoch: u64 },
    Disk(Box<Disk>),
}

/// A commit's answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Completed {
    /// The token it was submitted with.
    pub token: u64,
    /// What storage says.
    pub result: Result<Stored, StoreError>,
}

/// Whether storage takes commits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Why it refuses them, if it does; it looks for room again every second.
    pub refusing: Option<StoreError>,
    /// How many it refused since it was opened.
    pub refused: u64,
}

impl Storage {
    /// Opens the storage of a node in its data directory, looks through all of
    /// it for damage, and counts the node's epoch up: see [`Storage::epoch`].
    ///
    /// # Errors
    /// When the file cannot be written, is damaged, of another format or
    /// another node's, or holds less than was acknowledged. Then it stays as it
    /// was.
    pub fn open(dir: DataDir, owner: &NodeId, unix_ms: u64) -> Result<Self, OpenError> {
        let disk = Disk::open(dir, owner, unix_ms)?;
        let kind = Kind::Disk(Box::new(disk));
        Ok(Self { kind })
    }

    /// Storage that forgets everything when it is dropped. Answers all orders
    /// at once.
    #[must_use]
    pub fn memory(unix_ms: u64) -> Self {
        let kind = Kind::Memory {
            records: MemoryStore::default(),
            epoch: unix_ms,
        };
        Self { kind }
    }

    /// The node's epoch: greater at every [`Storage::open`] of one directory,
    /// and not below the wall clock's milliseconds then. It is kept in the
    /// same file as the records, so that both are one directory's or neither.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        match &self.kind {
            Kind::Memory { epoch, .. } => *epoch,
            Kind::Disk(disk) => disk.epoch(),
        }
    }

    /// Whether it takes commits.
    #[must_use]
    pub fn health(&self) -> Health {
        match &self.kind {
            Kind::Memory { .. } => Health::default(),
            Kind::Disk(disk) => disk.health(),
        }
    }

    /// Carries out an order; all that were submitted before are visible to
    /// it. Answers at once, or says `None`: then the answer comes by
    /// [`Storage::completed`]. Only a commit to disk is answered so.
    pub fn submit(&mut self, token: u64, op: StoreOp) -> Option<Result<Stored, StoreError>> {
        match &mut self.kind {
            Kind::Memory { records, .. } => Some(Ok(records.submit(op))),
            Kind::Disk(disk) => disk.submit(token, op),
        }
    }

    /// The next answer to a commit, in the order of submission. Waits until
    /// there is one (for ever in memory); cancel-safe.
    pub async fn completed(&mut self) -> Completed {
        match &mut self.kind {
            Kind::Memory { .. } => std::future::pending().await,
            Kind::Disk(disk) => disk.completed().await,
        }
    }

    /// The next answer to a commit if there is one already. A whole group of
    /// commits completes at once: drain it before waiting again.
    pub fn try_completed(&mut self) -> Option<Completed> {
        match &mut self.kind {
            Kind::Memory { .. } => None,
            Kind::Disk(disk) => disk.try_completed(),
        }
    }

    /// Whether commits on their way to disk are below [`COMMIT_BYTES_MAX`].
    ///
    /// The overflow rule: `submit` refuses nothing, because core has decided
    /// by then. A driver takes no new commands and frames while there is no
    /// room, so that its peers and callers wait; what it has taken already is
    /// bounded by core.
    #[must_use]
    pub fn has_room(&self) -> bool {
        match &self.kind {
            Kind::Memory { .. } => true,
            Kind::Disk(disk) => disk.has_room(),
        }
    }
}

#[cfg(test)]
mod tests;
