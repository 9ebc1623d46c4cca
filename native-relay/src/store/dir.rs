//! A data directory, held by this process alone.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::OpenError;

/// A data directory that no other process uses while this is there.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: Option<File>,
}

impl DataDir {
    /// Makes the directory if it is missing, and locks it.
    ///
    /// # Errors
    /// When it cannot be made, or another process holds it.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let dir = || path.to_owned();
        std::fs::create_dir_all(path).map_err(|source| match source.kind() {
            ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
                OpenError::NoDirectory { dir: dir() }
            }
            _ => OpenError::Unusable { dir: dir(), source },
        })?;
        let opened = File::open(path);
        let opened = opened.map_err(|source| OpenError::Unusable { dir: dir(), source })?;
        let lock = match opened.try_lock() {
            Ok(()) => Some(opened),
            // Some file systems lock no directories: redb's own lock is left.
            Err(TryLockError::Error(_)) => None,
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse { dir: dir() }),
        };
        Ok(Self {
            path: dir(),
            _lock: lock,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}
