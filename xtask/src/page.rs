//! Building the page: `www/` and the crates that it compiles to wasm.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Context as _, Error, Result};
use crate::files;
use crate::sh;
use crate::stamp;
use crate::toolchain::{Toolchain, WASM};
use crate::tools::{self, Tool};

/// Crates that never reach the page.
const NATIVE_ONLY: [&str; 2] = ["native-relay", "xtask"];

/// Directories inside crates that never reach the page.
const NOT_BUILT: [&str; 3] = ["benches", "fuzz", "tests"];

/// Where the built page is.
pub(crate) fn dist() -> PathBuf {
    sh::root().join("www/dist")
}

/// Builds the page, unless it is already what its sources say.
pub(crate) fn build() -> Result {
    if !sh::root().join("www/index.html").is_file() {
        return Err(Error::new(
            "there is no www/index.html to build a page from",
        ));
    }
    let trunk = Tool::trunk();
    let bindgen = Tool::wasm_bindgen()?;
    let toolchain = Toolchain::find(&WASM)?;
    tools::install(&[&bindgen, &trunk])?;

    let with = [trunk.describe(), bindgen.describe(), toolchain.describe()?];
    let with: Vec<&str> = with.iter().map(String::as_str).collect();
    let sources = stamp::hash(&sh::root(), &sources()?, &with)?;
    let stamp_path = sh::target_dir().join("page.stamp");
    if let Ok(built) = stamp_text(&sources)
        && stamp::holds(&stamp_path, &built)
    {
        sh::say("the page is up to date");
        return Ok(());
    }

    sh::say("building the page");
    // trunk runs cargo offline, so that it downloads no tools either.
    let mut fetch = sh::cargo(["fetch", "--target", WASM.triple]);
    toolchain.apply(&mut fetch);
    sh::run(&mut fetch)?;
    let mut build = sh::program(trunk.program()?);
    toolchain.apply(&mut build);
    build.env("PATH", sh::path_with(&[bindgen.bin_dir()?])?);
    build
        .args(["build", "--release", "--offline"])
        .current_dir(sh::root().join("www"));
    sh::run(&mut build)?;
    stamp::write(&stamp_path, &stamp_text(&sources)?)
}

/// The hash of the sources, and that of what was built from them: another tool
/// may have written a page of its own there.
fn stamp_text(sources: &str) -> Result<String> {
    let built = files::walk(&dist(), &[])?;
    Ok(format!(
        "{sources} {}\n",
        stamp::hash(&dist(), &built, &[])?
    ))
}

/// Everything that the page is built from.
fn sources() -> Result<Vec<PathBuf>> {
    let root = sh::root();
    let shared = ["Cargo.toml", "Cargo.lock", ".cargo/config.toml"];
    let mut found: Vec<PathBuf> = shared.iter().map(|name| root.join(name)).collect();
    for entry in fs::read_dir(&root).context("reading the workspace")? {
        let path = entry.context("reading the workspace")?.path();
        if path.is_dir() && reaches_page(&path) {
            found.extend(files::walk(&path, &NOT_BUILT)?);
        }
    }
    found.sort();
    Ok(found)
}

fn reaches_page(dir: &Path) -> bool {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let is_crate = dir.join("Cargo.toml").is_file();
    name == "www" || is_crate && !NATIVE_ONLY.contains(&name.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_comes_from_core_and_the_web_peer_alone() -> Result {
        let sources = sources()?;
        let is_source = |path: &str| sources.contains(&sh::root().join(path));
        assert!(is_source("Cargo.lock"));
        assert!(is_source("core/src/lib.rs"));
        assert!(is_source("web-peer/Cargo.toml"));
        assert!(!is_source("xtask/src/main.rs"));
        assert!(!is_source("native-relay/src/main.rs"));
        Ok(())
    }
}
