//! The driver of a node in a page: carries out what core wants, and tells
//! core what happened.

use std::collections::VecDeque;
use std::time::Duration;

use js_sys::Promise;
use roundelay_core::flat::FlatMap;
use roundelay_core::kvs::RequestId;
use roundelay_core::store::{StoreError, Stored};
use roundelay_core::{
    Description, Dial, Event, Input, Instant, LinkId, Node, Now, Output, SessionEvent, Trouble,
    TroubleKind,
};
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::{JsFuture, spawn_local};

use crate::clock;
use crate::error::Error;
use crate::handle::WeakHandle;
use crate::joining::Joining;
use crate::lifecycle::Lifecycle;
use crate::link::direct::{ChannelEvent, ChannelKind, Direct, Effect};
use crate::listeners::Listeners;
use crate::promise::{Call, Deferred, rejected};
use crate::signalling::Signalling;
use crate::store::{Answer, Storage};
use crate::timer::Timer;
use crate::values;

/// How soon a relay whose buffer is not small is looked at again.
const BACKLOG_POLL: Duration = Duration::from_millis(20);
/// How long the peer may take to close its end of a link that closes.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(1);
/// A wall clock that jumps by more than this slept, and the other one with it:
/// what was missed is asked anew. That the other is late, core sees itself.
const JUMP: Duration = Duration::from_secs(10);

/// Everything that a peer owns.
#[derive(Debug)]
pub(crate) struct Driver {
    me: WeakHandle,
    node: Node,
    stun: Option<String>,
    storage: Storage,
    relays: FlatMap<LinkId, Signalling>,
    directs: FlatMap<LinkId, Direct>,
    /// Links that core has hung up, until the peer has heard it.
    closing: FlatMap<LinkId, (Direct, Instant)>,
    inbox: VecDeque<Input>,
    requests: FlatMap<RequestId, (Deferred, Verb)>,
    pub(crate) listeners: Listeners,
    joining: Option<Joining>,
    leaving: Vec<Deferred>,
    calls: Vec<Call>,
    now: Now,
    wait: Option<Instant>,
    timer: Option<Timer>,
    lifecycle: Option<Lifecycle>,
    phase: Phase,
}

/// What a request does, as far as its failure is told differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// It changes nothing.
    Read,
    /// It may have been applied, even when no answer came.
    Write,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// Core has said goodbye; links are being closed.
    Leaving,
    Left,
}

impl Driver {
    pub(crate) fn new(
        me: WeakHandle,
        node: Node,
        stun: Option<String>,
        mut storage: Storage,
    ) -> Self {
        storage.attach(me.clone());
        Self {
            me,
            node,
            stun,
            storage,
            relays: FlatMap::new(),
            directs: FlatMap::new(),
            closing: FlatMap::new(),
            inbox: VecDeque::new(),
            requests: FlatMap::new(),
            listeners: Listeners::default(),
            joining: None,
            leaving: Vec::new(),
            calls: Vec::new(),
            now: clock::now(),
            wait: None,
            timer: None,
            lifecycle: None,
            phase: Phase::Running,
        }
    }

    pub(crate) fn start(&mut self, timer: Timer) {
        self.timer = Some(timer);
        self.lifecycle = Lifecycle::watch(&self.me);
    }

    // ---- calls of the page ----

    /// The node, to look at.
    pub(crate) const fn node(&self) -> &Node {
        &self.node
    }

    /// Where the node's share is kept.
    pub(crate) const fn storage(&self) -> &Storage {
        &self.storage
    }

    /// A promise that settles when the node is a member of a ring, or fails
    /// to become one in time.
    pub(crate) fn join(&mut self, join: impl FnOnce(Deferred, Now) -> Joining) -> Promise {
        let (deferred, promise) = Deferred::new();
        self.joining = deferred.map(|deferred| join(deferred, self.now));
        promise
    }

    /// Whether this peer has left the ring, or is about to.
    pub(crate) fn has_left(&self) -> bool {
        self.phase != Phase::Running
    }

    /// Begins a request: its promise settles when core replies.
    pub(crate) fn request(
        &mut self,
        verb: Verb,
        ask: impl FnOnce(&mut Node, Now) -> RequestId,
    ) -> Promise {
        if self.phase != Phase::Running {
            return rejected(Error::left());
        }
        let (deferred, promise) = Deferred::new();
        let request = ask(&mut self.node, self.now);
        if let Some(deferred) = deferred {
            self.requests.insert(request, (deferred, verb));
        }
        promise
    }

