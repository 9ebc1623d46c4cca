//! Negotiation of direct links: who offers, what is believed, when to give up
//! and when to try again. Drivers only carry it out.
//!
//! A page always offers to a durable node, so that the native end becomes the
//! DTLS client; between two of one class the lower id offers. With one
//! offerer for each pair there is no glare.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::Me;
use super::offers::Offers;
use super::signal::{LIFETIME_MS, Signal, SignalError, SignedSignal, is_usable};
use crate::event::{Description, DescriptionKind, Dial, LinkId, Output, Role};
use crate::flat::FlatMap;
use crate::id::NodeId;
use crate::identity::Record;
use crate::status::Class;
use crate::time::{Instant, Now};
use crate::wire;

/// How long an attempt may take before it is given up.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// The first pause after a failure; it doubles each time.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Attempts under way at once: a page that joins a ring of many must not
/// start all its connections in one instant.
const ATTEMPT_COUNT_MAX: usize = 8;

/// How long a link is held at least, wanted or not.
const HELD_MIN: Duration = Duration::from_secs(10);
/// How long the other end may take to close a link that is let go.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);
/// For how long a link that was let go is not made again.
const RELEASED: Duration = Duration::from_secs(60);

/// All direct links and attempts of a node.
#[derive(Debug)]
pub(super) struct Directs {
    /// The most connections this node holds at once; zero where the driver
    /// has none.
    budget: usize,
    peers: FlatMap<NodeId, Pair>,
    links: FlatMap<LinkId, NodeId>,
    /// The first is wanted most.
    wanted: Vec<NodeId>,
    /// Whether a relay is there: without one, a link that is let go may be the
    /// only way to its peer.
    may_release: bool,
    offers: Offers,
    pub(super) events: VecDeque<DirectEvent>,
}

/// What the rest of the node should know.
#[derive(Debug)]
pub(super) enum DirectEvent {
    /// A signed description is to be brought to a peer by any way.
    Signal { to: NodeId, bytes: Vec<u8> },
    /// An attempt failed.
    Failed { peer: NodeId, reason: String },
    /// A link is let go: the peer is to be told, and closes it.
    Released { peer: NodeId, link: LinkId },
}

#[derive(Debug)]
struct Pair {
    state: State,
    failures: u32,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Idle {
        try_at: Instant,
    },
    Trying {
        link: LinkId,
        attempt: u64,
        /// Whether the peer's description is known.
        described: bool,
        deadline: Instant,
    },
    Up {
        link: LinkId,
        since: Instant,
    },
    /// Nothing more is sent by it; the peer closes it.
    Releasing {
        link: LinkId,
        deadline: Instant,
    },
}

impl Directs {
    pub(super) fn new(budget: usize) -> Self {
        Self {
            budget,
            peers: FlatMap::new(),
            links: FlatMap::new(),
            wanted: Vec::new(),
            may_release: false,
            offers: Offers::default(),
            events: VecDeque::new(),
        }
    }

    /// The peers that this node should hold direct links to, the most wanted
    /// first. Links to others are held as long as there is room.
    pub(super) fn want(&mut self, peers: Vec<NodeId>) {
        self.wanted = peers;
    }

    /// A relay came, or the last one is lost.
    pub(super) fn set_may_release(&mut self, may_release: bool) {
        self.may_release = may_release;
    }

    /// The open direct link to a peer.
    pub(super) fn link(&self, peer: &NodeId) -> Option<LinkId> {
        match self.peers.get(peer)?.state {
            State::Up { link, .. } => Some(link),
            _ => None,
        }
    }

    /// The peer at the other end of a link or attempt.
    pub(super) fn peer(&self, link: LinkId) -> Option<NodeId> {
        self.links.get(&link).copied()
    }

