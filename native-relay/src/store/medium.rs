//! The file system, as far as storage needs it.

use std::fmt::Debug;
use std::fs::{OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{Database, StorageBackend};

use super::open::{explain, initialise};
use super::{FILE_NAME, OpenError};
use crate::identity::sync_dir;

/// redb's page cache grows to this many bytes.
const CACHE_BYTES_MAX: usize = 16 << 20;

/// Where the file lies; tests make it fail.
pub(super) trait Medium: Debug + Send {
    /// The file.
    fn file(&self) -> io::Result<Box<dyn StorageBackend>>;

    /// Bytes that are free for the file to grow.
    fn free_bytes(&self) -> io::Result<u64>;

    /// How many bytes of the file redb may keep in memory.
    fn cache_bytes(&self) -> usize {
        CACHE_BYTES_MAX
    }
}

/// The real file.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    /// Keeps other processes out of the directory.
    _lock: Option<std::fs::File>,
}

impl File {
    /// The file of a directory; both are made where they are missing.
    pub(super) fn in_dir(dir: &Path) -> Result<Self, OpenError> {
        let unusable = |source| OpenError::Unusable {
            dir: dir.to_owned(),
            source,
        };
        std::fs::create_dir_all(dir).map_err(unusable)?;
        let file = Self {
            path: dir.join(FILE_NAME),
            _lock: lock(dir)?,
        };
        if !file.path.try_exists().map_err(unusable)? {
            file.create().map_err(|error| explain(error, dir))?;
            sync_dir(dir).map_err(unusable)?;
        }
        Ok(file)
    }

    /// Makes the file elsewhere and puts it in its place whole: redb cannot
    /// open one whose making was cut short.
    fn create(&self) -> Result<(), redb::Error> {
        let unfinished = self.path.with_extension("redb.new");
        match std::fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        initialise(Database::create(&unfinished)?)?;
        std::fs::rename(&unfinished, &self.path)?;
        Ok(())
    }
}

impl Medium for File {
    fn file(&self) -> io::Result<Box<dyn StorageBackend>> {
        let file = OpenOptions::new().read(true).write(true).open(&self.path)?;
        let file = FileBackend::new(file).map_err(io::Error::other)?;
        Ok(Box::new(file))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// Locks a directory. Some file systems cannot: there redb's own lock is left.
fn lock(dir: &Path) -> Result<Option<std::fs::File>, OpenError> {
    let Ok(opened) = std::fs::File::open(dir) else {
        return Ok(None);
    };
    match opened.try_lock() {
        Ok(()) => Ok(Some(opened)),
        Err(TryLockError::Error(_)) => Ok(None),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse {
            dir: dir.to_owned(),
        }),
    }
}