    /// Leaves the ring. The promise settles when all links are closed.
    pub(crate) fn leave(&mut self) -> Promise {
        if self.phase == Phase::Left {
            return Promise::resolve(&JsValue::UNDEFINED);
        }
        let (deferred, promise) = Deferred::new();
        self.leaving.extend(deferred);
        if self.phase == Phase::Running {
            self.node.leave(self.now);
            self.drain();
            self.phase = Phase::Leaving;
            self.close_all();
        }
        promise
    }

    /// The page is back, or the network is.
    pub(crate) fn resume(&mut self) {
        if self.phase == Phase::Running {
            self.node.resume(self.now);
        }
    }

    // ---- what browser events tell ----

    /// Queues an input of core's.
    pub(crate) fn push(&mut self, input: Input) {
        self.inbox.push_back(input);
    }

    pub(crate) fn on_relay_closed(&mut self, link: LinkId, reason: String) {
        if self.relays.remove(&link).is_some() {
            if let Some(joining) = &mut self.joining {
                joining.on_relay_closed();
            }
            self.push(Input::LinkDown { link, reason });
        }
    }

    pub(crate) fn on_direct_closed(&mut self, link: LinkId, reason: String) {
        if self.directs.remove(&link).is_some() {
            self.push(Input::LinkDown { link, reason });
        }
    }

    pub(crate) fn on_channel(&mut self, link: LinkId, kind: ChannelKind, event: ChannelEvent) {
        if let Some((direct, _)) = self.closing.get_mut(&link) {
            if let Effect::Down(_) = direct.on_channel(kind, event) {
                self.closing.remove(&link);
            }
            return;
        }
        self.with_direct(link, |direct| direct.on_channel(kind, event));
    }

    /// Changes a direct link that is still there, and does what follows.
    pub(crate) fn with_direct(&mut self, link: LinkId, change: impl FnOnce(&mut Direct) -> Effect) {
        match self.directs.get_mut(&link).map(change) {
            Some(Effect::Input(input)) => self.push(input),
            Some(Effect::Down(reason)) => self.on_direct_closed(link, reason),
            Some(Effect::None) | None => {}
        }
    }

    /// Storage answers an order.
    pub(crate) fn on_stored(&mut self, token: u64, result: Answer) {
        self.push(Input::Stored { token, result });
    }

    /// A transaction with commits ended.
    pub(crate) fn on_committed(&mut self, result: Result<(), StoreError>) {
        let before = self.storage.health().refusing;
        for token in self.storage.on_ended(result) {
            let result = result.map(|()| Stored::Done);
            self.push(Input::Stored { token, result });
        }
        if let Err(error) = result
            && before != Some(error)
        {
            let message = format!(
                "{error}: this page takes no part in keeping what is written; make room on this \
                 machine, or load the page anew"
            );
            let kind = TroubleKind::Storage;
            self.on_event(Event::Trouble(Trouble { kind, message }));
        }
    }

    pub(crate) fn on_timer(&mut self) {
        if let Some(timer) = &mut self.timer {
            timer.on_fired();
        }
        self.push(Input::Timeout);
    }

    // ---- one turn ----

    /// A turn begins.
    pub(crate) fn begin(&mut self, now: Now) {
        let ran = now.mono.since(self.now.mono).as_millis();
        let passed = u128::from(now.unix_ms.saturating_sub(self.now.unix_ms));
        self.now = now;
        // Some systems stop the monotonic clock while they sleep.
        if passed > ran + JUMP.as_millis() {
            self.resume();
        }
    }

    /// A turn ends: does all that core wants. Returns the calls that are due
    /// once the borrow is gone.
    pub(crate) fn settle(&mut self) -> Vec<Call> {
        self.report_drained();
        if self.phase == Phase::Running {
            self.drain();
            self.settle_joining();
            self.calls.extend(self.listeners.calls(&self.node));
        }
        let now = self.now.mono;
        self.closing.retain(|_, (_, deadline)| now < *deadline);
        if self.phase == Phase::Leaving && self.closing.is_empty() {
            self.finish();
        }
        self.arm_timer();
        std::mem::take(&mut self.calls)
    }

    fn drain(&mut self) {
        loop {
            while let Some(input) = self.inbox.pop_front() {
                self.node.handle_input(input, self.now);
            }
            match self.node.poll_output() {
                Output::Wait(at) if self.inbox.is_empty() => {
                    self.wait = at;
                    return;
                }
                Output::Wait(_) => {}
                output => self.carry_out(output),
            }
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Send { link, lane, bytes } => {
                if let Some(relay) = self.relays.get_mut(&link) {
                    relay.send(lane, &bytes);
                } else if let Some(direct) = self.directs.get_mut(&link) {
                    direct.send(lane, &bytes);
                }
                self.report_drained_of(link);
            }
            Output::Dial { link, to } => self.dial(link, &to),
            Output::Remote(Description { link, kind, text }) => {
                if let Some(direct) = self.directs.get_mut(&link) {
                    direct.remote(kind, &text);
                }
            }
            Output::Hangup { link } => self.hang_up(link),
            Output::Store { token, op } => {
                if let Some(result) = self.storage.submit(token, op) {
                    self.on_stored(token, result);
                }
            }
            Output::Event(event) => self.on_event(event),
            Output::Wait(_) => {}
        }
    }

