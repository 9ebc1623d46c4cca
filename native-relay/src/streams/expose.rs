//! Services of this machine that others may reach: `NAME=ADDRESS`.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};
use std::str::FromStr;
use std::time::Duration;

use roundelay_core::{NodeId, ParseIdError};
use tokio::net::TcpStream;

use super::forward::join;
use super::greeting::{ServiceError, check_service};
use super::{Acceptor, Offer, OpenError, Streams};

/// How long a service may take to answer.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// A service, where it is, and who may reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposed {
    name: String,
    /// Host and port, as the system resolves them.
    target: String,
    /// Nobody named: everybody in the network.
    allowed: BTreeSet<NodeId>,
}

/// Why a text names no service. The words say what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExposedError {
    /// It has no name or no address.
    #[error(
        "write NAME=HOST:PORT, as in ssh=127.0.0.1:22, and =HOST:PORT,ID,ID to allow these peers alone"
    )]
    Form,
    /// No service can have that name.
    #[error(transparent)]
    Name(#[from] ServiceError),
    /// Not a host and a port.
    #[error("{0:?} is no address: write HOST:PORT, as in 127.0.0.1:22")]
    Address(String),
    /// Not a peer's id.
    #[error("{0:?} is no peer's id: {1}")]
    Peer(String, ParseIdError),
}

impl FromStr for Exposed {
    type Err = ExposedError;

    fn from_str(text: &str) -> Result<Self, ExposedError> {
        let (name, rest) = text.split_once('=').ok_or(ExposedError::Form)?;
        check_service(name)?;
        let mut parts = rest.split(',');
        let target = parts.next().unwrap_or_default();
        let port = target.rsplit_once(':').map(|(_, port)| port);
        let port = port.and_then(|port| port.parse::<u16>().ok());
        if port.is_none_or(|port| port == 0) || target.starts_with(':') {
            return Err(ExposedError::Address(target.to_owned()));
        }
        let id = |text: &str| {
            let id = text.parse();
            id.map_err(|error| ExposedError::Peer(text.to_owned(), error))
        };
        Ok(Self {
            name: name.to_owned(),
            target: target.to_owned(),
            allowed: parts.map(id).collect::<Result<_, _>>()?,
        })
    }
}

impl Display for Exposed {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.target)
    }
}

impl Exposed {
    /// Serves it from now on, until the node stops.
    pub(crate) async fn serve(self, streams: &Streams) -> Result<(), OpenError> {
        let acceptor = streams.accept(&self.name).await?;
        tokio::spawn(self.run(acceptor));
        Ok(())
    }

    async fn run(self, mut acceptor: Acceptor) {
        while let Some(offer) = acceptor.next().await {
            let may = self.allowed.is_empty() || self.allowed.contains(&offer.peer());
            let service = self.clone();
            tokio::spawn(async move {
                match may {
                    true => service.connect(offer).await,
                    false => offer.refuse("this peer is not allowed there").await,
                }
            });
        }
    }

    async fn connect(self, offer: Offer) {
        let peer = offer.peer();
        let connecting = tokio::time::timeout(CONNECT_MAX, TcpStream::connect(&self.target));
        let target = match connecting.await {
            Ok(Ok(target)) => target,
            Ok(Err(error)) => {
                tracing::warn!("{self} cannot be reached for {}: {error}", peer.short());
                return offer.refuse("the service does not answer").await;
            }
            Err(_) => return offer.refuse("the service does not answer in time").await,
        };
        tracing::debug!("{self} is reached by {peer}");
        if let Ok(stream) = offer.accept().await {
            join(target, stream).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roundelay_core::Identity;

    #[test]
    fn a_service_has_a_name_an_address_and_perhaps_peers() {
        let id = Identity::from_seed(&[1; 32]).id();
        let exposed: Exposed = format!("ssh=127.0.0.1:22,{id}").parse().unwrap();
        assert_eq!(exposed.to_string(), "ssh=127.0.0.1:22");
        assert_eq!(exposed.allowed, [id].into());
        let open: Exposed = "web=[::1]:80".parse().unwrap();
        assert!(open.allowed.is_empty());
        for (bad, words) in [
            ("ssh", "NAME=HOST:PORT"),
            ("a/b=127.0.0.1:22", "letters"),
            ("ssh=127.0.0.1", "HOST:PORT"),
            ("ssh=:22", "HOST:PORT"),
            ("ssh=host:0", "HOST:PORT"),
            ("ssh=host:22,nobody", "nobody"),
        ] {
            let error = bad.parse::<Exposed>().unwrap_err().to_string();
            assert!(error.contains(words), "{bad}: {error}");
        }
    }
}
