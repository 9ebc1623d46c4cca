//! The task that owns core's hub, and the door to it.
//!
//! Sockets hand their frames in by a bounded queue: when the hub has no time
//! they are read more slowly. What the hub sends is bounded by its own limit
//! on bytes that wait for one connection (it cuts off who reads too slowly),
//! so the queues to the sockets need no other.

use std::collections::HashMap;
use std::time::Duration;

use roundelay_core::hub::{ConnectionId, Hub, HubLimits, HubOutput};
use roundelay_core::{Input, Lane, LinkId, Network, Record};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::signalling::{ConnectionIds, FromMember, Lots, OwnRelay};

/// Messages of all sockets that wait for the hub before they are read no more.
const SOCKET_QUEUE_LEN: usize = 256;
/// How long closing all connections may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Messages taken in at once from each queue.
const BATCH: usize = 128;

/// What sockets, and whoever watches, tell the hub.
#[derive(Debug)]
pub(super) enum ToHub {
    /// A new connection.
    Open {
        connection: ConnectionId,
        outlet: SocketOutlet,
    },
    /// A message.
    Frame {
        connection: ConnectionId,
        bytes: Vec<u8>,
    },
    /// Bytes were written.
    Drained {
        connection: ConnectionId,
        bytes: usize,
    },
    /// A connection ended.
    Closed { connection: ConnectionId },
    /// Somebody wants to know.
    Figures(oneshot::Sender<Figures>),
    /// Close all connections, and end.
    Stop(oneshot::Sender<()>),
}

/// How the hub reaches a socket's task.
#[derive(Debug)]
pub(super) struct SocketOutlet {
    pub(super) messages: mpsc::UnboundedSender<ToSocket>,
    /// Until when the socket is not to be read.
    pub(super) pause: watch::Sender<Option<Instant>>,
}

/// What the hub tells a socket's task.
#[derive(Debug)]
pub(super) enum ToSocket {
    /// Send this.
    Send(Vec<u8>),
    /// Close, and say why.
    Close(String),
}

/// The hub's figures.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures {
    pub(super) attached: usize,
    pub(super) counters: Vec<(&'static str, u64)>,
}

/// The way to the hub. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct HubDoor {
    sockets: mpsc::Sender<ToHub>,
    members: mpsc::UnboundedSender<FromMember>,
    ids: ConnectionIds,
}

impl HubDoor {
    /// A number for a new connection.
    pub(super) fn next_connection(&self) -> ConnectionId {
        self.ids.next()
    }

    /// The door for a member of this process.
    pub(super) fn own_relay(&self) -> OwnRelay {
        OwnRelay::new(self.members.clone(), self.ids.clone())
    }

    /// Tells the hub something; `false` when it has stopped.
    pub(super) async fn tell(&self, message: ToHub) -> bool {
        self.sockets.send(message).await.is_ok()
    }

    /// The hub's figures; all zero when it has stopped.
    pub(super) async fn figures(&self) -> Figures {
        let (reply, figures) = oneshot::channel();
        self.tell(ToHub::Figures(reply)).await;
        figures.await.unwrap_or_default()
    }

    /// Closes all connections, and waits until that is said to all.
    pub(super) async fn stop(&self) {
        let (reply, stopped) = oneshot::channel();
        self.tell(ToHub::Stop(reply)).await;
        let _ = stopped.await;
    }
}

/// Starts the hub's task.
pub(super) fn start(
    networks: Vec<(Network, Record)>,
    seed: [u8; 32],
    clock: Clock,
) -> (HubDoor, JoinHandle<()>) {
    let (sockets, from_sockets) = mpsc::channel(SOCKET_QUEUE_LEN);
    let (members, from_members) = mpsc::unbounded_channel();
    let task = HubTask {
        hub: Hub::new(networks, HubLimits::default(), seed),
        outlets: HashMap::new(),
        clock,
        stopping: None,
    };
    let door = HubDoor {
        sockets,
        members,
        ids: ConnectionIds::default(),
    };
    (door, tokio::spawn(task.run(from_sockets, from_members)))
}

#[derive(Debug)]
enum Outlet {
    Socket(SocketOutlet),
    Member {
        link: LinkId,
        inputs: mpsc::UnboundedSender<Input>,
        taken: Lots,
    },
}

struct HubTask {
    hub: Hub,
    outlets: HashMap<ConnectionId, Outlet>,
    clock: Clock,
    stopping: Option<oneshot::Sender<()>>,
}

