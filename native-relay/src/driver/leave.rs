//! How a driver ends: the others are told, and then the links are closed.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{Driver, RETIRE_TIMEOUT};
use crate::link::direct::DirectLinks;

/// How long what was sent last may take to leave.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

impl Driver {
    /// Passes this node's places on before it leaves, if others can take them.
    pub(super) fn begin_to_leave(&mut self, asked: oneshot::Sender<()>) {
        if self.retiring.is_some() {
            // Who asked first is told.
            return;
        }
        let asked = Some(asked);
        if self.node.retire(self.moment.now) {
            tracing::info!("passing votes and entries on before leaving");
            self.retiring = Some((asked, self.moment.instant + RETIRE_TIMEOUT));
        } else {
            self.leaving = Some(asked);
        }
    }

    /// Until when places are being passed on; once they are, it is time to
    /// leave.
    pub(super) fn retired_until(&mut self) -> Option<Instant> {
        let until = self.retiring.as_ref()?.1;
        let done = self.node.is_retired();
        if !done && self.moment.instant < until {
            return Some(until);
        }
        if !done {
            tracing::warn!("leaving although not all votes and entries are passed on");
        }
        self.leaving = self.retiring.take().map(|(asked, _)| asked);
        None
    }

    /// Leaves the ring, closes all links and the storage, and tells who asked.
    pub(super) async fn leave(mut self, asked: Option<oneshot::Sender<()>>) {
        self.node.leave(self.moment.now);
        self.drain_node();
        let direct = self.direct;
        let closed = async {
            tokio::join!(self.signalling.close(), close(direct));
        };
        let _ = tokio::time::timeout(FLUSH_TIMEOUT, closed).await;
        // Closing waits for the last commits to be synced.
        let storage = self.storage;
        let _ = tokio::task::spawn_blocking(move || drop(storage)).await;
        if let Some(asked) = asked {
            let _ = asked.send(());
        }
    }
}

/// Closes all direct links, and waits until they are.
async fn close(direct: Option<DirectLinks>) {
    let Some(mut direct) = direct else {
        return;
    };
    direct.close_all(Instant::now());
    while !direct.is_idle() {
        while direct.poll_event().is_some() {}
        let due = direct.poll_timeout();
        let due = due.unwrap_or_else(|| Instant::now() + FLUSH_TIMEOUT);
        tokio::select! {
            readable = direct.readable() => match readable {
                Ok(()) => direct.receive(Instant::now()),
                Err(_) => return,
            },
            () = tokio::time::sleep_until(due.into()) => direct.handle_timeout(Instant::now()),
        }
    }
}
