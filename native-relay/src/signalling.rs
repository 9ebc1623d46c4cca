//! The ways to relays: one WebSocket each, by which a node attaches, is
//! introduced to its peers and sends what no direct link carries.
//!
//! This is the attach transport, so it has this file's name; what core seals
//! and sends through it to a peer (a circuit) is core's own affair.
//!
//! [`Signalling`] belongs to the driver. Each WebSocket has a task, since it
//! must be read and written at once; to the relay that runs in this very
//! process ([`OWN_RELAY_URL`]) no socket and no task stands between.
//!
//! Queues: from the sockets to the driver [`INPUT_QUEUE_LEN`] messages; beyond
//! it sockets are not read. From the driver to a socket there is no limit on
//! the queue itself: core has at most 1.6 MB outstanding on a link, until
//! [`Input::Drained`] gives room.

mod lots;
mod own;
mod socket;

use std::collections::HashMap;

use roundelay_core::{Input, Lane, LinkId};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub(crate) use self::lots::Lots;
pub(crate) use self::own::{ConnectionIds, FromMember, OwnRelay};

/// The URL of the relay in this process.
pub(crate) const OWN_RELAY_URL: &str = "relay:own";

/// Messages that wait for the driver before sockets are read no more.
const INPUT_QUEUE_LEN: usize = 256;

/// A message for a relay.
#[derive(Debug)]
struct Outgoing {
    lane: Lane,
    bytes: Vec<u8>,
}

/// All links to relays.
#[derive(Debug)]
pub(crate) struct Signalling {
    own: Option<OwnRelay>,
    sockets: HashMap<LinkId, mpsc::UnboundedSender<Outgoing>>,
    tasks: JoinSet<()>,
    inputs: mpsc::Receiver<Input>,
    to_inputs: mpsc::Sender<Input>,
}

impl Signalling {
    pub(crate) fn new(own: Option<OwnRelay>) -> Self {
        let (to_inputs, inputs) = mpsc::channel(INPUT_QUEUE_LEN);
        Self {
            own,
            sockets: HashMap::new(),
            tasks: JoinSet::new(),
            inputs,
            to_inputs,
        }
    }

    /// Opens a link; [`Signalling::next`] tells how that went.
    pub(crate) fn dial(&mut self, link: LinkId, url: String) {
        while self.tasks.try_join_next().is_some() {}
        if url == OWN_RELAY_URL
            && let Some(own) = &mut self.own
        {
            return own.dial(link);
        }
        let (sender, outgoing) = mpsc::unbounded_channel();
        self.sockets.insert(link, sender);
        let inputs = self.to_inputs.clone();
        self.tasks.spawn(socket::run(link, url, outgoing, inputs));
    }

    /// Sends a message; gives it back when the link is none of these.
    pub(crate) fn send(&mut self, link: LinkId, lane: Lane, bytes: Vec<u8>) -> Result<(), Vec<u8>> {
        if let Some(socket) = self.sockets.get(&link) {
            // A task that has ended has told so by LinkDown.
            let _ = socket.send(Outgoing { lane, bytes });
            return Ok(());
        }
        match &mut self.own {
            Some(own) if own.is(link) => {
                own.send(lane, bytes);
                Ok(())
            }
            _ => Err(bytes),
        }
    }

    /// Closes a link, after what was sent; `false` when it is none of these.
    pub(crate) fn hangup(&mut self, link: LinkId) -> bool {
        let own = self.own.as_mut().is_some_and(|own| own.hangup(link));
        own || self.sockets.remove(&link).is_some()
    }

    /// Waits for what happened next; cancel-safe.
    pub(crate) async fn next(&mut self) -> Input {
        loop {
            let input = tokio::select! {
                Some(input) = self.inputs.recv() => input,
                input = own_next(&mut self.own) => input,
            };
            if let Some(input) = self.accept(input) {
                return input;
            }
        }
    }

    /// What happened next, if something did.
    pub(crate) fn try_next(&mut self) -> Option<Input> {
        loop {
            let own = self.own.as_mut().and_then(OwnRelay::try_next);
            let input = own.or_else(|| self.inputs.try_recv().ok())?;
            if let Some(input) = self.accept(input) {
                return Some(input);
            }
        }
    }

    /// Drops what a link said before it was hung up, and forgets one that
    /// ended by itself.
    fn accept(&mut self, input: Input) -> Option<Input> {
        let link = match &input {
            Input::Frame { link, .. }
            | Input::Drained { link, .. }
            | Input::LinkUp { link }
            | Input::LinkDown { link, .. } => *link,
            _ => return Some(input),
        };
        let ended = matches!(input, Input::LinkDown { .. });
        let known = if ended {
            self.hangup(link)
        } else {
            self.sockets.contains_key(&link) || self.own.as_ref().is_some_and(|own| own.is(link))
        };
        known.then_some(input)
    }

    /// Closes all links, and waits until what was sent has left.
    pub(crate) async fn close(mut self) {
        self.inputs.close();
        self.sockets.clear();
        if let Some(own) = &mut self.own {
            own.close();
        }
        while self.tasks.join_next().await.is_some() {}
    }
}

async fn own_next(own: &mut Option<OwnRelay>) -> Input {
    match own {
        Some(own) => own.next().await,
        None => std::future::pending().await,
    }
}
