//! The driver: the one task that owns a node, its storage and its links.
//!
//! It has one loop. It sleeps until a command, an answer of storage, a message
//! or an instant comes; takes in all that is there, without waiting; lets core
//! say what follows from it; and carries that out. Between a message and its
//! answer there is no other task, queue or timer. Core decides everything.

mod alarm;
mod leave;
mod sessions;
mod trouble;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use roundelay_core::kvs::{Reply, RequestId};
use roundelay_core::status::{Status, StoreState};
use roundelay_core::store::StoreError;
use roundelay_core::{Dial, Event, Input, Node, Output};
use tokio::sync::{mpsc, oneshot};

use self::alarm::Alarm;
pub(crate) use self::sessions::Pipes;
use self::trouble::Troubles;
use crate::clock::{Clock, Moment};
use crate::handle::Command;
use crate::link::direct::{DirectEvent, DirectLinks};
use crate::signalling::{OwnRelay, Signalling};
use crate::store::{Completed, Health, Storage};

/// Commands, and messages of relays, that are taken in before core is asked
/// what follows: enough to share one datagram or one sync, and few enough
/// that no source starves another.
const BATCH: usize = 128;

/// What a driver drives.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) node: Node,
    pub(crate) storage: Storage,
    pub(crate) direct: Option<DirectLinks>,
    pub(crate) own_relay: Option<OwnRelay>,
    pub(crate) clock: Clock,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) pipes: Pipes,
}

/// The task's state.
#[derive(Debug)]
pub(crate) struct Driver {
    node: Node,
    storage: Storage,
    direct: Option<DirectLinks>,
    signalling: Signalling,
    commands: mpsc::Receiver<Command>,
    pipes: Pipes,
    /// Callers that wait; at most as many as core has requests under way.
    waiting: HashMap<RequestId, oneshot::Sender<Reply>>,
    troubles: Troubles,
    clock: Clock,
    moment: Moment,
    /// Who waits for the places of this node to be passed on, and until when.
    retiring: Option<(Leaving, Instant)>,
    /// How the task ends, once somebody wants that.
    leaving: Option<Leaving>,
}

/// How long places may take to be passed on, of the 10 s that a process has.
const RETIRE_TIMEOUT: Duration = Duration::from_secs(8);

/// The node shall leave: who asked is told when it is done, if anybody did.
type Leaving = Option<oneshot::Sender<()>>;

