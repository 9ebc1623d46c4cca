//! Byte streams to services of other members, by their ids.
//!
//! ```text
//! Streams (handle) -> switchboard (task) -> mux (task, one a peer) -> pipe -> driver
//! ```
//!
//! A session with a peer carries all streams to and from it, multiplexed by yamux.
//! Who opens a stream says which service it wants and goes on without waiting; the
//! answer comes before the first byte of the other side.

mod exit;
mod expose;
mod forward;
mod greeting;
mod mux;
mod names;
mod pipe;
pub(crate) mod socks;
mod stream;

use std::collections::HashMap;

use roundelay_core::NodeId;
use tokio::sync::{mpsc, oneshot};

pub use self::exit::{Exit, ExitError};
pub use self::expose::{Exposed, ExposedError};
pub(crate) use self::forward::Forwarder;
pub use self::forward::{Forwarded, ForwardedError, Target};
pub use self::greeting::{SERVICE_LEN_MAX, ServiceError, check_service};
pub use self::mux::STREAM_COUNT_MAX;
use self::mux::{Inbound, Mux, Muxed, Reply};
pub use self::names::{NameTaken, PeerName, PeerNameError, PeerNames};
pub(crate) use self::pipe::{Incoming, Pipe, PipeCommand, PipeId};
pub use self::stream::Stream;

/// Requests that wait for the switchboard; who has another waits, too.
const REQUEST_COUNT_MAX: usize = 64;
/// Streams that wait for a service to take them; a further one is refused.
const ACCEPT_COUNT_MAX: usize = 64;

/// The way to open streams, and to take those that others open.
#[derive(Clone, Debug)]
pub struct Streams {
    requests: mpsc::Sender<Request>,
}

/// Why a stream cannot be opened. The words say what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No service has such a name.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The session with the peer ended before the stream was open.
    #[error("no stream to {}: {why}", .peer.short())]
    Session {
        /// The peer.
        peer: NodeId,
        /// What became of the session.
        why: String,
    },
    /// There are as many streams to the peer as there can be.
    #[error("{STREAM_COUNT_MAX} streams to {} are open, which is all there can be; end one first", .0.short())]
    Full(NodeId),
    /// The node has stopped.
    #[error("this node has stopped")]
    Stopped,
}

/// Streams that others opened to a service, as they come.
#[derive(Debug)]
pub struct Acceptor {
    streams: mpsc::Receiver<Offer>,
}

/// A stream that a peer opened to a service, before it is told that it may.
#[derive(Debug)]
pub struct Offer {
    peer: NodeId,
    stream: Muxed,
}

#[derive(Debug)]
enum Request {
    Open {
        peer: NodeId,
        reply: Reply,
    },
    Accept {
        service: String,
        streams: mpsc::Sender<Offer>,
    },
    Route(Inbound),
    Ended(NodeId),
}

impl Streams {
    /// The streams of a node; `pipes` and `wanted` are its driver's.
    pub(crate) fn start(
        own: NodeId,
        wanted: mpsc::UnboundedSender<PipeCommand>,
        pipes: mpsc::UnboundedReceiver<Pipe>,
    ) -> Self {
        let (requests, receiver) = mpsc::channel(REQUEST_COUNT_MAX);
        let streams = Self { requests };
        let switchboard = Switchboard {
            own,
            wanted,
            pipes,
            requests: receiver,
            // Weak, so that it ends with the last handle.
            to_self: streams.requests.downgrade(),
            muxes: HashMap::new(),
            waiting: HashMap::new(),
            services: HashMap::new(),
        };
        tokio::spawn(switchboard.run());
        streams
    }

    /// Opens a stream to a service of a peer. On a session that is there it takes no
    /// round trip: that the peer has no such service, or refuses, is what the first
    /// read says.
    ///
    /// # Errors
    /// When no service can have that name, or there is no session with the peer.
    pub async fn open(&self, peer: NodeId, service: &str) -> Result<Stream, OpenError> {
        check_service(service)?;
        let (reply, answer) = oneshot::channel();
        let request = Request::Open { peer, reply };
        let sent = self.requests.send(request).await;
        sent.map_err(|_| OpenError::Stopped)?;
        let stream = answer.await.map_err(|_| OpenError::Stopped)??;
        let opened = Stream::open(peer, stream, service).await;
        opened.map_err(|error| OpenError::Session {
            peer,
            why: error.to_string(),
        })
    }

