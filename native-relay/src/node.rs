//! The headless node: a durable member with a local HTTP API.

use tokio::net::TcpListener;

use crate::api;
use crate::clock::Clock;
use crate::config::{MemberConfig, NodeConfig, RelayUrl};
use crate::error::RunError;
use crate::gord;
use crate::link::direct::DirectLinks;
use crate::listen::{self, Ports};
use crate::member::{Driven, Member, Settings};
use crate::streams::{Forwarder, socks};

/// What a node listens on.
#[derive(Debug)]
pub struct Listeners {
    /// The HTTP API, if it is wanted.
    pub http: Option<TcpListener>,
    /// Direct links.
    pub direct: DirectLinks,
    /// Ports that lead to services of others.
    pub ports: Ports,
}

impl Listeners {
    /// Binds what a configuration names.
    ///
    /// # Errors
    /// When an address cannot be had.
    pub async fn bind(config: &NodeConfig) -> Result<Self, RunError> {
        let http = listen::http(&config.member).await?;
        let direct = listen::direct("--udp", config.udp)?;
        let ports = Ports::bind(&config.member).await?;
        Ok(Self {
            http,
            direct,
            ports,
        })
    }
}

/// Runs a node until `shutdown` is ready; then it serves the requests under
/// way, leaves the ring and closes its storage.
///
/// # Errors
/// When it cannot start.
pub async fn run(
    config: NodeConfig,
    listeners: Listeners,
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let udp = listeners.direct.local_addr();
    let own = &config.member;
    let relays: Vec<String> = own.relays.iter().map(RelayUrl::to_string).collect();
    let relays = match relays.is_empty() {
        true => "no relay".to_owned(),
        false => format!("by {}", relays.join(", ")),
    };
    let http = listeners.http.zip(own.http.clone());
    let member = config.member.clone();
    let driven = start(config, listeners.direct)?;
    serve_streams(&driven, member, listeners.ports).await;
    let id = driven.id;
    match http {
        Some((listener, http)) => {
            let address = listener.local_addr()?;
            tracing::info!(%udp, "node {id}, http://{address}, {relays}");
            api::serve(listener, driven.handle.clone(), http.options, shutdown).await?;
        }
        None => {
            tracing::info!(%udp, "node {id}, no HTTP API, {relays}");
            shutdown.await;
        }
    }
    tracing::info!("leaving the ring");
    driven.leave().await;
    Ok(())
}

/// Begins to serve what a member exposes, and to lead ports to services of others.
pub(crate) async fn serve_streams(driven: &Driven, config: MemberConfig, ports: Ports) {
    for service in config.expose {
        tracing::info!("exposing {service}");
        // A node that has stopped exposes nothing.
        let _ = service.serve(&driven.streams).await;
    }
    let forwarder = Forwarder {
        handle: driven.handle.clone(),
        streams: driven.streams.clone(),
        names: config.peers.into(),
    };
    for (listener, target) in ports.forward {
        if let Ok(address) = listener.local_addr() {
            tracing::info!("{address} leads to {target}");
        }
        forwarder.clone().serve(listener, target);
    }
    if let Some(listener) = ports.socks {
        if let Ok(address) = listener.local_addr() {
            tracing::info!("{address} is a SOCKS5 proxy to NAME.PEER.roundelay");
        }
        socks::serve(listener, forwarder, config.socks_exits);
    }
    if let Some(listener) = ports.gord {
        gord::serve(listener, driven.handle.clone(), config.gord_errors);
    }
}

/// Starts a node's driver on the current runtime, without an HTTP API.
pub(crate) fn start(config: NodeConfig, direct: DirectLinks) -> Result<Driven, RunError> {
    let own = config.member;
    let settings = Settings {
        network: config.network,
        entry: own.entry(),
        name: own.name,
        relays: own.relays.iter().map(RelayUrl::to_string).collect(),
        data_dir: own.data_dir.as_deref(),
    };
    Ok(Member::open(settings, Clock::start())?.drive(direct, None))
}