    /// Starts what is due, and gives up what takes too long. `record_of`
    /// gives the records of peers: a description finds its way through others.
    pub(super) fn on_timeout<'a>(
        &mut self,
        me: &mut Me,
        now: Instant,
        record_of: impl Fn(&NodeId) -> Option<&'a Record>,
        mut next_link: impl FnMut() -> LinkId,
        outputs: &mut VecDeque<Output>,
    ) {
        self.give_up_slow(me, now, outputs);
        let mut trying = self.trying();
        for peer in self.wanted.clone() {
            if trying >= ATTEMPT_COUNT_MAX {
                break;
            }
            let due = self
                .peers
                .get(&peer)
                .is_none_or(|pair| matches!(pair.state, State::Idle { try_at } if try_at <= now));
            let Some(record) = record_of(&peer).filter(|record| due && me.offers_to(record)) else {
                continue;
            };
            if !self.has_room(now) {
                break;
            }
            let link = next_link();
            let attempt = me.rng.next_u64();
            let role = Role::Offerer;
            self.set(record.id(), link, (role, attempt), now);
            let to = Dial::Direct { peer, role };
            outputs.push_back(Output::Dial { link, to });
            trying += 1;
        }
    }

    /// The driver has a description of its own.
    pub(super) fn on_local(
        &mut self,
        me: &Me,
        description: Description,
        peer_record: Option<&Record>,
        now: Now,
    ) {
        let Some((peer, record)) = self.peer(description.link).zip(peer_record) else {
            return;
        };
        let Some(State::Trying { attempt, .. }) = self.peers.get(&peer).map(|pair| pair.state)
        else {
            return;
        };
        if !is_usable(description.kind, &description.text) {
            return;
        }
        let signal = Signal {
            from: me.identity.id(),
            to: peer,
            from_epoch: me.record.facts().epoch,
            to_epoch: record.facts().epoch,
            attempt,
            kind: description.kind,
            text: description.text,
            expiry_ms: now.unix_ms.saturating_add(LIFETIME_MS),
        };
        let bytes = signal.sign(me);
        self.events
            .push_back(DirectEvent::Signal { to: peer, bytes });
    }

    /// A description came from a peer, by whatever way.
    pub(super) fn on_signal<'a>(
        &mut self,
        me: &mut Me,
        bytes: &[u8],
        record: impl FnOnce(&NodeId) -> Option<&'a Record>,
        now: Now,
        next_link: impl FnMut() -> LinkId,
        outputs: &mut VecDeque<Output>,
    ) -> Result<(), SignalError> {
        let signed: SignedSignal = wire::decode(bytes).map_err(|_| SignalError::Text)?;
        let sender = record(&signed.signal.from).ok_or(SignalError::Epoch)?;
        let signal = signed.verify(me, sender, now.unix_ms)?;
        match signal.kind {
            DescriptionKind::Offer if me.offers_to(sender) => Err(SignalError::Epoch),
            DescriptionKind::Offer => self.on_offer(signal, now, next_link, outputs),
            DescriptionKind::Answer | DescriptionKind::Candidate => self.on_answer(signal, outputs),
        }
    }

    /// An answer or a candidate belongs to the attempt that is under way.
    fn on_answer(
        &mut self,
        signal: Signal,
        outputs: &mut VecDeque<Output>,
    ) -> Result<(), SignalError> {
        let state = self.peers.get_mut(&signal.from).map(|pair| &mut pair.state);
        let Some(State::Trying {
            link,
            attempt,
            described,
            ..
        }) = state
        else {
            return Err(SignalError::Late);
        };
        if *attempt != signal.attempt {
            return Err(SignalError::Late);
        }
        // A transport takes one, and ends the link over a second.
        if signal.kind == DescriptionKind::Answer && core::mem::replace(described, true) {
            return Err(SignalError::Replayed);
        }
        outputs.push_back(Output::Remote(Description {
            link: *link,
            kind: signal.kind,
            text: signal.text,
        }));
        Ok(())
    }

    fn on_offer(
        &mut self,
        signal: Signal,
        now: Now,
        mut next_link: impl FnMut() -> LinkId,
        outputs: &mut VecDeque<Output>,
    ) -> Result<(), SignalError> {
        let (peer, attempt) = (signal.from, signal.attempt);
        if !self
            .offers
            .note(peer, attempt, signal.expiry_ms, now.unix_ms)
        {
            return Err(SignalError::Replayed);
        }
        let pair = self.peers.entry(peer).or_insert_with(Pair::new);
        // The offerer begins anew: what this end still holds is dead to it.
        if let Some(link) = pair.state.link() {
            self.links.remove(&link);
            pair.state = State::Idle { try_at: now.mono };
            outputs.push_back(Output::Hangup { link });
        } else if !self.has_room(now.mono) {
            return Ok(());
        }
        let link = next_link();
        let role = Role::Answerer;
        self.set(peer, link, (role, attempt), now.mono);
        let to = Dial::Direct { peer, role };
        outputs.push_back(Output::Dial { link, to });
        outputs.push_back(Output::Remote(Description {
            link,
            kind: DescriptionKind::Offer,
            text: signal.text,
        }));
        Ok(())
    }

    /// The driver opened a link. Returns the peer.
    pub(super) fn on_up(&mut self, link: LinkId, now: Instant) -> Option<NodeId> {
        let peer = self.peer(link)?;
        let pair = self.peers.get_mut(&peer)?;
        pair.state = State::Up { link, since: now };
        pair.failures = 0;
        Some(peer)
    }

    /// A link closed, or an attempt failed. Returns the peer of a link that
    /// was open.
    pub(super) fn on_down(
        &mut self,
        me: &mut Me,
        link: LinkId,
        reason: &str,
        now: Instant,
    ) -> Option<NodeId> {
        let peer = self.links.remove(&link)?;
        let pair = self.peers.get_mut(&peer)?;
        if let State::Releasing { .. } = pair.state {
            pair.rest(now);
            return None;
        }
        let was_up = matches!(pair.state, State::Up { .. });
        let pause = PAUSE_MIN * 2u32.saturating_pow(pair.failures.min(10));
        pair.failures = pair.failures.saturating_add(1);
        pair.state = State::Idle {
            try_at: now + me.rng.jitter(pause.min(PAUSE_MAX)),
        };
        if !was_up {
            self.events.push_back(DirectEvent::Failed {
                peer,
                reason: reason.into(),
            });
        }
        was_up.then_some(peer)
    }

    /// Forgets a peer: it is gone, or began anew.
    pub(super) fn forget(&mut self, peer: &NodeId, outputs: &mut VecDeque<Output>) {
        if let Some(link) = self.peers.remove(peer).and_then(|pair| pair.state.link()) {
            self.links.remove(&link);
            outputs.push_back(Output::Hangup { link });
        }
    }

    /// The peer lets its link to this node go. Returns the link.
    pub(super) fn on_released(
        &mut self,
        peer: &NodeId,
        now: Instant,
        outputs: &mut VecDeque<Output>,
    ) -> Option<LinkId> {
        let pair = self.peers.get_mut(peer)?;
        let link = pair.state.link()?;
        pair.rest(now);
        self.links.remove(&link);
        outputs.push_back(Output::Hangup { link });
        Some(link)
    }

    /// Whether one more link may be begun; lets one go that nobody here wants,
    /// the oldest, if that is what it takes.
    fn has_room(&mut self, now: Instant) -> bool {
        if self.held() < self.budget {
            return true;
        }
        let Some((since, peer)) = self.spare().filter(|_| self.budget > 0) else {
            return false;
        };
        let Some(pair) = self
            .peers
            .get_mut(&peer)
            .filter(|_| since + HELD_MIN <= now)
        else {
            return false;
        };
        if let State::Up { link, .. } = pair.state {
            let deadline = now + RELEASE_TIMEOUT;
            pair.state = State::Releasing { link, deadline };
            self.events.push_back(DirectEvent::Released { peer, link });
        }
        true
    }

    /// The link to let go first, and since when it is open.
    fn spare(&self) -> Option<(Instant, NodeId)> {
        if !self.may_release {
            return None;
        }
        let open = self.peers.iter().filter_map(|(peer, pair)| {
            let State::Up { since, .. } = pair.state else {
                return None;
            };
            (!self.wanted.contains(peer)).then_some((since, *peer))
        });
        open.min()
    }

    /// Links and attempts that count.
    fn held(&self) -> usize {
        let counts = |pair: &&Pair| matches!(pair.state, State::Trying { .. } | State::Up { .. });
        self.peers.values().filter(counts).count()
    }

    /// When [`Self::on_timeout`] has something to do; `record_of` as there.
    pub(super) fn poll_timeout<'a>(
        &self,
        me: &Me,
        record_of: impl Fn(&NodeId) -> Option<&'a Record>,
    ) -> Option<Instant> {
        let room_at = if self.trying() >= ATTEMPT_COUNT_MAX || self.budget == 0 {
            None
        } else if self.held() < self.budget {
            Some(Instant::default())
        } else {
            self.spare().map(|(since, _)| since + HELD_MIN)
        };
        let deadlines = self.peers.values().filter_map(|pair| match pair.state {
            State::Trying { deadline, .. } | State::Releasing { deadline, .. } => Some(deadline),
            _ => None,
        });
        let starts = self.wanted.iter().filter_map(|peer| {
            let try_at = match self.peers.get(peer).map(|pair| pair.state) {
                None => Instant::default(),
                Some(State::Idle { try_at }) => try_at,
                Some(_) => return None,
            };
            let record = record_of(peer)?;
            let room_at = room_at.filter(|_| me.offers_to(record))?;
            Some(try_at.max(room_at))
        });
        deadlines.chain(starts).min()
    }

    fn give_up_slow(&mut self, me: &mut Me, now: Instant, outputs: &mut VecDeque<Output>) {
        let slow = self.peers.values().filter_map(|pair| match pair.state {
            State::Trying { link, deadline, .. } | State::Releasing { link, deadline }
                if deadline <= now =>
            {
                Some(link)
            }
            _ => None,
        });
        for link in slow.collect::<Vec<_>>() {
            outputs.push_back(Output::Hangup { link });
            self.on_down(me, link, "no connection in time", now);
        }
    }

    fn trying(&self) -> usize {
        let trying = |pair: &&Pair| matches!(pair.state, State::Trying { .. });
        self.peers.values().filter(trying).count()
    }

    fn set(&mut self, peer: NodeId, link: LinkId, (role, attempt): (Role, u64), now: Instant) {
        let pair = self.peers.entry(peer).or_insert_with(Pair::new);
        let deadline = now + ATTEMPT_TIMEOUT;
        pair.state = State::Trying {
            link,
            attempt,
            described: role == Role::Answerer,
            deadline,
        };
        self.links.insert(link, peer);
    }
}

impl Pair {
    fn new() -> Self {
        Self {
            state: State::Idle {
                try_at: Instant::default(),
            },
            failures: 0,
        }
    }

    fn rest(&mut self, now: Instant) {
        self.state = State::Idle {
            try_at: now + RELEASED,
        };
    }
}

impl State {
    const fn link(&self) -> Option<LinkId> {
        match *self {
            Self::Idle { .. } => None,
            Self::Trying { link, .. } | Self::Up { link, .. } | Self::Releasing { link, .. } => {
                Some(link)
            }
        }
    }
}

impl Me {
    /// Whether this node is the one of the pair that makes the offer.
    fn offers_to(&self, peer: &Record) -> bool {
        match (self.record.facts().class, peer.facts().class) {
            (Class::Transient, Class::Durable) => true,
            (Class::Durable, Class::Transient) => false,
            _ => self.identity.id() < peer.id(),
        }
    }
}
