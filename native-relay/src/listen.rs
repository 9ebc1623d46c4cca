//! Binding the addresses of a relay or node, with words for what goes wrong.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, UdpSocket};

use crate::config::MemberConfig;
use crate::link::direct::{DirectConfig, DirectLinks};
use crate::streams::Target;

/// Why an address cannot be listened on. The words say what to do.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody else has the port.
    #[error(
        "port {port} of {flag} {address} is in use by another program; stop that one, or choose another port with {flag}",
        port = .address.port()
    )]
    InUse {
        /// The flag that names the address.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
    },
    /// The system refuses.
    #[error("cannot listen on {flag} {address}: {source}; choose another address of this machine")]
    Refused {
        /// The flag that names the address.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

/// Binds a TCP listener.
///
/// # Errors
/// When the system refuses.
pub async fn tcp(flag: &'static str, address: SocketAddr) -> Result<TcpListener, ListenError> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|source| refused(flag, address, source))
}

/// Binds the listener of the HTTP API, if one is wanted.
///
/// # Errors
/// When the system refuses.
pub async fn http(config: &MemberConfig) -> Result<Option<TcpListener>, ListenError> {
    match &config.http {
        Some(http) => tcp("--http", http.listen).await.map(Some),
        None => Ok(None),
    }
}

/// Ports that lead to services of other members.
#[derive(Debug)]
pub struct Ports {
    /// Ports, and where they lead.
    pub forward: Vec<(TcpListener, Target)>,
    /// The SOCKS5 proxy, if one is wanted.
    pub socks: Option<TcpListener>,
    /// gord-overlay's interface, likewise.
    pub gord: Option<TcpListener>,
}

impl Ports {
    /// Binds what a configuration names.
    ///
    /// # Errors
    /// When the system refuses one.
    pub async fn bind(config: &MemberConfig) -> Result<Self, ListenError> {
        let mut forward = Vec::new();
        for forwarded in &config.forward {
            let listener = tcp("--forward", forwarded.listen).await?;
            forward.push((listener, forwarded.target.clone()));
        }
        Ok(Self {
            forward,
            socks: wanted("--socks", config.socks).await?,
            gord: wanted("--gord-compat", config.gord).await?,
        })
    }
}

async fn wanted(
    flag: &'static str,
    address: Option<SocketAddr>,
) -> Result<Option<TcpListener>, ListenError> {
    match address {
        Some(address) => tcp(flag, address).await.map(Some),
        None => Ok(None),
    }
}

/// Binds a UDP socket.
///
/// # Errors
/// When the system refuses.
pub async fn udp(flag: &'static str, address: SocketAddr) -> Result<UdpSocket, ListenError> {
    let bound = UdpSocket::bind(address).await;
    bound.map_err(|source| refused(flag, address, source))
}

/// Binds the UDP port of a node's direct links.
///
/// # Errors
/// When the system refuses.
pub fn direct(flag: &'static str, address: SocketAddr) -> Result<DirectLinks, ListenError> {
    let bound = DirectLinks::bind(&DirectConfig { bind: address });
    bound.map_err(|source| refused(flag, address, source))
}

fn refused(flag: &'static str, address: SocketAddr, source: io::Error) -> ListenError {
    match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::InUse { flag, address },
        _ => ListenError::Refused {
            flag,
            address,
            source,
        },
    }
}
