//! Being asked to stop.

use std::sync::mpsc::{self, Receiver};

use crate::error::{Context as _, Result};

/// The wish that this process stops.
pub(crate) struct Stop;

/// From now on Ctrl-C, SIGTERM and a closed terminal no longer end this
/// process, but arrive here. Blocking them would be simpler, but processes
/// that are started inherit that, and then could not be asked to leave.
pub(crate) fn catch() -> Result<Receiver<Stop>> {
    let (sender, receiver) = mpsc::channel();
    // Nobody receives any more only when all is over.
    ctrlc::set_handler(move || drop(sender.send(Stop))).context("catching signals")?;
    Ok(receiver)
}
