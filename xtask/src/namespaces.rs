//! Network namespaces: networks of their own, which only root may make.

use std::process;

use crate::apt;
use crate::error::{Context as _, Error, Result};
use crate::sh;

/// Makes one and removes it; says what stands in the way.
pub(crate) fn try_one() -> Result {
    if sh::output(sh::program("id").arg("-u"))? != "0" {
        return Err(Error::new("only root may make network namespaces"));
    }
    if sh::which("ip").is_none() {
        apt::install(&["iproute2"], "a network that parts")?;
    }
    let name = format!("roundelay-try-{}", process::id());
    let ip = |verb: &str| sh::output(sh::program("ip").args(["netns", verb, &name]));
    ip("add").context("making a network namespace")?;
    ip("delete").context("removing a network namespace")?;
    Ok(())
}
