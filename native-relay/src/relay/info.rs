//! `/info`: what a page or node should know before it attaches.

use std::net::SocketAddr;

use axum::http::Uri;
use roundelay_core::{Network, NodeId};
use serde::Serialize;

use crate::config::{RelayConfig, RelayUrl};
use crate::member::Member;

/// What is known at the start.
#[derive(Debug)]
pub(super) struct Info {
    networks: Vec<NetworkInfo>,
    public_url: Option<RelayUrl>,
    listen: SocketAddr,
}

/// One network that is served.
#[derive(Clone, Debug, Serialize)]
struct NetworkInfo {
    /// Its name.
    network: String,
    /// The relay's own member of it.
    id: String,
    /// Whether a secret is needed to attach.
    secret_required: bool,
}

/// The answer: the first network's fields at its top.
#[derive(Debug, Serialize)]
pub(super) struct Answer<'a> {
    network: &'a str,
    id: &'a str,
    secret_required: bool,
    stun: String,
    public_url: Option<&'a str>,
    networks: &'a [NetworkInfo],
}

impl Info {
    pub(super) fn new(config: &RelayConfig, members: &[Member], listen: SocketAddr) -> Self {
        let of = |(network, member): (&Network, &Member)| network_info(network, member.id());
        Self {
            networks: config.networks.iter().zip(members).map(of).collect(),
            public_url: config.public_url.clone(),
            listen,
        }
    }

    /// What the log says at the start.
    pub(super) fn greeting(&self) -> String {
        let networks = self.networks.iter();
        let ids: Vec<String> = networks
            .map(|info| format!("{} in network {}", info.id, info.network))
            .collect();
        format!("{}: http://{}/", ids.join(", "), self.listen)
    }

    /// The answer to somebody who reached this relay under a name.
    pub(super) fn answer(&self, host: Option<&str>) -> Option<Answer<'_>> {
        let first = self.networks.first()?;
        Some(Answer {
            network: &first.network,
            id: &first.id,
            secret_required: first.secret_required,
            stun: self.stun(host),
            public_url: self.public_url.as_ref().map(RelayUrl::as_str),
            networks: &self.networks,
        })
    }

    /// STUN is on the listen port, under the public name if there is one, else
    /// under that by which the relay was just reached.
    fn stun(&self, host: Option<&str>) -> String {
        let public = self.public_url.as_ref().map(RelayUrl::as_str);
        let public = public.and_then(host_of_url);
        let reached = || host.and_then(|host| host_of_url(&format!("http://{host}/")));
        let host = public.or_else(reached);
        match host {
            Some(host) => format!("{host}:{}", self.listen.port()),
            None => self.listen.to_string(),
        }
    }
}

fn network_info(network: &Network, id: NodeId) -> NetworkInfo {
    let open = Network::new(network.name(), b"");
    NetworkInfo {
        network: network.name().to_owned(),
        id: id.to_string(),
        secret_required: open.as_ref() != Ok(network),
    }
}

fn host_of_url(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    uri.host().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(public_url: Option<&str>) -> Info {
        let id = NodeId::from_bytes([1; 32]);
        let open = Network::new("default", b"").unwrap();
        let closed = Network::new("b", b"secret").unwrap();
        Info {
            networks: vec![network_info(&open, id), network_info(&closed, id)],
            public_url: public_url.map(|url| url.parse().unwrap()),
            listen: "0.0.0.0:9999".parse().unwrap(),
        }
    }

    #[test]
    fn stun_is_where_the_relay_is_reached() {
        let stun = |url, host| info(url).answer(host).unwrap().stun;
        assert_eq!(stun(None, None), "0.0.0.0:9999");
        assert_eq!(stun(None, Some("127.0.0.1:8080")), "127.0.0.1:9999");
        assert_eq!(stun(None, Some("[::1]:8080")), "[::1]:9999");
        let public = Some("https://relay.example");
        assert_eq!(stun(public, Some("127.0.0.1")), "relay.example:9999");
    }

    #[test]
    fn the_first_network_is_at_the_top() {
        let info = info(None);
        let answer = serde_json::to_value(info.answer(None).unwrap()).unwrap();
        assert_eq!(answer["network"], "default");
        assert_eq!(answer["secret_required"], false);
        assert_eq!(answer["networks"][1]["secret_required"], true);
        assert_eq!(answer["public_url"], serde_json::Value::Null);
    }
}