impl Driver {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            node: parts.node,
            storage: parts.storage,
            direct: parts.direct,
            signalling: Signalling::new(parts.own_relay),
            commands: parts.commands,
            pipes: parts.pipes,
            waiting: HashMap::new(),
            troubles: Troubles::default(),
            moment: parts.clock.moment(),
            clock: parts.clock,
            retiring: None,
            leaving: None,
        }
    }

    /// Drives until the node leaves, or no [`Handle`](crate::handle::Handle)
    /// is left.
    pub(crate) async fn run(mut self) {
        let mut alarm = Alarm::new();
        loop {
            let mut deadline = self.settle();
            if let Some(until) = self.retired_until() {
                deadline = Some(deadline.map_or(until, |at| at.min(until)));
            }
            if let Some(asked) = self.leaving.take() {
                return self.leave(asked).await;
            }
            alarm.set(deadline);
            // What is taken in while storage has no room would pile up.
            let has_room = self.storage.has_room();
            tokio::select! {
                command = self.commands.recv(), if has_room => {
                    self.look_up();
                    self.on_command(command);
                }
                Some(command) = self.pipes.next() => {
                    self.look_up();
                    self.on_pipe_command(command);
                }
                completed = self.storage.completed() => {
                    self.look_up();
                    self.on_completed(completed);
                }
                input = self.signalling.next(), if has_room => {
                    self.look_up();
                    self.node.handle_input(input, self.moment.now);
                }
                () = readable(self.direct.as_ref()), if has_room => {
                    self.look_up();
                    if let Some(direct) = &mut self.direct {
                        direct.receive(self.moment.instant);
                    }
                }
                () = alarm.rung() => self.look_up(),
            }
            self.take_ready();
        }
    }

    /// Reads the clocks, once for all that is taken in together.
    fn look_up(&mut self) {
        self.moment = self.clock.moment();
    }

    /// Takes in what else is there already.
    fn take_ready(&mut self) {
        while let Some(completed) = self.storage.try_completed() {
            self.on_completed(completed);
        }
        for _ in 0..BATCH {
            if !self.storage.has_room() || self.leaving.is_some() {
                return;
            }
            let Ok(command) = self.commands.try_recv() else {
                break;
            };
            self.on_command(Some(command));
        }
        for _ in 0..BATCH {
            let Some(command) = self.pipes.try_next() else {
                break;
            };
            self.on_pipe_command(command);
        }
        for _ in 0..BATCH {
            if !self.storage.has_room() {
                return;
            }
            let Some(input) = self.signalling.try_next() else {
                break;
            };
            self.node.handle_input(input, self.moment.now);
        }
    }

    /// Carries out what core and the links want, and what that leads to, until
    /// nothing is left; returns when something is due again.
    fn settle(&mut self) -> Option<Instant> {
        let mut timed_out = false;
        loop {
            let wait = self.drain_node();
            if self.drain_direct() {
                continue;
            }
            // Once at most, lest an instant that stays past keep this busy.
            if wait.is_some_and(|at| at <= self.moment.now.mono) && !timed_out {
                timed_out = true;
                self.node.handle_input(Input::Timeout, self.moment.now);
                continue;
            }
            let wait = wait.map(|at| self.clock.instant(at, self.moment.instant));
            let direct = self.direct.as_ref().and_then(DirectLinks::poll_timeout);
            return [wait, direct].into_iter().flatten().min();
        }
    }

    /// Carries out what core wants, until it waits.
    fn drain_node(&mut self) -> Option<roundelay_core::Instant> {
        loop {
            match self.node.poll_output() {
                Output::Send { link, lane, bytes } => {
                    let others = self.signalling.send(link, lane, bytes);
                    if let (Err(bytes), Some(direct)) = (others, &mut self.direct) {
                        direct.send(link, lane, bytes, self.moment.instant);
                    }
                }
                Output::Store { token, op } => {
                    if let Some(result) = self.storage.submit(token, op) {
                        self.on_completed(Completed { token, result });
                    }
                }
                Output::Event(event) => self.on_event(event),
                Output::Dial { link, to } => self.dial(link, to),
                Output::Remote(description) => {
                    if let Some(direct) = &mut self.direct {
                        direct.remote(&description, self.moment.instant);
                    }
                }
                Output::Hangup { link } => {
                    if !self.signalling.hangup(link)
                        && let Some(direct) = &mut self.direct
                    {
                        direct.close(link, self.moment.instant);
                    }
                }
                Output::Wait(at) => return at,
            }
        }
    }

    fn dial(&mut self, link: roundelay_core::LinkId, to: Dial) {
        match (to, &mut self.direct) {
            (Dial::Relay { url }, _) => self.signalling.dial(link, url),
            (Dial::Direct { role, .. }, Some(direct)) => {
                direct.open(link, role, self.moment.instant);
            }
            (Dial::Direct { .. }, None) => {
                let reason = "this node has no direct links".to_owned();
                let input = Input::LinkDown { link, reason };
                self.node.handle_input(input, self.moment.now);
            }
        }
    }

    /// Hands what happened on direct links to core; where nothing did, sends
    /// what waits, and does what is due. Tells whether anything happened.
    fn drain_direct(&mut self) -> bool {
        let Some(direct) = &mut self.direct else {
            return false;
        };
        let mut happened = false;
        while let Some(event) = direct.poll_event() {
            happened = true;
            self.node.handle_input(input_of(event), self.moment.now);
        }
        if happened {
            // First core's answers: they leave together with what waits.
            return true;
        }
        direct.flush();
        let now = self.moment.instant;
        if direct.poll_timeout().is_some_and(|at| at <= now) {
            direct.handle_timeout(now);
        }
        direct.has_events()
    }

    fn on_completed(&mut self, completed: Completed) {
        let Completed { token, result } = completed;
        let input = Input::Stored { token, result };
        self.node.handle_input(input, self.moment.now);
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Reply { request, reply } => {
                if let Some(caller) = self.waiting.remove(&request) {
                    // One that waits no more needs no answer.
                    let _ = caller.send(reply);
                }
            }
            Event::Session { peer, event } => self.on_session(peer, event),
            Event::Trouble(trouble) => self.troubles.tell(&trouble, self.moment.instant),
            Event::Ring => tracing::debug!("the ring changed"),
            Event::Link => tracing::debug!("a link changed"),
        }
    }

    /// The node's status, with what only its storage and links can tell.
    fn status(&self) -> Status {
        let mut status = self.node.status();
        let Health { refusing, refused } = self.storage.health();
        status.store.state = match refusing {
            None => StoreState::Ok,
            Some(StoreError::Full) => StoreState::Full,
            Some(StoreError::Failed) => StoreState::Failing,
        };
        status.counters.insert("commits_refused", refused);
        if let Some(direct) = &self.direct {
            let counters = direct.counters();
            status.counters.extend([
                ("datagrams_out", counters.datagrams_out),
                ("datagram_bytes_out", counters.datagram_bytes_out),
                ("datagrams_unknown", counters.unknown_datagrams),
                ("datagrams_unsent", counters.unsent_datagrams),
            ]);
        }
        status
    }

    fn on_command(&mut self, command: Option<Command>) {
        let now = self.moment.now;
        match command {
            Some(Command::Get { key, mode, reply }) => {
                let request = self.node.get(key, mode, now);
                self.waiting.insert(request, reply);
            }
            Some(Command::Write {
                key,
                value,
                terms,
                reply,
            }) => {
                let request = self.node.write(key, value, terms, now);
                self.waiting.insert(request, reply);
            }
            Some(Command::List { list, reply }) => {
                let request = self.node.list(list, now);
                self.waiting.insert(request, reply);
            }
            Some(Command::Watch { watch, reply }) => {
                let request = self.node.watch(watch, now);
                self.waiting.insert(request, reply);
            }
            Some(Command::Status { reply }) => {
                let _ = reply.send(self.status());
            }
            Some(Command::Ring { reply }) => {
                let _ = reply.send(self.node.ring_status());
            }
            Some(Command::Locate { key, reply }) => {
                let _ = reply.send(self.node.locate(&key));
            }
            Some(Command::Evict { id, reply }) => {
                let request = self.node.evict(id, now);
                self.waiting.insert(request, reply);
            }
            Some(Command::Leave { reply }) => self.begin_to_leave(reply),
            // No handle is left: nobody would wait.
            None => self.leaving = Some(None),
        }
    }
}

/// Waits until there is something to receive; for ever without direct links,
/// and while the runtime shuts down.
async fn readable(direct: Option<&DirectLinks>) {
    if let Some(direct) = direct
        && direct.readable().await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}

fn input_of(event: DirectEvent) -> Input {
    match event {
        DirectEvent::Local(description) => Input::Local(description),
        DirectEvent::Up { link } => Input::LinkUp { link },
        DirectEvent::Down { link, reason } => Input::LinkDown { link, reason },
        DirectEvent::Frame { link, bytes } => Input::Frame { link, bytes },
        DirectEvent::Drained { link, lane, bytes } => Input::Drained { link, lane, bytes },
    }
}