impl HubTask {
    async fn run(
        mut self,
        mut sockets: mpsc::Receiver<ToHub>,
        mut members: mpsc::UnboundedReceiver<FromMember>,
    ) {
        loop {
            let deadline = self.hub.poll_timeout();
            let moment = self.clock.moment();
            let wake = deadline.map(|at| self.clock.instant(at, moment.instant));
            tokio::select! {
                Some(message) = sockets.recv() => self.on_socket(message),
                Some(message) = members.recv() => self.on_member(message),
                () = sleep_until(wake) => {}
            }
            for _ in 0..BATCH {
                match members.try_recv() {
                    Ok(message) => self.on_member(message),
                    Err(_) => break,
                }
            }
            for _ in 0..BATCH {
                match sockets.try_recv() {
                    Ok(message) => self.on_socket(message),
                    Err(_) => break,
                }
            }
            self.hub.on_timeout(self.clock.moment().now.mono);
            self.carry_out();
            if let Some(asked) = self.stopping.take() {
                // Those that still have something to say find the door shut.
                drop((sockets, members));
                let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.close_all()).await;
                let _ = asked.send(());
                return;
            }
        }
    }

    fn on_socket(&mut self, message: ToHub) {
        match message {
            ToHub::Open { connection, outlet } => {
                self.outlets.insert(connection, Outlet::Socket(outlet));
                self.hub.on_open(connection, self.clock.moment().now.mono);
            }
            ToHub::Frame { connection, bytes } => {
                let now = self.clock.moment().now.mono;
                self.hub.on_frame(connection, &bytes, now);
            }
            ToHub::Drained { connection, bytes } => self.hub.on_drained(connection, bytes),
            ToHub::Closed { connection } => self.on_closed(connection),
            ToHub::Figures(reply) => {
                let _ = reply.send(Figures {
                    attached: self.hub.attached_count(),
                    counters: self.hub.counters().collect(),
                });
            }
            ToHub::Stop(reply) => self.stopping = Some(reply),
        }
        self.carry_out();
    }

    fn on_member(&mut self, message: FromMember) {
        match message {
            FromMember::Open {
                connection,
                link,
                inputs,
            } => {
                let taken = Lots::default();
                let outlet = Outlet::Member {
                    link,
                    inputs,
                    taken,
                };
                self.outlets.insert(connection, outlet);
                self.hub.on_open(connection, self.clock.moment().now.mono);
            }
            FromMember::Frame {
                connection,
                lane,
                bytes,
            } => {
                let now = self.clock.moment().now.mono;
                self.hub.on_frame(connection, &bytes, now);
                self.report(connection, lane, bytes.len());
            }
            FromMember::Drained { connection, bytes } => self.hub.on_drained(connection, bytes),
            FromMember::Closed { connection } => self.on_closed(connection),
        }
        self.carry_out();
    }

    fn report(&mut self, connection: ConnectionId, lane: Lane, bytes: usize) {
        if let Some(Outlet::Member {
            link,
            inputs,
            taken,
        }) = self.outlets.get_mut(&connection)
            && let Some(bytes) = taken.add(lane, bytes)
        {
            let link = *link;
            let _ = inputs.send(Input::Drained { link, lane, bytes });
        }
    }

    fn on_closed(&mut self, connection: ConnectionId) {
        self.outlets.remove(&connection);
        self.hub.on_close(connection);
    }

    /// Does what the hub wants. Who is gone will tell so by itself.
    fn carry_out(&mut self) {
        while let Some(output) = self.hub.poll_output() {
            match output {
                HubOutput::Send { connection, bytes } => match self.outlets.get(&connection) {
                    Some(Outlet::Socket(socket)) => {
                        let _ = socket.messages.send(ToSocket::Send(bytes));
                    }
                    Some(Outlet::Member { link, inputs, .. }) => {
                        let link = *link;
                        let _ = inputs.send(Input::Frame { link, bytes });
                    }
                    None => {}
                },
                HubOutput::Pause { connection, until } => {
                    // Pauses keep strangers from crowding out others. The
                    // relay's own member cannot: what it has on its way here
                    // is bounded by its lanes, and each turn takes no more
                    // from it than from the sockets.
                    if let Some(Outlet::Socket(socket)) = self.outlets.get(&connection) {
                        let from = self.clock.moment().instant;
                        let until = self.clock.instant(until, from);
                        socket.pause.send_replace(Some(until.into()));
                    }
                }
                HubOutput::Close { connection, why } => {
                    tracing::debug!(connection = connection.0, %why, "a connection is refused");
                    if let Some(outlet) = self.outlets.remove(&connection) {
                        outlet.close(&why.to_string());
                    }
                }
            }
        }
    }

    /// Closes all connections, and waits until what was sent has left.
    async fn close_all(&mut self) {
        for outlet in self.outlets.values() {
            outlet.close("the relay is stopping");
        }
        for (_, outlet) in self.outlets.drain() {
            if let Outlet::Socket(socket) = outlet {
                socket.messages.closed().await;
            }
        }
    }
}

impl Outlet {
    fn close(&self, why: &str) {
        let why = why.to_owned();
        match self {
            Self::Socket(socket) => {
                let _ = socket.messages.send(ToSocket::Close(why));
            }
            Self::Member { link, inputs, .. } => {
                let (link, reason) = (*link, why);
                let _ = inputs.send(Input::LinkDown { link, reason });
            }
        }
    }
}

async fn sleep_until(at: Option<std::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
