//! Whether something built is still what its sources say.

use std::fs;
use std::hash::{DefaultHasher, Hasher as _};
use std::path::{Path, PathBuf};

use crate::error::{Context as _, Result};

/// A hash of the names and contents of these files, and of `more`. It need not
/// be cryptographic: it guards against forgetting, not against malice.
pub(crate) fn hash(root: &Path, files: &[PathBuf], more: &[&str]) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    let mut add = |bytes: &[u8]| {
        hasher.write_usize(bytes.len());
        hasher.write(bytes);
    };
    for path in files {
        let content = fs::read(path).context(format!("reading {}", path.display()))?;
        add(path
            .strip_prefix(root)
            .unwrap_or(path)
            .as_os_str()
            .as_encoded_bytes());
        add(&content);
    }
    for text in more {
        add(text.as_bytes());
    }
    Ok(format!("{:016x}", hasher.finish()))
}

/// Whether `stamp` holds this text.
pub(crate) fn holds(stamp: &Path, text: &str) -> bool {
    fs::read_to_string(stamp).is_ok_and(|held| held == text)
}

/// Writes the stamp.
pub(crate) fn write(stamp: &Path, text: &str) -> Result {
    fs::write(stamp, text).context(format!("writing {}", stamp.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_names_and_extras_count_and_the_place_does_not() -> Result {
        let dir = std::env::temp_dir().join(format!("roundelay-stamp-{}", std::process::id()));
        let hash_of = |sub: &str, name: &str, content: &str, more: &str| -> Result<String> {
            let root = dir.join(sub);
            let path = root.join(name);
            fs::create_dir_all(&root).context("making a directory")?;
            fs::write(&path, content).context("writing a file")?;
            hash(&root, &[path], &[more])
        };
        let first = hash_of("one", "a", "text", "1.0")?;
        assert_eq!(first, hash_of("two", "a", "text", "1.0")?);
        assert_ne!(first, hash_of("one", "b", "text", "1.0")?);
        assert_ne!(first, hash_of("one", "a", "texts", "1.0")?);
        assert_ne!(first, hash_of("one", "a", "text", "1.1")?);
        fs::remove_dir_all(&dir).context("removing a directory")
    }
}
