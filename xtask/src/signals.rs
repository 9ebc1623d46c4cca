//! Being asked to stop.

use std::sync::mpsc::{self, Receiver};
use std::thread;

use nix::sys::signal::{SigSet, Signal};

use crate::error::{Context as _, Result};

/// From now on Ctrl-C, SIGTERM and a closed terminal no longer end this
/// process, but arrive here. Call it before any other thread is started, since
/// only threads started later inherit this.
pub(crate) fn catch() -> Result<Receiver<Signal>> {
    let mut stops = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        stops.add(signal);
    }
    stops.thread_block().context("catching signals")?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        while let Ok(signal) = stops.wait() {
            if sender.send(signal).is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}
