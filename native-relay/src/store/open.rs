//! Opening a data directory.

use std::io;
use std::path::Path;
use std::sync::Arc;

use redb::{Database, ReadableTable, TableDefinition};

use super::committer::{Committer, is_full};
use super::disk::{Panicked, RECORDS, Snapshot, guard, snapshot_of};
use super::medium::Medium;
use super::spill::Spill;
use super::{FILE_NAME, FORMAT_VERSION, OpenError};

/// What this module keeps for itself: `format` and `epoch`.
const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");

/// A file that is open, and its records as they were found.
pub(super) struct Opened {
    pub(super) committer: Committer,
    pub(super) epoch: u64,
    pub(super) snapshot: Arc<Snapshot>,
}

impl Opened {
    /// Opens the file, and counts its epoch up. Nothing is written to it
    /// before it is known to be right.
    pub(super) fn open(
        medium: Box<dyn Medium>,
        dir: &Path,
        unix_ms: u64,
    ) -> Result<Self, OpenError> {
        let file = medium.file().map_err(|error| explain(error, dir))?;
        let spill = Spill::holding(file);
        let opened = guard(|| {
            let mut builder = Database::builder();
            builder.set_cache_size(medium.cache_bytes());
            let database = builder.create_with_backend(spill.clone());
            let database = database.map_err(|error| explain(error, dir))?;
            let epoch = start(&database, dir, unix_ms)?;
            let snapshot = snapshot_of(&database).map_err(|error| explain(error, dir))?;
            Ok((database, epoch, Arc::new(snapshot)))
        });
        let (database, epoch, snapshot) = opened.unwrap_or_else(|Panicked| {
            Err(OpenError::Damaged {
                file: dir.join(FILE_NAME),
                detail: Panicked.to_string(),
            })
        })?;
        match spill.pour() {
            Err(error) if !is_full(&error) => return Err(explain(error, dir)),
            // The records are there to be read: writes wait for room.
            _ => {}
        }
        Ok(Self {
            committer: Committer::new(medium, spill, database, Arc::clone(&snapshot)),
            epoch,
            snapshot,
        })
    }
}

/// Makes a new database one of ours.
pub(super) fn initialise(database: Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction
        .open_table(META)?
        .insert("format", FORMAT_VERSION)?;
    transaction.open_table(RECORDS)?;
    transaction.commit()?;
    Ok(database.close()?)
}

/// Checks the format, and counts the epoch up.
fn start(database: &Database, dir: &Path, unix_ms: u64) -> Result<u64, OpenError> {
    let started = || -> Result<Result<u64, Option<u64>>, redb::Error> {
        let transaction = database.begin_write()?;
        let epoch = {
            let mut meta = transaction.open_table(META)?;
            let found = meta.get("format")?.map(|format| format.value());
            if found != Some(FORMAT_VERSION) {
                return Ok(Err(found));
            }
            let last = meta.get("epoch")?.map_or(0, |epoch| epoch.value());
            let epoch = unix_ms.max(last.saturating_add(1));
            meta.insert("epoch", epoch)?;
            epoch
        };
        transaction.commit()?;
        Ok(Ok(epoch))
    };
    let file = || dir.join(FILE_NAME);
    started()
        .map_err(|error| explain(error, dir))?
        .map_err(|found| match found {
            Some(found) => OpenError::Format {
                file: file(),
                found,
            },
            None => OpenError::Damaged {
                file: file(),
                detail: "it names no format".to_owned(),
            },
        })
}

pub(super) fn explain(error: impl Into<redb::Error>, dir: &Path) -> OpenError {
    let (dir, file) = (dir.to_owned(), dir.join(FILE_NAME));
    match error.into() {
        redb::Error::DatabaseAlreadyOpen => OpenError::InUse { dir },
        redb::Error::UpgradeRequired(found) => OpenError::Format {
            file,
            found: found.into(),
        },
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
