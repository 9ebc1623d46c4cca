//! Members within this process, each on a thread of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use roundelay_core::kvs::Key;
use roundelay_core::{Network, NodeId};
use tokio::sync::oneshot;

use super::BenchError;
use super::ring::free_address;
use crate::config::{MemberConfig, NodeConfig, RelayConfig, RelayUrl};
use crate::error::RunError;
use crate::handle::Handle;
use crate::link::direct::{DirectConfig, DirectLinks};
use crate::streams::Streams;
use crate::{node, relay};

/// How long a ring may take to come up.
const DEADLINE: Duration = Duration::from_secs(30);

/// A member on a thread; it leaves, and the thread ends, with this.
#[derive(Debug)]
pub(super) struct Local {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Local {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been told already.
            let _ = thread.join();
        }
    }
}

impl Local {
    /// Runs a future on a thread of its own until it ends; it is told when it
    /// shall.
    fn run<F>(serve: impl FnOnce(oneshot::Receiver<()>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<(), RunError>>,
    {
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let served = super::runtime()
                .map_err(RunError::from)
                .and_then(|runtime| runtime.block_on(serve(stopped)));
            if let Err(error) = served {
                eprintln!("roundelay: {error}");
            }
        });
        Self {
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Starts a relay, and tells the URL to join it by.
    pub(super) fn relay(data_dir: Option<PathBuf>) -> Result<(Self, String), BenchError> {
        let listen: SocketAddr = free_address()?
            .parse()
            .map_err(|_| BenchError::Answer("loopback has no address".to_owned()))?;
        let config = RelayConfig {
            listen,
            networks: vec![network()?],
            public_url: None,
            member: member(Vec::new(), data_dir),
        };
        let local = Self::run(|stopped| async move {
            let listeners = relay::Listeners::bind(&config).await?;
            let stopped = async { drop(stopped.await) };
            relay::run(config, listeners, stopped).await
        });
        Ok((local, format!("http://{listen}")))
    }

    /// Starts a node that joins by a relay. The handle is there once the
    /// node's driver runs.
    pub(super) fn node(
        relay: &str,
        data_dir: Option<PathBuf>,
    ) -> Result<(Self, Handle), BenchError> {
        let (local, node) = Self::streaming(relay, data_dir)?;
        Ok((local, node.handle))
    }

    /// The same, with all that streams need.
    pub(super) fn streaming(
        relay: &str,
        data_dir: Option<PathBuf>,
    ) -> Result<(Self, LocalNode), BenchError> {
        let relay: RelayUrl = relay.parse().map_err(|error| {
            BenchError::Answer(format!("{relay} cannot be a relay's URL: {error}"))
        })?;
        let config = NodeConfig {
            network: network()?,
            udp: SocketAddr::from(([127, 0, 0, 1], 0)),
            member: member(vec![relay], data_dir),
        };
        let (started, node) = std::sync::mpsc::channel();
        let local = Self::run(|stopped| async move {
            let direct = DirectLinks::bind(&DirectConfig { bind: config.udp })?;
            let driven = node::start(config, direct)?;
            // Whoever asked waits for it below.
            let _ = started.send(LocalNode {
                id: driven.id,
                handle: driven.handle.clone(),
                streams: driven.streams.clone(),
                runtime: tokio::runtime::Handle::current(),
            });
            let _ = stopped.await;
            driven.leave().await;
            Ok(())
        });
        let node = node.recv();
        let node = node.map_err(|_| BenchError::Answer("a node did not start".to_owned()))?;
        Ok((local, node))
    }
}

/// A node of this process, and the runtime that it runs on.
#[derive(Clone, Debug)]
pub(super) struct LocalNode {
    pub(super) id: NodeId,
    pub(super) handle: Handle,
    pub(super) streams: Streams,
    pub(super) runtime: tokio::runtime::Handle,
}

/// A relay and nodes in this process; the nodes' handles.
#[derive(Debug)]
pub(super) struct LocalRing {
    // The nodes leave first.
    _nodes: Vec<Local>,
    _relay: Local,
    pub(super) handles: Vec<Handle>,
}

impl LocalRing {
    /// Starts a relay and two nodes, and waits until they are whole.
    pub(super) fn start(disk: Option<&Path>) -> Result<Self, BenchError> {
        let dir = |name: &str| disk.map(|disk| disk.join(name));
        let (relay, url) = Local::relay(dir("relay"))?;
        let (mut nodes, mut handles) = (Vec::new(), Vec::new());
        for name in ["node-1", "node-2"] {
            let (node, handle) = Local::node(&url, dir(name))?;
            nodes.push(node);
            handles.push(handle);
        }
        let ring = Self {
            _nodes: nodes,
            _relay: relay,
            handles,
        };
        super::runtime()?.block_on(ring.wait())?;
        Ok(ring)
    }

    async fn wait(&self) -> Result<(), BenchError> {
        let start = Instant::now();
        for handle in &self.handles {
            while !is_whole(handle).await {
                if start.elapsed() > DEADLINE {
                    return Err(BenchError::Waited(DEADLINE, "a whole ring"));
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        Ok(())
    }
}

async fn is_whole(handle: &Handle) -> bool {
    let Ok(key) = Key::new("bench") else {
        return false;
    };
    let (Ok(status), Ok(location)) = (handle.status().await, handle.locate(key).await) else {
        return false;
    };
    let links = status.links.iter();
    let direct = links.filter(|link| link.kind == roundelay_core::status::LinkKind::Direct);
    status.ready
        && status.store.under_replicated == 0
        && location.voters.len() == 3
        && direct.count() == 2
}

fn member(relays: Vec<RelayUrl>, data_dir: Option<PathBuf>) -> MemberConfig {
    MemberConfig {
        relays,
        data_dir,
        name: "bench".to_owned(),
        ..MemberConfig::default()
    }
}

fn network() -> Result<Network, BenchError> {
    Network::new("default", b"").map_err(|error| BenchError::Answer(format!("{error:?}")))
}
