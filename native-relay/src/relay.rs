//! The relay: it introduces peers, carries their traffic until they meet
//! directly, serves the page, answers STUN, and is a durable member itself.
//!
//! One task owns core's hub (`hub`); every WebSocket has a task (`ws`). The
//! relay's own member of each network runs the same driver as a node's, and
//! attaches to the hub by a queue in place of a socket.
//!
//! A data directory holds one directory for each network, by its name
//! (`DIR/default/roundelay.redb`), so that networks can be added and removed;
//! bytes of a name other than letters, digits, `-` and `_` are
//! percent-encoded.

mod http;
mod hub;
mod info;
mod page;
mod ws;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;

use self::http::Relay;
use self::info::Info;
use crate::api;
use crate::clock::Clock;
use crate::config::{RelayConfig, RelayUrl};
use crate::error::RunError;
use crate::identity;
use crate::link::direct::DirectLinks;
use crate::listen::{self, Ports};
use crate::member::{Driven, Member, Settings};
use crate::node::serve_streams;
use crate::signalling::OWN_RELAY_URL;
use crate::stun;

/// What a relay listens on.
#[derive(Debug)]
pub struct Listeners {
    /// Page and WebSocket.
    pub page: TcpListener,
    /// STUN, on the same port.
    pub stun: UdpSocket,
    /// The HTTP API, if it is wanted.
    pub http: Option<TcpListener>,
    /// Direct links, one set for each network.
    pub direct: Vec<DirectLinks>,
    /// Ports that lead to services of others, in the first network.
    pub ports: Ports,
}

impl Listeners {
    /// Binds what a configuration names.
    ///
    /// # Errors
    /// When an address cannot be had.
    pub async fn bind(config: &RelayConfig) -> Result<Self, RunError> {
        let page = listen::tcp("--listen", config.listen).await?;
        let http = listen::http(&config.member).await?;
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let networks = config.networks.iter();
        let direct: Result<_, _> = networks.map(|_| listen::direct("UDP", any)).collect();
        Ok(Self {
            // The same port, whichever the system chose for the page.
            stun: listen::udp("--listen", page.local_addr()?).await?,
            page,
            http,
            direct: direct?,
            ports: Ports::bind(&config.member).await?,
        })
    }
}

/// Runs a relay until `shutdown` is ready; then its members leave their rings,
/// and all connections are closed.
///
/// # Errors
/// When it cannot start.
pub async fn run(
    config: RelayConfig,
    listeners: Listeners,
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let clock = Clock::start();
    let members = open_members(&config, clock)?;
    let info = Info::new(&config, &members, listeners.page.local_addr()?);
    tracing::info!("relay {}", info.greeting());
    let networks = config.networks.iter().cloned();
    let networks = networks.zip(members.iter().map(|member| member.record().clone()));
    let (door, hub) = hub::start(networks.collect(), identity::random()?, clock);
    let driven: Vec<Driven> = members
        .into_iter()
        .zip(listeners.direct)
        .map(|(member, direct)| member.drive(direct, Some(door.own_relay())))
        .collect();
    if let Some(first) = driven.first() {
        serve_streams(first, config.member.clone(), listeners.ports).await;
    }
    let handles = driven.iter().map(|driven| driven.handle.clone()).collect();
    let router = http::router(Relay::new(info, door.clone(), handles));

    let (stop, stopped) = watch::channel(false);
    let until = |mut stopped: watch::Receiver<bool>| async move {
        // The sender lives to the end of this function.
        let _ = stopped.wait_for(|stopped| *stopped).await;
    };
    let stun = tokio::spawn(stun::serve(listeners.stun, until(stopped.clone())));
    let http = match (listeners.http, config.member.http, driven.first()) {
        (Some(listener), Some(http), Some(first)) => {
            let (handle, until) = (first.handle.clone(), until(stopped.clone()));
            let served = api::serve(listener, handle, http.options, until);
            Some(tokio::spawn(served))
        }
        _ => None,
    };
    let page = tokio::spawn(api::serve_router(listeners.page, router, until(stopped)));
    shutdown.await;
    tracing::info!("leaving");
    let _ = stop.send(true);
    let _ = page.await;
    if let Some(http) = http {
        let _ = http.await;
    }
    let _ = stun.await;
    futures_util::future::join_all(driven.into_iter().map(Driven::leave)).await;
    door.stop().await;
    let _ = hub.await;
    Ok(())
}

fn open_members(config: &RelayConfig, clock: Clock) -> Result<Vec<Member>, RunError> {
    let own = &config.member;
    let others = own.relays.iter().map(RelayUrl::to_string);
    let relays: Vec<String> = std::iter::once(OWN_RELAY_URL.to_owned())
        .chain(others)
        .collect();
    let open = |network: &roundelay_core::Network| {
        let dir = own.data_dir.as_deref();
        let dir = dir.map(|dir| dir_of(dir, network.name()));
        let settings = Settings {
            network: network.clone(),
            name: own.name.clone(),
            relays: relays.clone(),
            entry: own.entry(),
            data_dir: dir.as_deref(),
        };
        Member::open(settings, clock)
    };
    config.networks.iter().map(open).collect()
}

/// The directory of one network.
fn dir_of(dir: &Path, network: &str) -> PathBuf {
    let mut name = String::new();
    for byte in network.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    dir.join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_network_has_its_own_directory_within() {
        let dir = |network| dir_of(Path::new("d"), network).display().to_string();
        assert_eq!(dir("default"), "d/default");
        assert_eq!(dir(".."), "d/%2E%2E");
        assert_eq!(dir("a/b"), "d/a%2Fb");
        assert_eq!(dir("a%2Fb"), "d/a%252Fb");
    }
}
