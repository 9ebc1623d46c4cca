//! The flags of `relay` and `node`.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use clap::Args;
use roundelay_core::{NameError, Network};

use crate::config::{
    ConfigError, HttpConfig, MemberConfig, NetworkFlag, NodeConfig, RelayConfig, RelayUrl,
    checked_name,
};
use crate::streams::{Exit, Exposed, Forwarded, PeerName, PeerNames};

/// The flags of `roundelay relay`.
#[derive(Debug, Args)]
pub struct RelayArgs {
    /// Serve the page, its WebSocket and STUN here.
    #[arg(long, env = "ROUNDELAY_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:9999", value_parser = address)]
    listen: SocketAddr,
    /// A network to serve, as a member of it; repeatable. The file holds its
    /// secret.
    #[arg(
        long = "network",
        env = "ROUNDELAY_NETWORK",
        value_name = "NAME[=SECRETFILE]",
        default_value = "default",
        value_delimiter = ','
    )]
    networks: Vec<NetworkFlag>,
    /// Under which URL pages and other relays reach this one.
    #[arg(long, env = "ROUNDELAY_PUBLIC_URL", value_name = "URL")]
    public_url: Option<RelayUrl>,
    /// The TLS certificate chain. Not built yet.
    #[arg(long, env = "ROUNDELAY_TLS_CERT", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// The TLS certificate's key. Not built yet.
    #[arg(long, env = "ROUNDELAY_TLS_KEY", value_name = "FILE")]
    tls_key: Option<PathBuf>,
    #[command(flatten)]
    common: CommonArgs,
}

/// The flags of `roundelay node`.
#[derive(Debug, Args)]
pub struct NodeArgs {
    /// The network to be a member of.
    #[arg(
        long,
        env = "ROUNDELAY_NETWORK",
        value_name = "NAME",
        default_value = "default", value_parser = network_name
    )]
    network: String,
    /// The file with the network's secret.
    #[arg(long, env = "ROUNDELAY_SECRET_FILE", value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Meet peers directly on this UDP address.
    #[arg(long, env = "ROUNDELAY_UDP", value_name = "ADDR", default_value = "0.0.0.0:0", value_parser = address)]
    udp: SocketAddr,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Args)]
struct CommonArgs {
    /// A relay to join by; repeatable. A URL without a path means /ws.
    #[arg(
        long = "relay",
        env = "ROUNDELAY_RELAY",
        value_name = "URL",
        value_delimiter = ','
    )]
    relays: Vec<RelayUrl>,
    /// Serve the HTTP API here; off by default. Not on loopback, it needs
    /// --token-file.
    #[arg(long, env = "ROUNDELAY_HTTP", value_name = "ADDR", value_parser = address)]
    http: Option<SocketAddr>,
    /// A name under which the HTTP API may be reached besides its address;
    /// repeatable.
    #[arg(
        long = "allow-host",
        env = "ROUNDELAY_ALLOW_HOST",
        value_name = "HOST[:PORT]",
        value_delimiter = ','
    )]
    allow_hosts: Vec<String>,
    /// The file with the bearer token that callers of the HTTP API show.
    #[arg(long, env = "ROUNDELAY_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Keep identity, ring and records here; in memory when absent.
    #[arg(long, env = "ROUNDELAY_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// A name for people.
    #[arg(
        long,
        env = "ROUNDELAY_NAME",
        default_value = "",
        hide_default_value = true
    )]
    name: String,
    /// Start a ring of its own.
    #[arg(long, env = "ROUNDELAY_NEW_RING")]
    new_ring: bool,
    /// Let other members reach a service of this machine by a name; repeatable. Ids
    /// after the address allow these peers alone.
    #[arg(
        long,
        env = "ROUNDELAY_EXPOSE",
        value_name = "NAME=HOST:PORT[,ID...]",
        value_delimiter = ' '
    )]
    expose: Vec<Exposed>,
    /// Lead a port of this machine to a service of another member, named by its id or
    /// its name; repeatable.
    #[arg(
        long,
        env = "ROUNDELAY_FORWARD",
        value_name = "HOST:PORT=PEER/NAME",
        value_delimiter = ' '
    )]
    forward: Vec<Forwarded>,
    /// What a peer is called here, before any name that it has in the ring; repeatable.
    #[arg(
        long = "peer",
        env = "ROUNDELAY_PEER",
        value_name = "NAME=ID",
        value_delimiter = ','
    )]
    peers: Vec<PeerName>,
    /// Be a SOCKS5 proxy here: hosts NAME.PEER.roundelay are services of members.
    #[arg(long, env = "ROUNDELAY_SOCKS", value_name = "ADDR", value_parser = address)]
    socks: Option<SocketAddr>,
    /// Let that proxy lead to this host of the plain internet, too; repeatable, and *
    /// is any. What is not public is reached by its own address alone.
    #[arg(
        long,
        env = "ROUNDELAY_SOCKS_EXIT",
        value_name = "HOST:PORT",
        value_delimiter = ' '
    )]
    socks_exit: Vec<Exit>,
    /// Serve gord-overlay's REST interface here, on loopback.
    #[arg(long, env = "ROUNDELAY_GORD_COMPAT", value_name = "ADDR", value_parser = address)]
    gord_compat: Option<SocketAddr>,
    /// Answer a missing key there as gord-overlay does, with 500.
    #[arg(long, env = "ROUNDELAY_GORD_ERRORS", requires = "gord_compat")]
    gord_errors: bool,
    /// A TOML file with settings by the names of these flags.
    #[arg(long, env = "ROUNDELAY_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl RelayArgs {
    /// The configuration, with the files that it names read.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn config(self) -> Result<RelayConfig, ConfigError> {
        if self.tls_cert.is_some() || self.tls_key.is_some() {
            return Err(ConfigError::TlsNotBuilt);
        }
        Ok(RelayConfig {
            listen: self.listen,
            networks: NetworkFlag::load_all(&self.networks)?,
            public_url: self.public_url,
            member: self.common.config()?,
        })
    }
}

impl NodeArgs {
    /// The configuration, with the files that it names read.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn config(self) -> Result<NodeConfig, ConfigError> {
        let network = NetworkFlag {
            name: self.network,
            secret_file: self.secret_file,
        };
        Ok(NodeConfig {
            network: network.load()?,
            udp: self.udp,
            member: self.common.config()?,
        })
    }
}

impl CommonArgs {
    fn config(self) -> Result<MemberConfig, ConfigError> {
        let (hosts, token_file) = (self.allow_hosts, self.token_file);
        let load = |listen| HttpConfig::load(listen, hosts, token_file.as_deref());
        if let Some(open) = self.gord_compat.filter(|gord| !gord.ip().is_loopback()) {
            return Err(ConfigError::GordOpen(open));
        }
        Ok(MemberConfig {
            relays: self.relays,
            http: self.http.map(load).transpose()?,
            data_dir: self.data_dir,
            name: checked_name(self.name)?,
            new_ring: self.new_ring,
            expose: self.expose,
            forward: self.forward,
            peers: PeerNames::new(self.peers)?,
            socks: self.socks,
            socks_exits: self.socks_exit,
            gord: self.gord_compat,
            gord_errors: self.gord_errors,
        })
    }
}

fn network_name(text: &str) -> Result<String, NameError> {
    Network::new(text, b"").map(|network| network.name().to_owned())
}

/// An address to listen on, by number or name.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    let named = || text.to_socket_addrs().ok()?.next();
    text.parse().ok().or_else(named).ok_or_else(|| {
        "an address has a host and a port of this machine, as in 127.0.0.1:9101".to_owned()
    })
}
