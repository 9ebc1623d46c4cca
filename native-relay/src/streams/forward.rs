//! Ports of this machine that lead to services of others: `LISTEN=PEER/NAME`.

use std::fmt::{self, Display, Formatter};
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use roundelay_core::NodeId;
use roundelay_core::status::MemberState;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, TcpStream};

use super::greeting::{ServiceError, check_service};
use super::{OpenError, PeerNames, Stream, Streams};
use crate::handle::Handle;

/// Bytes that are copied at once.
const COPY_BYTES: usize = 64 << 10;
/// The pause after the system gave no connection.
const PAUSE: Duration = Duration::from_millis(100);

/// A port, and where it leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forwarded {
    /// The port of this machine.
    pub listen: SocketAddr,
    /// Where it leads.
    pub target: Target,
}

/// A service of a peer: `PEER/NAME`, the peer by its id, or by the name that it has in
/// the ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    peer: String,
    service: String,
}

/// Why a text names no port and service. The words say what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForwardedError {
    /// It does not have both parts.
    #[error("write HOST:PORT=PEER/NAME, as in 127.0.0.1:2222=PEER/ssh, with a peer's id or name")]
    Form,
    /// Not an address of this machine.
    #[error("{0:?} is no address to listen on: write 127.0.0.1:PORT")]
    Listen(String),
    /// No service can have that name.
    #[error(transparent)]
    Name(#[from] ServiceError),
}

/// A peer is not found by its name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FindError {
    #[error("no member of the ring is called {0:?}; `roundelay ring` lists them")]
    Nobody(String),
    #[error("{1} members of the ring are called {0:?}; name one by its id")]
    Several(String, usize),
    #[error("this node has stopped")]
    Stopped,
}

impl FromStr for Forwarded {
    type Err = ForwardedError;

    fn from_str(text: &str) -> Result<Self, ForwardedError> {
        let (listen, target) = text.split_once('=').ok_or(ForwardedError::Form)?;
        let address = listen.parse();
        Ok(Self {
            listen: address.map_err(|_| ForwardedError::Listen(listen.to_owned()))?,
            target: target.parse()?,
        })
    }
}

impl FromStr for Target {
    type Err = ForwardedError;

    fn from_str(text: &str) -> Result<Self, ForwardedError> {
        let (peer, service) = text.rsplit_once('/').ok_or(ForwardedError::Form)?;
        check_service(service)?;
        if peer.is_empty() {
            return Err(ForwardedError::Form);
        }
        let (peer, service) = (peer.to_owned(), service.to_owned());
        Ok(Self { peer, service })
    }
}

impl Display for Target {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.peer, self.service)
    }
}

/// Opens streams to targets.
#[derive(Clone, Debug)]
pub(crate) struct Forwarder {
    pub(crate) handle: Handle,
    pub(crate) streams: Streams,
    pub(crate) names: Arc<PeerNames>,
}

impl Forwarder {
    /// Leads a port to a service from now on, until the node stops.
    pub(crate) fn serve(self, listener: TcpListener, target: Target) {
        let named = target.to_string();
        serve_each(listener, named, move |client, from| {
            let (forwarder, target) = (self.clone(), target.clone());
            async move {
                if let Err(why) = forwarder.carry(client, &target).await {
                    tracing::warn!("{from} was not led to {target}: {why}");
                }
            }
        });
    }

    async fn carry(&self, client: TcpStream, target: &Target) -> Result<(), String> {
        match self.open(target).await {
            Ok(stream) => {
                join(client, stream).await;
                Ok(())
            }
            Err(why) => {
                reset(&client);
                Err(why)
            }
        }
    }

    /// Opens a stream to a target.
    pub(crate) async fn open(&self, target: &Target) -> Result<Stream, String> {
        let peer = self.find(&target.peer).await;
        let peer = peer.map_err(|error| error.to_string())?;
        let opened = self.streams.open(peer, &target.service).await;
        opened.map_err(|error: OpenError| error.to_string())
    }

    async fn find(&self, peer: &str) -> Result<NodeId, FindError> {
        if let Some(id) = peer.parse().ok().or_else(|| self.names.get(peer)) {
            return Ok(id);
        }
        let ring = self.handle.ring().await.map_err(|_| FindError::Stopped)?;
        let mut found = Vec::new();
        for member in ring.members {
            if member.name == peer && member.state == MemberState::Alive {
                found.push(member.id);
            }
        }
        match found[..] {
            [id] => Ok(id),
            [] => Err(FindError::Nobody(peer.to_owned())),
            _ => Err(FindError::Several(peer.to_owned(), found.len())),
        }
    }
}

/// Serves each connection by a task of its own, from now on.
pub(super) fn serve_each<F>(
    listener: TcpListener,
    what: String,
    serve: impl Fn(TcpStream, SocketAddr) -> F + Send + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((client, from)) => drop(tokio::spawn(serve(client, from))),
                Err(error) => {
                    tracing::warn!(%error, "no connection for {what}");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    });
}

/// Copies both ways until both ends have ended. One that breaks breaks the other, so
/// that nobody takes half for all.
pub(super) async fn join(mut socket: TcpStream, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let _ = socket.set_nodelay(true);
    let copied =
        copy_bidirectional_with_sizes(&mut socket, &mut stream, COPY_BYTES, COPY_BYTES).await;
    if let Err(error) = copied {
        tracing::debug!(%error, "a stream broke");
        reset(&socket);
    }
}

/// The socket's other end is told that it broke, when it is dropped.
fn reset(socket: &TcpStream) {
    let _ = socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_leads_to_a_service_of_a_peer() {
        let forwarded: Forwarded = "127.0.0.1:2222=kitchen/ssh".parse().unwrap();
        assert_eq!(forwarded.listen.port(), 2222);
        assert_eq!(forwarded.target.to_string(), "kitchen/ssh");
        for (bad, words) in [
            ("127.0.0.1:2222", "HOST:PORT=PEER/NAME"),
            ("127.0.0.1:2222=ssh", "HOST:PORT=PEER/NAME"),
            ("2222=kitchen/ssh", "127.0.0.1:PORT"),
            ("127.0.0.1:2222=kitchen/", "1 to 64"),
            ("127.0.0.1:2222=/ssh", "HOST:PORT=PEER/NAME"),
        ] {
            let error = bad.parse::<Forwarded>().unwrap_err().to_string();
            assert!(error.contains(words), "{bad}: {error}");
        }
    }
}
