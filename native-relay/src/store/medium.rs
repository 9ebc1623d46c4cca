//! The file system, as far as storage needs it.

use std::fmt::Debug;
use std::fs::{File as SystemFile, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use redb::backends::FileBackend;
use redb::{Database, StorageBackend};
use roundelay_core::NodeId;

use super::open::{explain, initialise};
use super::{DataDir, FILE_NAME, OpenError};
use crate::identity::sync_dir;

/// The file with the [`Mark`](super::mark::Mark).
pub(super) const MARK_NAME: &str = "roundelay.mark";

/// redb's page cache grows to this many bytes.
const CACHE_BYTES_MAX: usize = 16 << 20;

/// Where the file lies; tests make it fail.
pub(super) trait Medium: Debug + Send {
    /// The file.
    fn file(&self) -> io::Result<Box<dyn StorageBackend>>;

    /// Bytes that are free for the file to grow.
    fn free_bytes(&self) -> io::Result<u64>;

    /// The mark that was written last, if it is there.
    fn read_mark(&self) -> Vec<u8>;

    /// Writes a mark over the last one, without waiting until it is durable.
    fn write_mark(&mut self, mark: &[u8]);

    /// How many bytes of the file redb may keep in memory.
    fn cache_bytes(&self) -> usize {
        CACHE_BYTES_MAX
    }
}

/// The real file.
#[derive(Debug)]
pub(super) struct File {
    dir: DataDir,
    /// Once it was written.
    mark: Option<SystemFile>,
}

impl File {
    /// The file of a directory, which is made for this node if it is missing.
    pub(super) fn in_dir(dir: DataDir, owner: &NodeId) -> Result<Self, OpenError> {
        let file = Self { dir, mark: None };
        let dir = file.dir.path();
        let made = match file.path(FILE_NAME).try_exists() {
            Ok(true) => Ok(()),
            Ok(false) => file.create(owner),
            Err(error) => Err(error.into()),
        };
        made.map_err(|error| explain(error, dir))?;
        Ok(file)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes the file elsewhere and puts it in its place whole: redb cannot
    /// open one whose making was cut short.
    fn create(&self, owner: &NodeId) -> Result<(), redb::Error> {
        let (path, unfinished) = (self.path(FILE_NAME), self.path("roundelay.redb.new"));
        match std::fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let number = getrandom::u64().map_err(io::Error::other)?;
        initialise(Database::create(&unfinished)?, owner, number)?;
        std::fs::rename(&unfinished, path)?;
        Ok(sync_dir(self.dir.path())?)
    }

    fn try_write_mark(&mut self, mark: &[u8]) -> io::Result<()> {
        if self.mark.is_none() {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(false);
            self.mark = Some(options.open(self.path(MARK_NAME))?);
        }
        let file = self.mark.as_ref();
        file.map_or(Ok(()), |file| file.write_all_at(mark, 0))
    }
}

impl Medium for File {
    fn file(&self) -> io::Result<Box<dyn StorageBackend>> {
        let path = self.path(FILE_NAME);
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let file = FileBackend::new(file).map_err(io::Error::other)?;
        Ok(Box::new(file))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(self.dir.path())?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn read_mark(&self) -> Vec<u8> {
        std::fs::read(self.path(MARK_NAME)).unwrap_or_default()
    }

    fn write_mark(&mut self, mark: &[u8]) {
        // An older mark does no harm.
        if let Err(error) = self.try_write_mark(mark) {
            tracing::debug!(%error, "cannot write the mark");
        }
    }
}
