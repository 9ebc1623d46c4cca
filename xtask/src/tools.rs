//! Programs built from source once per user and version, and kept in a cache
//! that all clones share.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::error::{Context as _, Error, Result};
use crate::sh;

/// A program from the crate registry.
pub(crate) struct Tool {
    /// The crate.
    package: &'static str,
    /// The program in it that is wanted, and the name of its place in the cache.
    name: &'static str,
    version: String,
}

impl Tool {
    /// The bundler of the page. 0.22 wants a newer Rust than the workspace does.
    pub(crate) fn trunk() -> Self {
        Self {
            package: "trunk",
            name: "trunk",
            version: "0.21.14".into(),
        }
    }

    /// What makes JavaScript bindings. It must be of exactly the version of the
    /// `wasm-bindgen` crate in use.
    pub(crate) fn wasm_bindgen() -> Result<Self> {
        let path = sh::root().join("Cargo.lock");
        let lock = fs::read_to_string(&path).context(format!("reading {}", path.display()))?;
        let version = locked_version(&lock, "wasm-bindgen").ok_or_else(|| {
            Error::new("Cargo.lock names no wasm-bindgen; is the page's crate gone?")
        })?;
        Ok(Self {
            package: "wasm-bindgen-cli",
            name: "wasm-bindgen",
            version: version.into(),
        })
    }

    /// What drives Firefox.
    pub(crate) fn geckodriver() -> Self {
        Self {
            package: "geckodriver",
            name: "geckodriver",
            version: "0.37.1".into(),
        }
    }

    /// Name and version.
    pub(crate) fn describe(&self) -> String {
        format!("{} {}", self.name, self.version)
    }

    /// Where its programs are, once it is installed.
    pub(crate) fn bin_dir(&self) -> Result<PathBuf> {
        Ok(self.home()?.join("bin"))
    }

    /// The program itself, once it is installed.
    pub(crate) fn program(&self) -> Result<PathBuf> {
        Ok(self.bin_dir()?.join(self.name))
    }

    fn home(&self) -> Result<PathBuf> {
        Ok(cache_dir()?
            .join("tools")
            .join(format!("{}-{}", self.name, self.version)))
    }

    fn is_installed(&self) -> Result<bool> {
        Ok(self.program()?.is_file())
    }
}

/// Installs those of the tools that are not in the cache.
pub(crate) fn install(tools: &[&Tool]) -> Result {
    let missing = |tool: &&Tool| tool.is_installed().map(|there| !there).unwrap_or(true);
    if !tools.iter().any(missing) {
        return Ok(());
    }
    let cache = cache_dir()?;
    fs::create_dir_all(cache.join("tools")).context(format!("making {}", cache.display()))?;
    let _lock = lock(&cache.join("lock"))?;
    // Looked at again: who held the lock may have installed them.
    for tool in tools.iter().filter(|tool| missing(tool)) {
        build(tool, &cache)?;
    }
    remove_dir(&cache.join("build"))
}

/// Builds a tool in a directory that the next one goes on with, and moves it
/// to its place in one step.
fn build(tool: &Tool, cache: &Path) -> Result {
    sh::say(format!(
        "building {} (once; kept in {})",
        tool.describe(),
        cache.display()
    ));
    let started = Instant::now();
    let unfinished = cache.join("unfinished");
    remove_dir(&unfinished)?;
    if let Err(error) = cargo_install(tool, cache, &unfinished, true) {
        sh::say(format!("{error}; trying without its own lock file"));
        cargo_install(tool, cache, &unfinished, false)?;
    }
    let home = tool.home()?;
    remove_dir(&home)?;
    fs::rename(&unfinished, &home).context(format!("moving {} into place", tool.name))?;
    sh::say(format!(
        "built {} in {:.0?}",
        tool.describe(),
        started.elapsed()
    ));
    Ok(())
}

/// These tools wait for files and processes: a debug build serves as well, and
/// is made in a fraction of the time.
fn cargo_install(tool: &Tool, cache: &Path, root: &Path, locked: bool) -> Result {
    let mut cargo = sh::cargo(["install", "--debug", "--version", &tool.version]);
    if locked {
        cargo.arg("--locked");
    }
    // In the cache, no project's own cargo configuration applies.
    cargo
        .arg("--root")
        .arg(root)
        .arg(tool.package)
        .current_dir(cache);
    cargo.env("CARGO_TARGET_DIR", cache.join("build"));
    cargo
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .env("CARGO_INCREMENTAL", "0");
    cargo.env("PATH", sh::path_with(&[root.join("bin")])?);
    sh::run(&mut cargo)
}

fn lock(path: &Path) -> Result<File> {
    let file = File::create(path).context(format!("making {}", path.display()))?;
    if file.try_lock().is_err() {
        sh::say("waiting for another `cargo xtask` that installs tools");
        file.lock().context(format!("locking {}", path.display()))?;
    }
    Ok(file)
}

fn remove_dir(dir: &Path) -> Result {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context(format!("removing {}", dir.display()))
        }
        _ => Ok(()),
    }
}

fn cache_dir() -> Result<PathBuf> {
    let absolute = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|dir| dir.is_absolute())
    };
    let base = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    let base =
        base.ok_or_else(|| Error::new("no place for a cache: set HOME or XDG_CACHE_HOME"))?;
    Ok(base.join("roundelay"))
}

/// The version of a package in the text of a `Cargo.lock`.
fn locked_version<'a>(lock: &'a str, package: &str) -> Option<&'a str> {
    let name = format!("name = \"{package}\"");
    let mut lines = lock.lines().skip_while(|line| *line != name);
    lines
        .nth(1)?
        .strip_prefix("version = \"")?
        .strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_locked_version_is_that_of_the_very_package() {
        let lock = "[[package]]\nname = \"wasm-bindgen-shared\"\nversion = \"9.9.9\"\n\n\
                    [[package]]\nname = \"wasm-bindgen\"\nversion = \"0.2.130\"\nsource = \"x\"\n";
        assert_eq!(locked_version(lock, "wasm-bindgen"), Some("0.2.130"));
        assert_eq!(locked_version(lock, "trunk"), None);
    }

    #[test]
    fn the_workspace_locks_a_wasm_bindgen() {
        assert!(Tool::wasm_bindgen().is_ok());
    }
}
