//! A Rust toolchain for each target that is not this machine.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::apt;
use crate::error::{Error, Result};
use crate::sh;

/// What rustup calls Debian's toolchain once it is linked.
const LINKED: &str = "roundelay-debian";

/// Debian's newer compiler, with std's sources and what they depend on, and
/// the linker that its dangling `rust-lld` points to.
const DEBIAN: [&str; 5] = [
    "rustc-web",
    "cargo-web",
    "rust-web-src",
    "rust-web-llvm",
    "lld-22",
];

/// Enough for a slow download; without a network rustup fails at once.
const DOWNLOAD: Duration = Duration::from_secs(180);

/// A target without a rustup host toolchain.
pub(crate) struct Target {
    /// Its triple.
    pub(crate) triple: &'static str,
    /// The crates of the standard library to build when none is ready-made.
    std: &'static str,
    /// Its own directory below `target/`, so that neither it nor a change of
    /// toolchain makes native builds stale.
    dir: &'static str,
}

/// Web pages.
pub(crate) const WASM: Target = Target {
    triple: "wasm32-unknown-unknown",
    std: "std,panic_abort",
    dir: "wasm",
};

/// Bare metal: no operating system, so no std.
pub(crate) const BARE: Target = Target {
    triple: "thumbv7em-none-eabihf",
    std: "core,alloc",
    dir: "bare",
};

/// How to compile for a target.
pub(crate) struct Toolchain {
    target: &'static Target,
    source: Source,
}

enum Source {
    /// The toolchain in use has the target's standard library.
    InUse,
    /// Debian's, which builds the standard library as part of the workspace.
    Debian,
}

impl Toolchain {
    /// Finds a toolchain for the target, or gets one.
    pub(crate) fn find(target: &'static Target) -> Result<Self> {
        if has_std(target) {
            return Ok(Self {
                target,
                source: Source::InUse,
            });
        }
        if debian_is_linked() {
            link_debian()?;
            return Ok(Self {
                target,
                source: Source::Debian,
            });
        }
        if sh::which("rustup").is_none() {
            return Err(Error::new(format!(
                "the Rust in use has no standard library for {}, and there is no rustup to add it: \
                 install Rust by rustup, or this target by the system's own means",
                target.triple
            )));
        }
        sh::say(format!(
            "getting Rust's standard library for {}",
            target.triple
        ));
        let add = ["target", "add", target.triple];
        match sh::run_within(sh::program("rustup").args(add), DOWNLOAD) {
            Ok(()) if has_std(target) => Ok(Self {
                target,
                source: Source::InUse,
            }),
            tried => {
                if let Err(error) = tried {
                    sh::say(format!(
                        "rustup can not ({error}); using Debian's toolchain instead"
                    ));
                }
                link_debian()?;
                Ok(Self {
                    target,
                    source: Source::Debian,
                })
            }
        }
    }

    /// What it is, in a few words that change when its output may.
    pub(crate) fn describe(&self) -> Result<String> {
        let mut rustc = sh::program("rustc");
        self.apply(&mut rustc);
        sh::output(rustc.arg("--version"))
    }

    /// Makes a cargo, or a program that runs cargo, compile with it.
    pub(crate) fn apply(&self, command: &mut Command) {
        command.env("CARGO_TARGET_DIR", sh::target_dir().join(self.target.dir));
        if let Source::Debian = self.source {
            command
                .env("RUSTUP_TOOLCHAIN", LINKED)
                .env("RUSTC_BOOTSTRAP", "1")
                .env("CARGO_UNSTABLE_BUILD_STD", self.target.std);
        }
    }

    /// `cargo check` of one package's library for the target.
    pub(crate) fn check(&self, package: &str) -> Result {
        let args = [
            "check",
            "--package",
            package,
            "--lib",
            "--target",
            self.target.triple,
        ];
        let mut cargo = sh::cargo(args);
        self.apply(&mut cargo);
        sh::run(&mut cargo)
    }
}

fn has_std(target: &Target) -> bool {
    let print = ["--print", "target-libdir", "--target", target.triple];
    sh::output(sh::program("rustc").args(print)).is_ok_and(|dir| Path::new(&dir).is_dir())
}

fn debian_is_linked() -> bool {
    sh::output(
        sh::program("cargo")
            .env("RUSTUP_TOOLCHAIN", LINKED)
            .arg("--version"),
    )
    .is_ok()
}

/// Debian's toolchain under rustup; does nothing where that is so already.
fn link_debian() -> Result {
    apt::install(&DEBIAN, "compiling for a target that rustup can not add")?;
    if debian_is_linked() {
        return Ok(());
    }
    sh::say(format!("linking Debian's toolchain as {LINKED}"));
    sh::run(sh::program("rustup").args(["toolchain", "link", LINKED, "/usr"]))
}
