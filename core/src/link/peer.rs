//! What a node knows of one other peer, and whether it still answers.

use core::time::Duration;

use super::frame::Assembly;
use crate::event::LinkId;
use crate::flat::FlatMap;
use crate::id::NodeId;
use crate::identity::Record;
use crate::rtt::Rtt;
use crate::status::{LinkKind, LinkStatus};
use crate::time::Instant;

/// A watched peer that says nothing for this long is asked.
const IDLE: Duration = Duration::from_millis(2500);
/// One end of each pair waits so much longer, and hears the other's question
/// first: both would ask at once for ever.
const IDLE_MORE: Duration = Duration::from_millis(500);
/// How often it is asked before it is given up.
const PING_COUNT_MAX: u32 = 4;
/// For this long after a peer was found gone, no way to it is tried; it
/// doubles each time, since others may have a way to it all along.
const GONE_MIN: Duration = Duration::from_millis(500);
/// The longest.
const GONE_MAX: Duration = Duration::from_secs(16);

/// One other peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) record: Record,
    /// Whether [`LinkEvent::Up`](super::LinkEvent::Up) was said last.
    pub(super) up: bool,
    pub(super) rtt: Rtt,
    pub(super) heard_at: Instant,
    /// How long it may say nothing, when it is watched.
    idle: Duration,
    /// The same by its direct link.
    pub(super) direct_heard_at: Instant,
    gone: Gone,
    /// The same at single relays, by the links to them.
    absent: FlatMap<LinkId, Gone>,
    pub(super) assembly: Assembly,
    pub(super) message_count: u32,
    ping: Option<Ping>,
    relayed: Traffic,
    direct: Traffic,
}

#[derive(Debug)]
struct Ping {
    nonce: u32,
    sent_at: Instant,
    count: u32,
}

/// When a peer was not to be found last, and how often in a row.
#[derive(Debug, Default)]
struct Gone {
    at: Option<Instant>,
    count: u32,
}

/// Bytes of frames, by kind of path.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    pub(super) sent: u64,
    pub(super) received: u64,
}

/// What is to be done about a watched peer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Probe {
    Rest,
    Ask,
    GiveUp,
}

impl Peer {
    pub(super) fn new(own: &NodeId, record: Record, now: Instant) -> Self {
        let asks_first = *own < record.id();
        let more = if asks_first {
            Duration::ZERO
        } else {
            IDLE_MORE
        };
        Self {
            idle: IDLE + more,
            record,
            up: false,
            rtt: Rtt::default(),
            heard_at: now,
            direct_heard_at: now,
            gone: Gone::default(),
            absent: FlatMap::new(),
            assembly: Assembly::default(),
            message_count: 0,
            ping: None,
            relayed: Traffic::default(),
            direct: Traffic::default(),
        }
    }

    pub(super) fn traffic(&mut self, kind: LinkKind) -> &mut Traffic {
        match kind {
            LinkKind::Relay => &mut self.relayed,
            LinkKind::Direct => &mut self.direct,
        }
    }

    /// The peer was not to be found.
    pub(super) fn set_gone(&mut self, now: Instant) {
        self.gone.note(now);
    }

    /// One relay does not have it.
    pub(super) fn set_absent(&mut self, relay: LinkId, now: Instant) {
        self.absent.entry(relay).or_default().note(now);
    }

    /// The peer spoke, or may be back.
    pub(super) fn set_found(&mut self) {
        self.gone = Gone::default();
        self.absent.clear();
    }

    /// Whether it is in vain to look for the peer now.
    pub(super) fn is_gone(&self, now: Instant) -> bool {
        self.gone.is_recent(now)
    }

    /// The same at one relay.
    pub(super) fn is_absent(&self, relay: LinkId, now: Instant) -> bool {
        let gone = self.absent.get(&relay);
        gone.is_some_and(|gone| gone.is_recent(now))
    }

    /// When [`Self::probe`] will have something to do. Whoever is in doubt
    /// has not been heard since, and is asked at once.
    pub(super) fn probe_at(&self, doubted: bool) -> Option<Instant> {
        if !self.up {
            return None;
        }
        Some(match &self.ping {
            Some(ping) if ping.sent_at >= self.heard_at => ping.sent_at + self.rtt.timeout(),
            _ if doubted => self.heard_at,
            _ => self.heard_at + self.idle,
        })
    }

    /// What to do at this instant about a peer that is watched or in doubt.
    pub(super) fn probe(&mut self, doubted: bool, now: Instant) -> Probe {
        let due = self.probe_at(doubted).is_some_and(|at| at <= now);
        match &self.ping {
            _ if !due => Probe::Rest,
            Some(ping) if ping.sent_at >= self.heard_at && ping.count >= PING_COUNT_MAX => {
                Probe::GiveUp
            }
            _ => Probe::Ask,
        }
    }

    /// Takes note of a question; returns how many there are without an answer.
    pub(super) fn ping_sent(&mut self, nonce: u32, now: Instant) -> u32 {
        let unanswered = self
            .ping
            .as_ref()
            .filter(|ping| ping.sent_at >= self.heard_at);
        let count = unanswered.map_or(0, |ping| ping.count) + 1;
        self.ping = Some(Ping {
            nonce,
            sent_at: now,
            count,
        });
        count
    }

    pub(super) fn on_pong(&mut self, nonce: u32, now: Instant) {
        if let Some(ping) = self.ping.take_if(|ping| ping.nonce == nonce) {
            self.rtt.measure(now.since(ping.sent_at));
        }
    }

    /// Its silence so far does not count: it is to be asked anew.
    pub(super) fn forgive(&mut self, now: Instant) {
        let idle = now.since(self.heard_at) >= self.idle;
        if self.up && (idle || self.ping.is_some()) {
            self.ping = None;
            self.direct_heard_at = now;
            self.heard_at = Instant::from_micros(
                now.as_micros()
                    .saturating_sub(u64::try_from(self.idle.as_micros()).unwrap_or(u64::MAX)),
            );
        }
    }

    /// Forgets probes that nobody will answer.
    pub(super) fn rest(&mut self) {
        self.ping = None;
    }

    pub(super) fn status(&self, id: NodeId, kind: LinkKind) -> LinkStatus {
        let traffic = match kind {
            LinkKind::Relay => &self.relayed,
            LinkKind::Direct => &self.direct,
        };
        LinkStatus {
            peer: id,
            kind,
            rtt_ms: self.rtt.smoothed().map(|rtt| rtt.as_secs_f64() * 1000.0),
            bytes_in: traffic.received,
            bytes_out: traffic.sent,
        }
    }
}

impl Gone {
    fn note(&mut self, now: Instant) {
        self.at = Some(now);
        self.count = self.count.saturating_add(1);
    }

    fn is_recent(&self, now: Instant) -> bool {
        let doubled = 2u32.saturating_pow(self.count.saturating_sub(1).min(8));
        let pause = (GONE_MIN * doubled).min(GONE_MAX);
        self.at.is_some_and(|at| now.since(at) < pause)
    }
}
