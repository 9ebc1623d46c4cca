//! Sessions, as the driver sees them: core has the bytes, pipes carry them on.

use std::collections::{HashMap, VecDeque};
use std::io;

use roundelay_core::{NodeId, SessionError, SessionEvent};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::Driver;
use crate::streams::{Incoming, Pipe, PipeCommand, PipeId};

/// Where pipes come from and go to.
#[derive(Debug)]
pub(crate) struct Pipes {
    own: mpsc::UnboundedSender<PipeCommand>,
    commands: mpsc::UnboundedReceiver<PipeCommand>,
    /// To the multiplexers; each session is one.
    opened: mpsc::UnboundedSender<Pipe>,
    ends: HashMap<NodeId, End>,
    count: u64,
}

/// The driver's end of a pipe.
#[derive(Debug)]
struct End {
    number: u64,
    incoming: mpsc::UnboundedSender<Incoming>,
    /// What the session has no room for yet, and how much of the first it took.
    waiting: VecDeque<(Vec<u8>, OwnedSemaphorePermit)>,
    taken: usize,
    /// Whether the session is to be closed after that.
    closes: bool,
    /// Whether the reader was told that nothing more comes.
    is_ended: bool,
}

impl Pipes {
    /// Pipes for one node; and what those who multiplex them need.
    pub(crate) fn new() -> (
        Self,
        mpsc::UnboundedSender<PipeCommand>,
        mpsc::UnboundedReceiver<Pipe>,
    ) {
        let (own, commands) = mpsc::unbounded_channel();
        let (opened, pipes) = mpsc::unbounded_channel();
        let wanted = own.clone();
        let ends = HashMap::new();
        let count = 0;
        let pipes_of_node = Self {
            own,
            commands,
            opened,
            ends,
            count,
        };
        (pipes_of_node, wanted, pipes)
    }

    pub(super) async fn next(&mut self) -> Option<PipeCommand> {
        self.commands.recv().await
    }

    pub(super) fn try_next(&mut self) -> Option<PipeCommand> {
        self.commands.try_recv().ok()
    }

    fn end(&mut self, id: PipeId) -> Option<&mut End> {
        let end = self.ends.get_mut(&id.peer)?;
        (end.number == id.number).then_some(end)
    }

    /// A pipe for a session that is there.
    fn open(&mut self, peer: NodeId) {
        self.count += 1;
        let number = self.count;
        let (pipe, incoming) = Pipe::new(PipeId { peer, number }, self.own.clone());
        let end = End {
            number,
            incoming,
            waiting: VecDeque::new(),
            taken: 0,
            closes: false,
            is_ended: false,
        };
        self.ends.insert(peer, end);
        // Without anybody to multiplex it, it is dropped, and that resets it.
        let _ = self.opened.send(pipe);
    }
}

impl Driver {
    pub(super) fn on_pipe_command(&mut self, command: PipeCommand) {
        let now = self.moment.now;
        match command {
            PipeCommand::Open(peer) => {
                if self.pipes.ends.contains_key(&peer) {
                    return;
                }
                let opened = self.node.open_session(peer, now);
                self.pipes.open(peer);
                if opened.is_err() {
                    let words = "this node has as many sessions as it can have";
                    self.end_pipe(&peer, io::Error::new(io::ErrorKind::QuotaExceeded, words));
                }
            }
            PipeCommand::Write(id, bytes, permit) => {
                if let Some(end) = self.pipes.end(id) {
                    end.waiting.push_back((bytes, permit));
                    self.write_waiting(&id.peer);
                }
            }
            PipeCommand::Consumed(id, len) => {
                if self.pipes.end(id).is_some() {
                    self.node.consume_session(&id.peer, len);
                }
            }
            PipeCommand::Close(id) => {
                if let Some(end) = self.pipes.end(id) {
                    end.closes = true;
                    self.write_waiting(&id.peer);
                }
            }
            PipeCommand::Dropped(id) => {
                if self.pipes.end(id).is_some() {
                    self.pipes.ends.remove(&id.peer);
                    self.node.reset_session(&id.peer);
                }
            }
        }
    }

    pub(super) fn on_session(&mut self, peer: NodeId, event: SessionEvent) {
        match event {
            SessionEvent::Opened => self.pipes.open(peer),
            SessionEvent::Readable => self.read_session(&peer),
            SessionEvent::Writable => self.write_waiting(&peer),
            SessionEvent::Ended(why) => {
                self.read_session(&peer);
                self.end_pipe(&peer, error_of(why));
            }
        }
    }

    fn read_session(&mut self, peer: &NodeId) {
        let (bytes, is_ended) = self.node.take_session(peer);
        let Some(end) = self.pipes.ends.get_mut(peer) else {
            return;
        };
        if !bytes.is_empty() {
            let _ = end.incoming.send(Ok(bytes));
        }
        if is_ended && !std::mem::replace(&mut end.is_ended, true) {
            let _ = end.incoming.send(Ok(Vec::new()));
        }
    }

    /// Writes what the session has room for.
    fn write_waiting(&mut self, peer: &NodeId) {
        let now = self.moment.now;
        let Some(end) = self.pipes.ends.get_mut(peer) else {
            return;
        };
        while let Some((bytes, _)) = end.waiting.front() {
            let left = bytes.get(end.taken..).unwrap_or_default();
            let len = left.len();
            let taken = self.node.write_session(peer, left, now);
            if taken < len {
                end.taken += taken;
                return;
            }
            end.taken = 0;
            end.waiting.pop_front();
        }
        if end.closes {
            self.node.close_session(peer, now);
        }
    }

    fn end_pipe(&mut self, peer: &NodeId, why: io::Error) {
        if let Some(end) = self.pipes.ends.remove(peer) {
            let _ = end.incoming.send(Err(why));
        }
    }
}

fn error_of(why: SessionError) -> io::Error {
    let (kind, words) = match why {
        SessionError::NoPath => (
            io::ErrorKind::TimedOut,
            "for eight seconds there was no way to the peer",
        ),
        SessionError::Restarted => (
            io::ErrorKind::ConnectionAborted,
            "the peer has started again",
        ),
        SessionError::Reset => (io::ErrorKind::ConnectionReset, "the peer ended the session"),
        SessionError::Closed => (io::ErrorKind::UnexpectedEof, "the session is closed"),
        SessionError::Malformed => (
            io::ErrorKind::InvalidData,
            "the peer acknowledged what was never sent",
        ),
    };
    io::Error::new(kind, words)
}
