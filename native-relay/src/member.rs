//! A member of a ring as relays and nodes both have one: identity, storage and
//! direct links, under a driver.

use std::path::Path;

use roundelay_core::status::Class;
use roundelay_core::{Config, Identity, Network, Node, NodeId, Record, RingEntry, TOMBSTONE_GRACE};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::clock::{Clock, unix_ms};
use crate::driver::{Driver, Parts, Pipes};
use crate::error::RunError;
use crate::handle::{Command, Handle};
use crate::identity;
use crate::link::direct::DirectLinks;
use crate::signalling::OwnRelay;
use crate::store::{DataDir, Storage};
use crate::streams::Streams;

/// Direct links that a native node holds at once (DESIGN 3).
const DIRECT_BUDGET: usize = 256;

/// What tells one member from another.
#[derive(Debug)]
pub(crate) struct Settings<'a> {
    pub(crate) network: Network,
    pub(crate) name: String,
    pub(crate) relays: Vec<String>,
    pub(crate) entry: RingEntry,
    pub(crate) data_dir: Option<&'a Path>,
}

/// A member that is ready to be driven.
#[derive(Debug)]
pub(crate) struct Member {
    node: Node,
    storage: Storage,
    clock: Clock,
    handle: Handle,
    commands: mpsc::Receiver<Command>,
}

/// A member under its driver.
#[derive(Debug)]
pub(crate) struct Driven {
    pub(crate) id: NodeId,
    pub(crate) handle: Handle,
    pub(crate) streams: Streams,
    task: JoinHandle<()>,
}

impl Member {
    /// Opens the storage and makes the node.
    pub(crate) fn open(settings: Settings<'_>, clock: Clock) -> Result<Self, RunError> {
        let (storage, seed) = match settings.data_dir {
            Some(dir) => {
                let dir = DataDir::open(dir)?;
                let seed = identity::load_or_create(&dir)?;
                let id = Identity::from_seed(&seed).id();
                (Storage::open(dir, &id, unix_ms())?, seed)
            }
            None => (Storage::memory(unix_ms()), identity::random()?),
        };
        let config = Config {
            network: settings.network,
            class: Class::Durable,
            name: settings.name,
            epoch: storage.epoch(),
            relays: settings.relays,
            entry: settings.entry,
            direct_budget: DIRECT_BUDGET,
            tombstone_grace: TOMBSTONE_GRACE,
        };
        let identity = Identity::from_seed(&seed);
        let node = Node::new(identity, config, identity::random()?, clock.moment().now)?;
        let (handle, commands) = Handle::new();
        Ok(Self {
            node,
            storage,
            clock,
            handle,
            commands,
        })
    }

    pub(crate) fn id(&self) -> NodeId {
        self.node.id()
    }

    pub(crate) fn record(&self) -> &Record {
        self.node.record()
    }

    /// Starts its driver.
    pub(crate) fn drive(self, direct: DirectLinks, own_relay: Option<OwnRelay>) -> Driven {
        let id = self.node.id();
        let (pipes, wanted, opened) = Pipes::new();
        let driver = Driver::new(Parts {
            node: self.node,
            storage: self.storage,
            direct: Some(direct),
            own_relay,
            clock: self.clock,
            commands: self.commands,
            pipes,
        });
        Driven {
            id,
            handle: self.handle,
            streams: Streams::start(id, wanted, opened),
            task: tokio::spawn(driver.run()),
        }
    }
}

impl Driven {
    /// Leaves the ring, and waits until the driver has ended.
    pub(crate) async fn leave(self) {
        // A driver that has stopped already has left already.
        let _ = self.handle.leave().await;
        let _ = self.task.await;
    }
}
