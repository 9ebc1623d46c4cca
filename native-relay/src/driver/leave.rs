//! How a driver ends: the others are told, and then the links are closed.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::Driver;
use crate::link::direct::DirectLinks;

/// How long what was sent last may take to leave.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

impl Driver {
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
