//! The task that multiplexes the streams of one session.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use roundelay_core::NodeId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use yamux::{Config, Connection, ConnectionError, Mode};

use super::pipe::Pipe;
use super::{OpenError, Request, greeting};

/// Streams of one session that this side has opened; a further one is refused.
pub const STREAM_COUNT_MAX: usize = 128;
/// Streams that the other side has opened, as seen here: one that it has done with may
/// be in use here for a while. A further one is reset.
const ACCEPTED_COUNT_MAX: usize = 2 * STREAM_COUNT_MAX;
/// All of them, for yamux, which ends the session beyond that: so many more may wait
/// for it to clear them away.
const HELD_COUNT_MAX: usize = 4 * STREAM_COUNT_MAX;
/// Bytes that all streams of a session may have received and not read: each is sure of
/// [`yamux::DEFAULT_CREDIT`], and gets more while there is some left.
const RECEIVE_MAX: usize = HELD_COUNT_MAX * yamux::DEFAULT_CREDIT as usize;
/// The longest frame: what a session carries in one of its own.
const FRAME_MAX: usize = 60 << 10;

/// Why the session of a stream is over, once it is.
pub(super) type Why = Arc<OnceLock<(io::ErrorKind, String)>>;

/// A stream, and how it learns what became of its session.
#[derive(Debug)]
pub(super) struct Muxed {
    pub(super) stream: yamux::Stream,
    pub(super) why: Why,
    /// Its place among those of its session.
    pub(super) place: OwnedSemaphorePermit,
}

pub(super) type Reply = oneshot::Sender<Result<Muxed, OpenError>>;

/// The way to one such task.
#[derive(Debug)]
pub(super) struct Mux {
    opens: mpsc::UnboundedSender<Reply>,
}

/// A stream that the peer opened, and the service that it wants.
#[derive(Debug)]
pub(super) struct Inbound {
    pub(super) peer: NodeId,
    pub(super) service: String,
    pub(super) stream: Muxed,
}

impl Mux {
    pub(super) fn start(own: NodeId, pipe: Pipe, requests: mpsc::Sender<Request>) -> Self {
        // Bounded by those who ask, who wait for their answers.
        let (opens, receiver) = mpsc::unbounded_channel();
        let peer = pipe.peer();
        // Both ends know who is which.
        let mode = match own < peer {
            true => Mode::Client,
            false => Mode::Server,
        };
        let mut config = Config::default();
        config.set_max_num_streams(HELD_COUNT_MAX);
        config.set_max_connection_receive_window(Some(RECEIVE_MAX));
        config.set_split_send_size(FRAME_MAX);
        let task = Task {
            peer,
            connection: Connection::new(pipe, config, mode),
            opens: receiver,
            waiting: VecDeque::new(),
            opened: Arc::new(Semaphore::new(STREAM_COUNT_MAX)),
            accepted: Arc::new(Semaphore::new(ACCEPTED_COUNT_MAX)),
            requests: requests.downgrade(),
            why: Why::default(),
        };
        tokio::spawn(task.run());
        Self { opens }
    }

    /// Opens a stream.
    pub(super) fn open(&self, reply: Reply) {
        // Who is not answered sees that the session is over.
        let _ = self.opens.send(reply);
    }

    pub(super) fn is_ended(&self) -> bool {
        self.opens.is_closed()
    }
}

struct Task {
    peer: NodeId,
    connection: Connection<Pipe>,
    opens: mpsc::UnboundedReceiver<Reply>,
    waiting: VecDeque<(Reply, OwnedSemaphorePermit)>,
    /// Places of streams that this side, and the other, opened.
    opened: Arc<Semaphore>,
    accepted: Arc<Semaphore>,
    requests: mpsc::WeakSender<Request>,
    why: Why,
}

impl Task {
    async fn run(mut self) {
        let peer = self.peer;
        let ended = std::future::poll_fn(|context| self.poll(context)).await;
        let (kind, why) = reason(ended);
        let _ = self.why.set((kind, why.clone()));
        tracing::debug!("the session with {} is over: {why}", peer.short());
        // In this order: who sees that nothing can be opened here any more asks the
        // driver for another session, which has this one until the pipe is gone.
        drop(self.connection);
        self.opens.close();
        let mut replies: Vec<Reply> = self.waiting.into_iter().map(|(reply, _)| reply).collect();
        while let Ok(reply) = self.opens.try_recv() {
            replies.push(reply);
        }
        for reply in replies {
            let why = why.clone();
            let _ = reply.send(Err(OpenError::Session { peer, why }));
        }
        if let Some(requests) = self.requests.upgrade() {
            let _ = requests.send(Request::Ended(peer)).await;
        }
    }

    /// Opens what is wanted and takes what comes, until the session is over.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        while let Poll::Ready(Some(reply)) = self.opens.poll_recv(context) {
            match Arc::clone(&self.opened).try_acquire_owned() {
                Ok(place) => self.waiting.push_back((reply, place)),
                Err(_) => drop(reply.send(Err(OpenError::Full(self.peer)))),
            }
        }
        while !self.waiting.is_empty() {
            match self.connection.poll_new_outbound(context) {
                Poll::Ready(Ok(stream)) => {
                    if let Some((reply, place)) = self.waiting.pop_front() {
                        let why = Arc::clone(&self.why);
                        let _ = reply.send(Ok(Muxed { stream, why, place }));
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
        }
        loop {
            match self.connection.poll_next_inbound(context) {
                Poll::Ready(Some(Ok(stream))) => self.greet(stream),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Finds out what a stream is for: a peer that says nothing holds up nobody else.
    fn greet(&self, mut stream: yamux::Stream) {
        let Ok(place) = Arc::clone(&self.accepted).try_acquire_owned() else {
            return tracing::debug!("{} has too many streams open here", self.peer.short());
        };
        let (peer, requests) = (self.peer, self.requests.clone());
        let why = Arc::clone(&self.why);
        tokio::spawn(async move {
            let service = match greeting::asked(&mut stream).await {
                Ok(service) => service,
                Err(error) => {
                    return tracing::debug!(%error, "a stream of {} names no service", peer.short());
                }
            };
            let inbound = Inbound {
                peer,
                service,
                stream: Muxed { stream, why, place },
            };
            if let Some(requests) = requests.upgrade() {
                let _ = requests.send(Request::Route(inbound)).await;
            }
        });
    }
}

/// What those are told whose streams are over with the session.
fn reason(ended: Result<(), ConnectionError>) -> (io::ErrorKind, String) {
    match ended {
        Ok(()) => (
            io::ErrorKind::ConnectionAborted,
            "the session was closed".to_owned(),
        ),
        Err(error) => {
            let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
            while let Some(error) = cause {
                if let Some(error) = error.downcast_ref::<io::Error>() {
                    return (error.kind(), error.to_string());
                }
                cause = error.source();
            }
            (io::ErrorKind::InvalidData, error.to_string())
        }
    }
}
