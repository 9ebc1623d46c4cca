//! A peer as a library: the same words as in a page.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use roundelay::{Peer, PeerConfig};
//!
//! let peer = Peer::join(PeerConfig::by("http://relay.example:9999".parse()?)).await?;
//! peer.put("chat/hello", "Good morning").await?;
//! let found = peer.get("chat/hello").await?;
//! # Ok(())
//! # }
//! ```

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use roundelay_core::kvs::{
    Condition, Copies, Key, KeyError, List, Mode, Page, Reply, RequestError, Terms, Version,
};
use roundelay_core::status::Status;
use roundelay_core::{NameError, Network, NodeId};

use crate::config::{MemberConfig, NodeConfig, RelayUrl};
use crate::error::RunError;
use crate::handle::Stopped;
use crate::listen;
use crate::member::Driven;
use crate::node;
use crate::streams::{Acceptor, OpenError, Stream, Streams};

/// How long joining may take.
const JOIN_MAX: Duration = Duration::from_secs(30);
/// How often it is looked whether it is done.
const LOOK: Duration = Duration::from_millis(5);

/// What a peer is told at its start.
#[derive(Clone, Debug)]
pub struct PeerConfig {
    /// Relays to join by; without any it begins a ring of its own.
    pub relays: Vec<RelayUrl>,
    /// The network's name.
    pub network: String,
    /// The network's secret; may be empty.
    pub secret: Vec<u8>,
    /// Where it keeps its identity and share; in memory without.
    pub data_dir: Option<PathBuf>,
    /// Its name, for people; may be empty.
    pub name: String,
    /// Where it meets others directly.
    pub udp: SocketAddr,
}

/// A durable member of a ring, in this process. It leaves by [`Peer::leave`]; dropped,
/// it goes at once, without passing on the places of keys that it holds.
#[derive(Debug)]
pub struct Peer {
    driven: Driven,
}

/// A value, and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The value.
    pub value: Vec<u8>,
    /// Its version.
    pub version: Version,
}

/// What a write was acknowledged with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// The version that it has.
    pub version: Version,
    /// The copies that there are.
    pub copies: Copies,
}

/// Why a call failed. The words say what to do.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The peer cannot start.
    #[error(transparent)]
    Start(#[from] RunError),
    /// No network can have that name.
    #[error("no network can be called {0:?}: take 1 to 64 bytes without control characters")]
    Network(String),
    /// It did not become a member in time.
    #[error(
        "not a member after {JOIN_MAX:?}; is a relay there, and is the network's secret right?"
    )]
    NotJoined,
    /// No key can be that.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The store says no.
    #[error("{0:?}")]
    Request(RequestError),
    /// The peer has stopped.
    #[error("this peer has stopped")]
    Stopped,
}

impl From<Stopped> for PeerError {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

impl PeerConfig {
    /// In memory, in the default network, by one relay.
    #[must_use]
    pub fn by(relay: RelayUrl) -> Self {
        Self {
            relays: vec![relay],
            ..Self::default()
        }
    }
}

impl Default for PeerConfig {
    fn default() -> Self {
        Self {
            relays: Vec::new(),
            network: "default".to_owned(),
            secret: Vec::new(),
            data_dir: None,
            name: String::new(),
            udp: (Ipv4Addr::UNSPECIFIED, 0).into(),
        }
    }
}

impl Peer {
    /// Joins a ring, on the current runtime; ready when this returns.
    ///
    /// # Errors
    /// When it cannot start, or is no member after 30 s.
    pub async fn join(config: PeerConfig) -> Result<Self, PeerError> {
        let network = Network::new(&config.network, &config.secret);
        let network = network.map_err(|NameError| PeerError::Network(config.network))?;
        let direct = listen::direct("udp", config.udp).map_err(RunError::from)?;
        let config = NodeConfig {
            network,
            udp: config.udp,
            member: MemberConfig {
                relays: config.relays,
                data_dir: config.data_dir,
                name: config.name,
                ..MemberConfig::default()
            },
        };
        let driven = node::start(config, direct)?;
        let peer = Self { driven };
        let ready = tokio::time::timeout(JOIN_MAX, peer.ready()).await;
        ready.map_err(|_| PeerError::NotJoined)??;
        Ok(peer)
    }

