//! The link to the relay in this process: two queues, no socket.
//!
//! Towards the hub at most what core has outstanding is queued, since the hub
//! reports what it took only then; from the hub at most what the hub lets wait
//! for one connection. The hub's pauses are therefore not for this link.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use roundelay_core::hub::ConnectionId;
use roundelay_core::{Input, Lane, LinkId};
use tokio::sync::mpsc;

use super::Lots;

/// Numbers the connections of one hub.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConnectionIds(Arc<AtomicU64>);

impl ConnectionIds {
    pub(crate) fn next(&self) -> ConnectionId {
        ConnectionId(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// What a member tells the hub in its process.
#[derive(Debug)]
pub(crate) enum FromMember {
    /// It attaches; its inputs go where it says.
    Open {
        connection: ConnectionId,
        link: LinkId,
        inputs: mpsc::UnboundedSender<Input>,
    },
    /// It sends.
    Frame {
        connection: ConnectionId,
        lane: Lane,
        bytes: Vec<u8>,
    },
    /// It has taken so many bytes that the hub sent.
    Drained {
        connection: ConnectionId,
        bytes: usize,
    },
    /// It hung up.
    Closed { connection: ConnectionId },
}

/// The door to the hub, as one member has it.
#[derive(Debug)]
pub(crate) struct OwnRelay {
    hub: mpsc::UnboundedSender<FromMember>,
    ids: ConnectionIds,
    open: Option<(LinkId, ConnectionId)>,
    taken: Lots,
    inputs: mpsc::UnboundedReceiver<Input>,
    to_inputs: mpsc::UnboundedSender<Input>,
}

impl OwnRelay {
    pub(crate) fn new(hub: mpsc::UnboundedSender<FromMember>, ids: ConnectionIds) -> Self {
        let (to_inputs, inputs) = mpsc::unbounded_channel();
        Self {
            hub,
            ids,
            open: None,
            taken: Lots::default(),
            inputs,
            to_inputs,
        }
    }

    pub(super) fn is(&self, link: LinkId) -> bool {
        self.open.is_some_and(|(open, _)| open == link)
    }

    pub(super) fn dial(&mut self, link: LinkId) {
        self.close();
        let connection = self.ids.next();
        self.open = Some((link, connection));
        self.taken = Lots::default();
        let _ = self.to_inputs.send(Input::LinkUp { link });
        let inputs = self.to_inputs.clone();
        let opened = self.hub.send(FromMember::Open {
            connection,
            link,
            inputs,
        });
        if opened.is_err() {
            let reason = "the relay is stopping".to_owned();
            let _ = self.to_inputs.send(Input::LinkDown { link, reason });
        }
    }

    pub(super) fn send(&mut self, lane: Lane, bytes: Vec<u8>) {
        if let Some((_, connection)) = self.open {
            let _ = self.hub.send(FromMember::Frame {
                connection,
                lane,
                bytes,
            });
        }
    }

    pub(super) fn hangup(&mut self, link: LinkId) -> bool {
        let is_open = self.is(link);
        if is_open {
            self.close();
        }
        is_open
    }

    pub(super) fn close(&mut self) {
        if let Some((_, connection)) = self.open.take() {
            let _ = self.hub.send(FromMember::Closed { connection });
        }
    }

    pub(super) async fn next(&mut self) -> Input {
        match self.inputs.recv().await {
            Some(input) => self.take(input),
            // Never: this holds a sender itself.
            None => std::future::pending().await,
        }
    }

    pub(super) fn try_next(&mut self) -> Option<Input> {
        let input = self.inputs.try_recv().ok()?;
        Some(self.take(input))
    }

    fn take(&mut self, input: Input) -> Input {
        if let (Input::Frame { link, bytes }, Some((open, connection))) = (&input, self.open)
            && *link == open
            && let Some(bytes) = self.taken.add(Lane::Kv, bytes.len())
        {
            let _ = self.hub.send(FromMember::Drained { connection, bytes });
        }
        input
    }
}
