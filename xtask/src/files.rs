//! Walking the source tree.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Context as _, Result};

/// All files below `dir`, sorted by path. Hidden entries and what is built or
/// downloaded are left out, as is every directory named in `skip`.
pub(crate) fn walk(dir: &Path, skip: &[&str]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        let entries = fs::read_dir(&dir).context(format!("reading {}", dir.display()))?;
        for entry in entries {
            let path = entry.context(format!("reading {}", dir.display()))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with('.') {
                continue;
            }
            if !path.is_dir() {
                found.push(path);
            } else if !is_built(&name) && !skip.contains(&name.as_ref()) {
                open.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn is_built(dir: &str) -> bool {
    dir == "dist" || dir == "node_modules" || dir == "target" || dir.starts_with("target-")
}
