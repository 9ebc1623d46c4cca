//! Opening a data directory.

use std::io;
use std::path::Path;
use std::sync::Arc;

use redb::{Database, ReadableTable, Table, TableDefinition};
use roundelay_core::NodeId;

use super::committer::{Committer, is_full};
use super::disk::{Panicked, RECORDS, Snapshot, guard, snapshot_of};
use super::mark::Mark;
use super::medium::{MARK_NAME, Medium};
use super::spill::Spill;
use super::{FILE_NAME, FORMAT_VERSION, OpenError};

/// What storage keeps for itself: `format`, `epoch`, the `file`'s number and
/// how many groups of `commits` it took.
pub(super) const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");

/// The key in [`META`] for the number of the last group.
pub(super) const COMMITS: &str = "commits";

/// Whose file it is: an id, under the empty key.
const OWNER: TableDefinition<'static, (), [u8; 32]> = TableDefinition::new("owner");

/// A file that is open, and its records as they were found.
pub(super) struct Opened {
    pub(super) committer: Committer,
    pub(super) epoch: u64,
    pub(super) snapshot: Arc<Snapshot>,
}

/// What a file says of itself.
struct Start {
    epoch: u64,
    mark: Mark,
}

impl Opened {
    /// Opens the file, and counts its epoch up. Nothing is written to it
    /// before it is known to be right.
    pub(super) fn open(
        medium: Box<dyn Medium>,
        dir: &Path,
        owner: &NodeId,
        unix_ms: u64,
    ) -> Result<Self, OpenError> {
        let file = medium.file().map_err(|error| explain(error, dir))?;
        let spill = Spill::holding(file);
        let opened = guard(|| {
            let mut builder = Database::builder();
            builder.set_cache_size(medium.cache_bytes());
            // Else redb trusts a file that was closed well.
            builder.set_check_integrity_on_open(true);
            let database = builder.create_with_backend(spill.clone());
            let database = database.map_err(|error| explain(error, dir))?;
            let start = start(&database, dir, owner, unix_ms)?;
            let snapshot = snapshot_of(&database).map_err(|error| explain(error, dir))?;
            Ok((database, start, Arc::new(snapshot)))
        });
        let (database, start, snapshot) = opened.unwrap_or_else(|Panicked| {
            Err(OpenError::Damaged {
                file: dir.join(FILE_NAME),
                detail: Panicked.to_string(),
            })
        })?;
        let marked = Mark::decode(&medium.read_mark());
        if marked.is_some_and(|marked| marked.is_ahead_of(start.mark)) {
            return Err(OpenError::Lost {
                file: dir.join(FILE_NAME),
                mark: dir.join(MARK_NAME),
            });
        }
        match spill.pour() {
            Err(error) if !is_full(&error) => return Err(explain(error, dir)),
            // The records are there to be read: writes wait for room.
            _ => {}
        }
        let last = Arc::clone(&snapshot);
        Ok(Self {
            committer: Committer::new(medium, spill, database, last, start.mark),
            epoch: start.epoch,
            snapshot,
        })
    }
}

/// Makes a new database one of ours.
pub(super) fn initialise(
    database: Database,
    owner: &NodeId,
    number: u64,
) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        meta.insert("format", FORMAT_VERSION)?;
        meta.insert("file", number)?;
        meta.insert(COMMITS, 0)?;
        let mut owners = transaction.open_table(OWNER)?;
        owners.insert((), owner.as_bytes())?;
        transaction.open_table(RECORDS)?;
    }
    transaction.commit()?;
    Ok(database.close()?)
}

/// Why a file is not the one that was looked for.
enum Wrong {
    Format(u64),
    Owner([u8; 32]),
    Lacks(&'static str),
    Failed(redb::Error),
}

impl<E: Into<redb::Error>> From<E> for Wrong {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Checks format and owner, and counts the epoch up.
fn start(
    database: &Database,
    dir: &Path,
    owner: &NodeId,
    unix_ms: u64,
) -> Result<Start, OpenError> {
    let file = dir.join(FILE_NAME);
    try_start(database, owner, unix_ms).map_err(|wrong| match wrong {
        Wrong::Format(found) => OpenError::Format { file, found },
        Wrong::Owner(owner) => OpenError::Foreign {
            file,
            owner: NodeId::from_bytes(owner),
        },
        Wrong::Lacks(what) => OpenError::Damaged {
            file,
            detail: format!("it names no {what}"),
        },
        Wrong::Failed(error) => explain(error, dir),
    })
}

fn try_start(database: &Database, owner: &NodeId, unix_ms: u64) -> Result<Start, Wrong> {
    let transaction = database.begin_write()?;
    let start = {
        let mut meta = transaction.open_table(META)?;
        let format = named(&meta, "format")?;
        if format != FORMAT_VERSION {
            return Err(Wrong::Format(format));
        }
        let owners = transaction.open_table(OWNER)?;
        let found = owners.get(())?.map(|id| id.value());
        match found {
            Some(found) if found != *owner.as_bytes() => return Err(Wrong::Owner(found)),
            Some(_) => {}
            None => return Err(Wrong::Lacks("owner")),
        }
        let mark = Mark {
            file: named(&meta, "file")?,
            commits: named(&meta, COMMITS)?,
        };
        let last = meta.get("epoch")?.map_or(0, |epoch| epoch.value());
        let epoch = unix_ms.max(last.saturating_add(1));
        meta.insert("epoch", epoch)?;
        Start { epoch, mark }
    };
    transaction.commit()?;
    Ok(start)
}

fn named(meta: &Table<'_, &'static str, u64>, name: &'static str) -> Result<u64, Wrong> {
    let found = meta.get(name)?.map(|found| found.value());
    found.ok_or(Wrong::Lacks(name))
}

pub(super) fn explain(error: impl Into<redb::Error>, dir: &Path) -> OpenError {
    let (dir, file) = (dir.to_owned(), dir.join(FILE_NAME));
    match error.into() {
        redb::Error::DatabaseAlreadyOpen => OpenError::InUse { dir },
        redb::Error::Io(source)
            if !matches!(
                source.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
            ) =>
        {
            OpenError::Unusable { dir, source }
        }
        other => OpenError::Damaged {
            file,
            detail: other.to_string(),
        },
    }
}