    /// Takes the streams that others open to a service from now on; whoever took them
    /// before takes them no more.
    ///
    /// # Errors
    /// When no service can have that name, or the node has stopped.
    pub async fn accept(&self, service: &str) -> Result<Acceptor, OpenError> {
        check_service(service)?;
        let (streams, receiver) = mpsc::channel(ACCEPT_COUNT_MAX);
        let service = service.to_owned();
        let request = Request::Accept { service, streams };
        let sent = self.requests.send(request).await;
        sent.map_err(|_| OpenError::Stopped)?;
        Ok(Acceptor { streams: receiver })
    }
}

impl Acceptor {
    /// The next stream; none when the node has stopped.
    pub async fn next(&mut self) -> Option<Offer> {
        self.streams.recv().await
    }
}

impl Offer {
    /// Who opened it.
    #[must_use]
    pub const fn peer(&self) -> NodeId {
        self.peer
    }

    /// Takes the stream.
    ///
    /// # Errors
    /// When the stream is gone already.
    pub async fn accept(self) -> std::io::Result<Stream> {
        Stream::accepted(self.peer, self.stream).await
    }

    /// Refuses it, in words of at most 255 bytes for whoever opened it.
    pub async fn refuse(self, why: &str) {
        // One that is gone needs no answer.
        let _ = greeting::refuse(self.stream.stream, why).await;
    }
}

/// Knows who multiplexes what.
struct Switchboard {
    own: NodeId,
    wanted: mpsc::UnboundedSender<PipeCommand>,
    pipes: mpsc::UnboundedReceiver<Pipe>,
    requests: mpsc::Receiver<Request>,
    to_self: mpsc::WeakSender<Request>,
    muxes: HashMap<NodeId, Mux>,
    /// Who waits for a session.
    waiting: HashMap<NodeId, Vec<Reply>>,
    services: HashMap<String, mpsc::Sender<Offer>>,
}

impl Switchboard {
    async fn run(mut self) {
        loop {
            tokio::select! {
                pipe = self.pipes.recv() => match pipe {
                    Some(pipe) => self.on_pipe(pipe),
                    None => return,
                },
                request = self.requests.recv() => match request {
                    Some(request) => self.on_request(request),
                    None => return,
                },
            }
        }
    }

    fn on_pipe(&mut self, pipe: Pipe) {
        let peer = pipe.peer();
        let Some(to_self) = self.to_self.upgrade() else {
            return;
        };
        let mux = Mux::start(self.own, pipe, to_self);
        for reply in self.waiting.remove(&peer).unwrap_or_default() {
            mux.open(reply);
        }
        self.muxes.insert(peer, mux);
    }

    fn on_request(&mut self, request: Request) {
        match request {
            Request::Open { peer, reply } => match self.muxes.get(&peer) {
                Some(mux) if !mux.is_ended() => mux.open(reply),
                _ => {
                    let waiting = self.waiting.entry(peer).or_default();
                    waiting.retain(|reply| !reply.is_closed());
                    waiting.push(reply);
                    let _ = self.wanted.send(PipeCommand::Open(peer));
                }
            },
            Request::Accept { service, streams } => {
                self.services.insert(service, streams);
            }
            Request::Route(inbound) => self.route(inbound),
            Request::Ended(peer) => {
                if self.muxes.get(&peer).is_some_and(Mux::is_ended) {
                    self.muxes.remove(&peer);
                }
            }
        }
    }

    fn route(&self, inbound: Inbound) {
        let Inbound {
            peer,
            service,
            stream,
        } = inbound;
        let offer = Offer { peer, stream };
        let (offer, why) = match self.services.get(&service) {
            None => (offer, "no such service is exposed there"),
            Some(streams) => match streams.try_send(offer) {
                Ok(()) => return,
                Err(mpsc::error::TrySendError::Full(offer)) => {
                    (offer, "the service is busy; try again")
                }
                Err(mpsc::error::TrySendError::Closed(offer)) => {
                    (offer, "no such service is exposed there any more")
                }
            },
        };
        tokio::spawn(async move { offer.refuse(why).await });
    }
}
