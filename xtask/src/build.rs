//! `cargo xtask build`: the page, then the binary that carries it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::error::{Context as _, Result};
use crate::files;
use crate::page;
use crate::sh;

/// Builds all, and says what came out.
pub(crate) fn run() -> Result {
    page::build()?;
    let binary = binary()?;
    sh::say("built");
    for path in files::walk(&page::dist(), &[])? {
        println!(
            "  {:>8}  {:>8} gzip  {}",
            kib(size(&path)?),
            kib(gzipped(&path)?),
            shown(&path)
        );
    }
    println!(
        "  {:>8}  {:>13}  {}",
        kib(size(&binary)?),
        "",
        shown(&binary)
    );
    Ok(())
}

/// Builds the release binary around whatever page there is.
pub(crate) fn binary() -> Result<PathBuf> {
    sh::say("building the binary");
    sh::run(&mut sh::cargo([
        "build",
        "--release",
        "--package",
        "roundelay",
    ]))?;
    Ok(sh::target_dir().join("release/roundelay"))
}

fn size(path: &Path) -> Result<u64> {
    let meta = fs::metadata(path).context(format!("reading {}", path.display()))?;
    Ok(meta.len())
}

fn gzipped(path: &Path) -> Result<u64> {
    let file = fs::File::open(path).context(format!("reading {}", path.display()))?;
    let mut gzip = sh::program("gzip");
    let output = gzip.args(["-9", "-c"]).stdin(Stdio::from(file)).output();
    Ok(output.context("running gzip")?.stdout.len() as u64)
}

fn kib(bytes: u64) -> String {
    format!("{:.1} KB", bytes as f64 / 1000.0)
}

fn shown(path: &Path) -> std::path::Display<'_> {
    path.strip_prefix(sh::root()).unwrap_or(path).display()
}
