//! `cargo xtask verify`: checks that change nothing.

use crate::error::{Error, Result};
use crate::sh;
use crate::steps::Steps;
use crate::tidy;
use crate::toolchain::{BARE, Toolchain, WASM};

/// Runs all checks, whatever becomes of each.
pub(crate) fn run() -> Result {
    let mut steps = Steps::default();
    steps.run("tidy", "short files and functions", tidy::check);
    steps.run("fmt", "rustfmt has nothing to change", || {
        sh::run(&mut sh::cargo(["fmt", "--all", "--check"]))
            .map_err(|error| Error::new(format!("{error}\nRun: cargo fmt --all")))
    });
    steps.run("clippy", "no warnings anywhere", || {
        let args = [
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ];
        sh::run(&mut sh::cargo(args))
    });
    steps.run("doc", "documentation without warnings", || {
        let mut doc = sh::cargo(["doc", "--no-deps", "--workspace"]);
        sh::run(doc.env("RUSTDOCFLAGS", "-Dwarnings"))
    });
    steps.run("bare", "core needs no operating system", || {
        Toolchain::find(&BARE)?.check("roundelay-core")
    });
    steps.run("wasm", "the page's crate compiles", || {
        Toolchain::find(&WASM)?.check("roundelay-web")
    });
    steps.summarise();
    match steps.counts() {
        (_, 0) => Ok(()),
        (_, failed) => Err(Error::new(format!("{failed} of the checks failed"))),
    }
}