    /// The peer's id.
    #[must_use]
    pub const fn id(&self) -> NodeId {
        self.driven.id
    }

    /// Writes a key in mode `quorum`, at most 1 MiB.
    ///
    /// # Errors
    /// When it is not acknowledged; [`RequestError::OutcomeUnknown`] where it may have
    /// been applied.
    pub async fn put(&self, key: &str, value: impl Into<Vec<u8>>) -> Result<Written, PeerError> {
        self.write(key, Some(value.into()), Mode::Quorum.into())
            .await
    }

    /// Writes a key if it has this version, or, without one, no value.
    ///
    /// # Errors
    /// As [`Peer::put`]; [`RequestError::ConditionFailed`] where it has another.
    pub async fn cas(
        &self,
        key: &str,
        version: Option<Version>,
        value: impl Into<Vec<u8>>,
    ) -> Result<Written, PeerError> {
        let condition = version.map_or(Condition::Absent, Condition::Version);
        self.write(key, Some(value.into()), condition.into()).await
    }

    /// Deletes a key, there or not, in mode `quorum`.
    ///
    /// # Errors
    /// As [`Peer::put`].
    pub async fn delete(&self, key: &str) -> Result<Written, PeerError> {
        self.write(key, None, Mode::Quorum.into()).await
    }

    /// Writes a key, or deletes it without a value, as the terms say.
    ///
    /// # Errors
    /// As [`Peer::put`].
    pub async fn write(
        &self,
        key: &str,
        value: Option<Vec<u8>>,
        terms: Terms,
    ) -> Result<Written, PeerError> {
        let key = Key::new(key)?;
        match self.driven.handle.write(key, value, terms).await? {
            Reply::Written { version, copies } => Ok(Written { version, copies }),
            other => Err(refused(other)),
        }
    }

    /// Reads a key in mode `quorum`.
    ///
    /// # Errors
    /// When nobody who knows can be asked.
    pub async fn get(&self, key: &str) -> Result<Option<Found>, PeerError> {
        self.read(key, Mode::Quorum).await
    }

    /// Reads a key.
    ///
    /// # Errors
    /// As [`Peer::get`].
    pub async fn read(&self, key: &str, mode: Mode) -> Result<Option<Found>, PeerError> {
        match self.driven.handle.get(Key::new(key)?, mode).await? {
            Reply::Found { value, version } => Ok(Some(Found { value, version })),
            Reply::Missing => Ok(None),
            other => Err(refused(other)),
        }
    }

    /// Lists a page of a bucket.
    ///
    /// # Errors
    /// As [`Peer::get`].
    pub async fn list(&self, list: List) -> Result<Page, PeerError> {
        match self.driven.handle.list(list).await? {
            Reply::Listed(page) => Ok(page),
            other => Err(refused(other)),
        }
    }

    /// Opens a stream to a service of another member; see [`Streams::open`].
    ///
    /// # Errors
    /// As there.
    pub async fn open(&self, peer: NodeId, service: &str) -> Result<Stream, OpenError> {
        self.driven.streams.open(peer, service).await
    }

    /// Takes the streams that others open to a service; see [`Streams::accept`].
    ///
    /// # Errors
    /// As there.
    pub async fn accept(&self, service: &str) -> Result<Acceptor, OpenError> {
        self.driven.streams.accept(service).await
    }

    /// The peer's streams, for tasks of their own.
    #[must_use]
    pub const fn streams(&self) -> &Streams {
        &self.driven.streams
    }

    /// Everything about this peer at a glance.
    ///
    /// # Errors
    /// When it has stopped.
    pub async fn status(&self) -> Result<Status, PeerError> {
        Ok(self.driven.handle.status().await?)
    }

    /// Leaves the ring in good order.
    pub async fn leave(self) {
        self.driven.leave().await;
    }

    async fn ready(&self) -> Result<(), PeerError> {
        while !self.status().await?.ready {
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }
}

fn refused(reply: Reply) -> PeerError {
    match reply {
        Reply::Failed(error) => PeerError::Request(error),
        // No call is answered with what another asks for.
        _ => PeerError::Request(RequestError::OutcomeUnknown),
    }
}
