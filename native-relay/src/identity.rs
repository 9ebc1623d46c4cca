//! The secret that makes a node itself: 32 bytes, in the file `identity` of
//! its data directory.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::store::DataDir;

/// The file in the data directory.
pub const FILE_NAME: &str = "identity";

/// The seed of a node's Ed25519 key.
pub type Seed = [u8; 32];

/// Why there is no identity. The words say what to do.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file cannot be read or made.
    #[error("cannot use the identity file {}: {source}; let this user read and write it, or choose another --data-dir", .file.display())]
    Unusable {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is not 32 bytes long.
    #[error(
        "the identity file {} does not hold exactly 32 bytes; restore it from a backup, or empty the data directory to join as a new node",
        .file.display()
    )]
    Damaged {
        /// The file.
        file: PathBuf,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes for a new identity: {0}")]
    NoEntropy(getrandom::Error),
}

/// A random seed that is written nowhere.
///
/// # Errors
/// When the system gives no random bytes.
pub fn random() -> Result<Seed, IdentityError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(IdentityError::NoEntropy)?;
    Ok(seed)
}

/// The seed in a data directory, if it has one.
///
/// # Errors
/// When the file cannot be read or is damaged.
pub fn load(dir: &Path) -> Result<Option<Seed>, IdentityError> {
    let file = dir.join(FILE_NAME);
    let mut bytes = Vec::with_capacity(33);
    let read = File::open(&file).and_then(|opened| opened.take(33).read_to_end(&mut bytes));
    match read {
        Ok(_) => match bytes.try_into() {
            Ok(seed) => Ok(Some(seed)),
            Err(_) => Err(IdentityError::Damaged { file }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(IdentityError::Unusable { file, source }),
    }
}

/// The seed in a data directory, made first when there is none. That the
/// directory is held keeps two processes from doing this at once.
///
/// A new file is readable by its owner alone, and is there wholly and durably
/// or not at all.
///
/// # Errors
/// When the file cannot be read or made, or is damaged.
pub fn load_or_create(dir: &DataDir) -> Result<Seed, IdentityError> {
    let dir = dir.path();
    if let Some(seed) = load(dir)? {
        return Ok(seed);
    }
    let seed = random()?;
    create(dir, &seed).map_err(|source| IdentityError::Unusable {
        file: dir.join(FILE_NAME),
        source,
    })?;
    Ok(seed)
}

/// Makes the entries of a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn create(dir: &Path, seed: &Seed) -> io::Result<()> {
    let unfinished = dir.join("identity.new");
    // One that a crash left behind may have another mode, and holds nothing.
    match std::fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)?;
    file.write_all(seed)?;
    file.sync_all()?;
    std::fs::rename(&unfinished, dir.join(FILE_NAME))?;
    sync_dir(dir)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn an_identity_is_made_once_and_kept_private() {
        let dir = tempfile::tempdir().unwrap();
        let held = DataDir::open(dir.path()).unwrap();
        assert_eq!(load(dir.path()).unwrap(), None);
        std::fs::write(dir.path().join("identity.new"), b"half").unwrap();
        let seed = load_or_create(&held).unwrap();
        assert_eq!(load_or_create(&held).unwrap(), seed);
        assert_eq!(load(dir.path()).unwrap(), Some(seed));
        let meta = std::fs::metadata(dir.path().join(FILE_NAME)).unwrap();
        assert_eq!(meta.permissions().mode() & 0o777, 0o600);
        assert_ne!(random().unwrap(), seed);
    }

    #[test]
    fn a_damaged_identity_is_refused_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let held = DataDir::open(dir.path()).unwrap();
        for bytes in [&[7; 31][..], &[7; 33][..], b""] {
            std::fs::write(dir.path().join(FILE_NAME), bytes).unwrap();
            let error = load_or_create(&held).unwrap_err();
            assert!(matches!(error, IdentityError::Damaged { .. }), "{error}");
            assert_eq!(std::fs::read(dir.path().join(FILE_NAME)).unwrap(), bytes);
        }
        std::fs::remove_dir_all(dir.path()).unwrap();
        let error = load_or_create(&held).unwrap_err();
        assert!(matches!(error, IdentityError::Unusable { .. }), "{error}");
    }
}
