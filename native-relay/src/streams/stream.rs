//! One stream, as its user sees it.
//!
//! yamux says of a stream that was reset, and of one whose session is over, that it
//! has ended. Nobody is to take half for all: bytes travel in records, each after its
//! length, and the end is a record of none.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::io::{AsyncRead as _, AsyncWrite as _};
use roundelay_core::NodeId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;

use super::greeting::{self, ACCEPTED, REFUSED};
use super::mux::{Muxed, Why};

/// The longest record, without its length.
const RECORD_LEN_MAX: usize = (60 << 10) - LEN_BYTES;
const LEN_BYTES: usize = 2;

/// A reliable, ordered stream of bytes each way, sealed between two members.
///
/// Shutting it down ends one half; the other goes on. Dropped before both are ended,
/// it is reset. A read fails with [`io::ErrorKind::ConnectionRefused`] where the peer
/// refuses the stream, and where it, or its session, broke, with an error, too: only
/// what the other side ended reads as an end.
#[derive(Debug)]
pub struct Stream {
    peer: NodeId,
    inner: yamux::Stream,
    why: Why,
    /// Free again when this is dropped.
    _place: OwnedSemaphorePermit,
    answer: Answer,
    /// Of the record that is read: what is known of its length, and what is left.
    len: Vec<u8>,
    left: usize,
    is_ended: bool,
    /// The record that is written, and how much of it left.
    record: Vec<u8>,
    sent: usize,
    /// Whether the record of the end is among what was written.
    is_shut: bool,
}

/// How far the other side's answer is known.
#[derive(Debug)]
enum Answer {
    Awaited,
    Refused { len: Option<u8>, words: Vec<u8> },
    Accepted,
}

impl Stream {
    pub(super) async fn open(peer: NodeId, mut muxed: Muxed, service: &str) -> io::Result<Self> {
        greeting::ask(&mut muxed.stream, service).await?;
        Ok(Self::new(peer, muxed, Answer::Awaited))
    }

    pub(super) async fn accepted(peer: NodeId, mut muxed: Muxed) -> io::Result<Self> {
        greeting::accept(&mut muxed.stream).await?;
        Ok(Self::new(peer, muxed, Answer::Accepted))
    }

    fn new(peer: NodeId, muxed: Muxed, answer: Answer) -> Self {
        Self {
            peer,
            inner: muxed.stream,
            why: muxed.why,
            _place: muxed.place,
            answer,
            len: Vec::new(),
            left: 0,
            is_ended: false,
            record: Vec::new(),
            sent: 0,
            is_shut: false,
        }
    }

    /// Who is at the other end.
    #[must_use]
    pub const fn peer(&self) -> NodeId {
        self.peer
    }

    /// Waits until the other side has taken the stream, or refused it: who writes at
    /// once need not.
    ///
    /// # Errors
    /// As the first read.
    pub async fn answered(&mut self) -> io::Result<()> {
        std::future::poll_fn(|context| self.poll_answer(context)).await
    }

    /// Reads what comes before the first byte of the other side.
    fn poll_answer(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if let Answer::Refused {
                len: Some(len),
                words,
            } = &self.answer
                && words.len() == usize::from(*len)
            {
                let words = String::from_utf8_lossy(words).into_owned();
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionRefused, words)));
            }
            if matches!(self.answer, Answer::Accepted) {
                return Poll::Ready(Ok(()));
            }
            let byte = ready!(self.poll_byte(context))?;
            match &mut self.answer {
                Answer::Awaited if byte == ACCEPTED => self.answer = Answer::Accepted,
                Answer::Awaited if byte == REFUSED => {
                    let words = Vec::new();
                    self.answer = Answer::Refused { len: None, words };
                }
                Answer::Awaited => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
                Answer::Refused {
                    len: None,
                    words: _,
                } => {
                    let words = Vec::new();
                    let len = Some(byte);
                    self.answer = Answer::Refused { len, words };
                }
                Answer::Refused { words, .. } => words.push(byte),
                Answer::Accepted => {}
            }
        }
    }

    fn poll_byte(&mut self, context: &mut Context<'_>) -> Poll<io::Result<u8>> {
        let mut byte = [0];
        match ready!(Pin::new(&mut self.inner).poll_read(context, &mut byte))? {
            0 => Poll::Ready(Err(self.broken())),
            _ => Poll::Ready(Ok(byte[0])),
        }
    }

    /// Reads the length of the next record, if none is being read.
    fn poll_record(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.left == 0 && !self.is_ended {
            let byte = ready!(self.poll_byte(context))?;
            self.len.push(byte);
            if let [high, low] = self.len[..] {
                self.len.clear();
                self.left = usize::from(u16::from_be_bytes([high, low]));
                self.is_ended = self.left == 0;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Hands the record that was written to the session.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(left) = self.record.get(self.sent..)
            && !left.is_empty()
        {
            let written = ready!(Pin::new(&mut self.inner).poll_write(context, left));
            match written {
                Ok(len) if len > 0 => self.sent += len,
                _ => return Poll::Ready(Err(self.broken())),
            }
        }
        self.record.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    /// Why the stream ended that the other side did not end.
    fn broken(&self) -> io::Error {
        match self.why.get() {
            Some((kind, words)) => io::Error::new(*kind, words.clone()),
            None => io::Error::new(io::ErrorKind::ConnectionReset, "the peer broke the stream"),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_answer(context))?;
        ready!(self.poll_record(context))?;
        let len = into.remaining().min(self.left);
        if len == 0 {
            return Poll::Ready(Ok(()));
        }
        let read = Pin::new(&mut self.inner).poll_read(context, into.initialize_unfilled_to(len));
        match ready!(read)? {
            0 => Poll::Ready(Err(self.broken())),
            len => {
                into.advance(len);
                self.left -= len;
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_send(context))?;
        if self.is_shut {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let len = bytes.len().min(RECORD_LEN_MAX);
        let bytes = bytes.get(..len).unwrap_or_default();
        if let Some(head) = u16::try_from(len).ok().filter(|len| *len > 0) {
            self.record.extend(head.to_be_bytes());
            self.record.extend_from_slice(bytes);
            // What does not leave now leaves with the next call.
            if let Poll::Ready(sent) = self.poll_send(context) {
                sent?;
            }
        }
        Poll::Ready(Ok(len))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(context))?;
        let flushed = ready!(Pin::new(&mut self.inner).poll_flush(context));
        Poll::Ready(flushed.map_err(|_| self.broken()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(context))?;
        if !self.is_shut {
            self.is_shut = true;
            self.record.extend([0; LEN_BYTES]);
        }
        ready!(self.poll_send(context))?;
        let closed = ready!(Pin::new(&mut self.inner).poll_close(context));
        Poll::Ready(closed.map_err(|_| self.broken()))
    }
}