    fn dial(&mut self, link: LinkId, to: &Dial) {
        let failure = match to {
            Dial::Relay { url } => Signalling::open(&self.me, link, url)
                .map(|relay| self.relays.insert(link, relay))
                .err(),
            Dial::Direct { role, .. } => Direct::open(&self.me, link, *role, self.stun.as_deref())
                .map(|direct| self.directs.insert(link, direct))
                .err(),
        };
        if let Some(reason) = failure {
            self.push(Input::LinkDown { link, reason });
        }
    }

    fn hang_up(&mut self, link: LinkId) {
        self.relays.remove(&link);
        if let Some(mut direct) = self.directs.remove(&link)
            && direct.end()
        {
            self.closing
                .insert(link, (direct, self.now.mono + CLOSING_TIMEOUT));
        }
    }

    fn on_event(&mut self, event: Event) {
        if let (Some(joining), Event::Trouble(trouble)) = (&mut self.joining, &event) {
            joining.on_trouble(trouble);
        }
        match event {
            Event::Reply { request, reply } => {
                if let Some((deferred, _)) = self.requests.remove(&request) {
                    self.calls.push(deferred.settle(values::reply(reply)));
                }
            }
            // Pages take no streams yet: whoever opens one is told at once.
            Event::Session {
                peer,
                event: SessionEvent::Opened,
            } => self.node.reset_session(&peer),
            event => self.listeners.note(&event),
        }
    }

    fn report_drained(&mut self) {
        let links: Vec<LinkId> = self
            .relays
            .keys()
            .chain(self.directs.keys())
            .copied()
            .collect();
        for link in links {
            self.report_drained_of(link);
        }
    }

    fn report_drained_of(&mut self, link: LinkId) {
        let inbox = &mut self.inbox;
        let report = |lane, bytes| inbox.push_back(Input::Drained { link, lane, bytes });
        if let Some(relay) = self.relays.get_mut(&link) {
            relay.settle(report);
        } else if let Some(direct) = self.directs.get_mut(&link) {
            direct.settle(report);
        }
    }

    fn settle_joining(&mut self) {
        let Some(joining) = self.joining.take() else {
            return;
        };
        match joining.verdict(&self.node, self.now.mono) {
            Ok(call) => self.calls.push(call),
            Err(still) => self.joining = Some(still),
        }
    }

    fn arm_timer(&mut self) {
        let backlog = self.relays.values().any(Signalling::is_backed_up);
        let wants = [
            self.wait.filter(|_| self.phase == Phase::Running),
            backlog.then(|| self.now.mono + BACKLOG_POLL),
            self.closing.values().map(|(_, deadline)| *deadline).min(),
            self.joining.as_ref().map(Joining::deadline),
        ];
        if let Some(timer) = &mut self.timer {
            timer.arm(wants.into_iter().flatten().min(), self.now.mono);
        }
    }

    // ---- the end ----

    fn close_all(&mut self) {
        self.inbox.clear();
        self.relays.clear();
        self.lifecycle = None;
        for link in self.directs.keys().copied().collect::<Vec<_>>() {
            self.hang_up(link);
        }
        for (deferred, verb) in std::mem::take(&mut self.requests).into_values() {
            self.calls.push(deferred.settle(Err(verb.cut_off())));
        }
    }

    /// Nothing is left to do: the timer, which kept the driver alive, goes.
    fn finish(&mut self) {
        self.phase = Phase::Left;
        self.listeners = Listeners::default();
        self.timer = None;
        let leaving = std::mem::take(&mut self.leaving).into_iter();
        let calls = leaving.map(|deferred| deferred.settle(Ok(JsValue::UNDEFINED)));
        let Some(free) = self.storage.close() else {
            return self.calls.extend(calls);
        };
        // Who joins anew then is the same peer.
        let calls: Vec<Call> = calls.collect();
        spawn_local(async move {
            let _ = JsFuture::from(free).await;
            calls.into_iter().for_each(Call::make);
        });
    }
}

impl Verb {
    fn cut_off(self) -> Error {
        match self {
            Self::Read => Error::left(),
            Self::Write => roundelay_core::kvs::RequestError::OutcomeUnknown.into(),
        }
    }
}
