//! `cargo xtask test`: all suites, one after another.

use crate::args;
use crate::browsers;
use crate::build;
use crate::error::{Error, Result};
use crate::namespaces;
use crate::page;
use crate::sh;
use crate::steps::Steps;
use crate::verify;

/// One row of the table below.
struct Suite {
    name: &'static str,
    about: &'static str,
    work: Work,
    /// Environment of its cargo commands; a `CARGO_TARGET_DIR` is relative to
    /// the workspace.
    env: &'static [(&'static str, &'static str)],
    /// Needs the page and the release binary, and is told where it is.
    binary: bool,
    /// Needs browsers, and is told where their drivers are.
    browsers: bool,
    /// Needs to make network namespaces; skipped where that is not allowed.
    namespaces: bool,
}

enum Work {
    Verify,
    /// Cargo commands.
    Cargo(&'static [&'static [&'static str]]),
}

const SUITES: &[Suite] = &[
    Suite {
        name: "verify",
        about: "checks that change nothing",
        work: Work::Verify,
        env: &[],
        binary: false,
        browsers: false,
        namespaces: false,
    },
    Suite {
        name: "unit",
        about: "tests beside the code, and examples in the documentation",
        work: Work::Cargo(&[
            &["test", "--workspace", "--lib", "--bins"],
            &["test", "--workspace", "--doc"],
        ]),
        env: &[],
        binary: false,
        browsers: false,
        namespaces: false,
    },
    Suite {
        name: "simulator",
        about: "whole rings on a clock of their own, by seeds",
        work: Work::Cargo(&[&[
            "test",
            "-p",
            "roundelay-core",
            "--tests",
            "--",
            "--nocapture",
        ]]),
        env: &[],
        binary: false,
        browsers: false,
        namespaces: false,
    },
    Suite {
        name: "planted bugs",
        about: "known bugs, each of which the simulator has to catch",
        work: Work::Cargo(&[&[
            "test",
            "-p",
            "roundelay-core",
            "--test",
            "sim",
            "--",
            "--nocapture",
        ]]),
        env: &[
            ("RUSTFLAGS", "--cfg planted_bugs"),
            ("CARGO_TARGET_DIR", "target/planted"),
        ],
        binary: false,
        browsers: false,
        namespaces: false,
    },
    Suite {
        name: "processes",
        about: "real processes and sockets on loopback",
        work: Work::Cargo(&[&[
            "test",
            "-p",
            "roundelay",
            "--no-fail-fast",
            "--test",
            "bad_input",
            "--test",
            "bench",
            "--test",
            "cli",
            "--test",
            "cluster",
            "--test",
            "counters",
            "--test",
            "crash",
            "--test",
            "direct_link",
            "--test",
            "full_disk",
            "--test",
            "gord",
            "--test",
            "http_api",
            "--test",
            "library",
            "--test",
            "streams",
            "--test",
            "transfer",
        ]]),
        env: &[],
        binary: false,
        browsers: false,
        namespaces: false,
    },
    Suite {
        name: "promises",
        about: "the release binary: fifty nodes at once, deaths, copies back in time, memory",
        work: Work::Cargo(&[&[
            "test",
            "-p",
            "roundelay",
            "--test",
            "bring_up",
            "--test",
            "deaths",
            "--test",
            "memory",
            "--test",
            "refill",
            "--",
            "--nocapture",
        ]]),
        env: &[],
        binary: true,
        browsers: false,
        namespaces: false,
    },
    Suite {
        name: "namespaces",
        about: "processes in networks that part (root only)",
        work: Work::Cargo(&[&["test", "-p", "roundelay", "--test", "namespaces"]]),
        env: &[],
        binary: false,
        browsers: false,
        namespaces: true,
    },
    Suite {
        name: "browsers",
        about: "pages in real browsers, with a relay and two nodes",
        work: Work::Cargo(&[&[
            "test",
            "-p",
            "roundelay",
            "--test",
            "browser",
            "--",
            "--nocapture",
        ]]),
        env: &[],
        binary: true,
        browsers: true,
        namespaces: false,
    },
];

/// Runs the suites and counts them; says whether all passed.
pub(crate) fn run(options: &args::Test) -> Result<bool> {
    let suites = chosen(options.only.as_deref())?;
    let mut steps = Steps::default();
    for suite in suites {
        match suite.obstacle() {
            None => steps.run(suite.name, suite.about, || suite.run()),
            Some(reason) => steps.skip(suite.name, suite.about, &reason),
        }
    }
    steps.summarise();
    let (passed, failed) = steps.counts();
    // Tools that read test output know this line; nothing may follow it.
    println!("{passed} passed, {failed} failed");
    Ok(failed == 0)
}

fn chosen(only: Option<&str>) -> Result<Vec<&'static Suite>> {
    let Some(only) = only else {
        return Ok(SUITES.iter().collect());
    };
    let names: Vec<&str> = SUITES.iter().map(|suite| suite.name).collect();
    let suite = SUITES.iter().find(|suite| suite.name == only);
    let suite = suite.ok_or_else(|| {
        Error::new(format!(
            "no suite is called {only:?}; there are: {}",
            names.join(", ")
        ))
    })?;
    Ok(vec![suite])
}

impl Suite {
    /// Why it cannot run here.
    fn obstacle(&self) -> Option<String> {
        let made = self.namespaces.then(namespaces::try_one);
        made?.err().map(|error| error.to_string())
    }

    fn run(&self) -> Result {
        if self.browsers {
            browsers::install()?;
        }
        let binary = match self.binary {
            true => Some(page::build().and_then(|()| build::binary())?),
            false => None,
        };
        let Work::Cargo(commands) = &self.work else {
            return verify::run();
        };
        let mut all = Ok(());
        for args in *commands {
            let mut cargo = sh::cargo(*args);
            cargo.envs(self.env.iter().copied());
            if let Some(binary) = &binary {
                cargo.env("ROUNDELAY_BIN", binary);
            }
            if self.browsers {
                browsers::apply(&mut cargo)?;
            }
            let ran = sh::run(&mut cargo);
            all = all.and(ran);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_suite_or_all_can_be_chosen() {
        assert!(chosen(None).is_ok_and(|suites| suites.len() == SUITES.len()));
        assert!(chosen(Some("unit")).is_ok_and(|suites| suites.len() == 1));
        assert!(chosen(Some("units")).is_err_and(|error| error.to_string().contains("unit")));
    }
}
