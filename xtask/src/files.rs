//! Walking the source tree.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Context as _, Result};

/// All files below `dir`, sorted by path. Hidden entries, links and what is
/// built or downloaded are left out, as is every directory named in `skip`.
pub(crate) fn walk(dir: &Path, skip: &[&str]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        let entries = fs::read_dir(&dir).context(format!("reading {}", dir.display()))?;
        for entry in entries {
            let entry = entry.context(format!("reading {}", dir.display()))?;
            let kind = entry
                .file_type()
                .context(format!("reading {}", dir.display()))?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with('.') {
                continue;
            }
            if kind.is_file() {
                found.push(entry.path());
            } else if kind.is_dir() && !is_built(&name) && !skip.contains(&name.as_ref()) {
                open.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

fn is_built(dir: &str) -> bool {
    dir == "dist" || dir == "node_modules" || dir == "target" || dir.starts_with("target-")
}
