//! The flags of `expose`, `forward` and `socks`: a headless node for one purpose.

use std::net::SocketAddr;

use clap::Args;

use super::serving::{NodeArgs, address};
use crate::config::{ConfigError, NodeConfig};
use crate::streams::{Exposed, Forwarded};

/// The flags of `roundelay expose`.
#[derive(Debug, Args)]
pub struct ExposeArgs {
    /// Services of this machine, and the names to reach them by. Ids after an address
    /// allow these peers alone.
    #[arg(value_name = "NAME=HOST:PORT[,ID...]", required_unless_present_any = ["expose", "config"])]
    services: Vec<Exposed>,
    #[command(flatten)]
    node: NodeArgs,
}

/// The flags of `roundelay forward`.
#[derive(Debug, Args)]
pub struct ForwardArgs {
    /// Ports of this machine, and the services that they lead to, by the peers' ids or
    /// names.
    #[arg(value_name = "HOST:PORT=PEER/NAME", required_unless_present_any = ["forward", "config"])]
    ports: Vec<Forwarded>,
    #[command(flatten)]
    node: NodeArgs,
}

/// The flags of `roundelay socks`.
#[derive(Debug, Args)]
pub struct SocksArgs {
    /// Be a SOCKS5 proxy here: hosts NAME.PEER.roundelay are services of members.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:1080", value_parser = address, conflicts_with = "socks")]
    listen: SocketAddr,
    #[command(flatten)]
    node: NodeArgs,
}

impl ExposeArgs {
    /// The configuration of the node, with the files that it names read.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn config(self) -> Result<NodeConfig, ConfigError> {
        let mut config = self.node.config()?;
        config.member.expose.extend(self.services);
        Ok(config)
    }
}

impl ForwardArgs {
    /// The configuration of the node, with the files that it names read.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn config(self) -> Result<NodeConfig, ConfigError> {
        let mut config = self.node.config()?;
        config.member.forward.extend(self.ports);
        Ok(config)
    }
}

impl SocksArgs {
    /// The configuration of the node, with the files that it names read.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn config(self) -> Result<NodeConfig, ConfigError> {
        let mut config = self.node.config()?;
        config.member.socks.get_or_insert(self.listen);
        Ok(config)
    }
}
