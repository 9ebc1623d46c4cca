//! Browsers and the drivers that steer them in tests.

use std::process::Command;

use crate::apt;
use crate::error::{Error, Result};
use crate::sh;
use crate::tools::{self, Tool};

const PACKAGES: [&str; 3] = ["chromium", "chromium-driver", "firefox-esr"];

/// Installs what is missing.
pub(crate) fn install() -> Result {
    apt::install(&PACKAGES, "testing in real browsers")?;
    tools::install(&[&Tool::geckodriver()])
}

/// Tells a suite where the drivers are.
pub(crate) fn apply(command: &mut Command) -> Result {
    let chromedriver = sh::which("chromedriver").ok_or_else(|| {
        Error::new("chromium-driver is installed, but no chromedriver is on PATH: add /usr/bin")
    })?;
    command.env("CHROMEDRIVER", chromedriver);
    command.env("GECKODRIVER", Tool::geckodriver().program()?);
    Ok(())
}
