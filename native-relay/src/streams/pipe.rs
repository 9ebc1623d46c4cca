//! A pipe: a session's two byte streams, between the driver and the task that
//! multiplexes them.
//!
//! Nothing here grows without limit, though the channels could: the writer has a
//! budget of bytes that the driver gives back as the session takes them, and the
//! session sends no more than the reader has consumed.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::io::{AsyncRead, AsyncWrite};
use roundelay_core::NodeId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::PollSemaphore;

/// Bytes that wait between a writer and its session.
const WRITE_MAX: usize = 1 << 20;
/// Bytes that are handed over at once.
const CHUNK_MAX: usize = 64 << 10;

/// Names a pipe: a session with the same peer later has another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PipeId {
    pub(crate) peer: NodeId,
    pub(crate) number: u64,
}

/// What the driver is told.
#[derive(Debug)]
pub(crate) enum PipeCommand {
    /// A pipe to this peer is wanted.
    Open(NodeId),
    /// Write; the permit goes back when the session has taken all.
    Write(PipeId, Vec<u8>, OwnedSemaphorePermit),
    /// So many bytes were read.
    Consumed(PipeId, usize),
    /// Nothing more will be written.
    Close(PipeId),
    /// Nobody reads or writes any more.
    Dropped(PipeId),
}

/// What comes by a pipe: bytes, the end (none), or why there is no more.
pub(crate) type Incoming = Result<Vec<u8>, io::Error>;

/// The multiplexer's end.
#[derive(Debug)]
pub(crate) struct Pipe {
    id: PipeId,
    commands: mpsc::UnboundedSender<PipeCommand>,
    budget: PollSemaphore,
    writing: Vec<u8>,
    is_closed: bool,
    incoming: mpsc::UnboundedReceiver<Incoming>,
    reading: Vec<u8>,
    read: usize,
    is_ended: bool,
}

impl Pipe {
    /// A pipe, and the way to what it reads.
    pub(crate) fn new(
        id: PipeId,
        commands: mpsc::UnboundedSender<PipeCommand>,
    ) -> (Self, mpsc::UnboundedSender<Incoming>) {
        let (sender, incoming) = mpsc::unbounded_channel();
        let pipe = Self {
            id,
            commands,
            budget: PollSemaphore::new(Arc::new(Semaphore::new(WRITE_MAX))),
            writing: Vec::new(),
            is_closed: false,
            incoming,
            reading: Vec::new(),
            read: 0,
            is_ended: false,
        };
        (pipe, sender)
    }

    pub(crate) const fn peer(&self) -> NodeId {
        self.id.peer
    }

    fn tell(&self, command: PipeCommand) -> io::Result<()> {
        let told = self.commands.send(command);
        told.map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "this node has stopped"))
    }

    /// Hands what was written to the driver.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.writing.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let len = u32::try_from(self.writing.len()).unwrap_or(u32::MAX);
        let permit = ready!(self.budget.poll_acquire_many(context, len));
        let Some(permit) = permit else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let bytes = std::mem::take(&mut self.writing);
        Poll::Ready(self.tell(PipeCommand::Write(self.id, bytes, permit)))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.writing.len() >= CHUNK_MAX {
            ready!(self.poll_send(context))?;
        }
        let len = bytes.len().min(CHUNK_MAX - self.writing.len());
        self.writing
            .extend_from_slice(bytes.get(..len).unwrap_or_default());
        Poll::Ready(Ok(len))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(context))?;
        if !std::mem::replace(&mut self.is_closed, true) {
            self.tell(PipeCommand::Close(self.id))?;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        while self.read == self.reading.len() && !self.is_ended {
            let len = std::mem::take(&mut self.reading).len();
            self.read = 0;
            if len > 0 {
                self.tell(PipeCommand::Consumed(self.id, len))?;
            }
            match ready!(self.incoming.poll_recv(context)) {
                Some(Ok(bytes)) if bytes.is_empty() => self.is_ended = true,
                Some(Ok(bytes)) => self.reading = bytes,
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        let left = self.reading.get(self.read..).unwrap_or_default();
        let len = left.len().min(into.len());
        if let (Some(into), Some(left)) = (into.get_mut(..len), left.get(..len)) {
            into.copy_from_slice(left);
        }
        self.read += len;
        Poll::Ready(Ok(len))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let _ = self.tell(PipeCommand::Dropped(self.id));
    }
}
