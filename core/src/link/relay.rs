//! The ways to the configured relays: dialled, attached, lost and dialled
//! again, for ever.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use super::Me;
use crate::attach::{Attach, FromRelay, Refusal, ToRelay};
use crate::event::{Dial, Lane, LinkId, Output};
use crate::id::NodeId;
use crate::identity::{HOME_COUNT_MAX, Record};
use crate::rng::Rng;
use crate::status::{RelayState, RelayStatus};
use crate::time::Instant;
use crate::trouble::{Trouble, TroubleKind};
use crate::wire::PROTOCOL_VERSION;

/// The first pause before a lost relay is dialled again; it doubles each time
/// and is drawn evenly from its upper half.
const PAUSE_MIN: Duration = Duration::from_millis(200);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(3);
/// How long dialling and attaching may take together at first. It doubles with
/// each attempt that took too long: what was lost with one is found by the next,
/// and a way that is slow gets the time that it needs.
const ATTACH_MIN: Duration = Duration::from_secs(3);
/// The longest.
const ATTACH_MAX: Duration = Duration::from_secs(10);

/// One configured relay.
#[derive(Debug)]
struct Relay {
    url: String,
    state: State,
    failures: u32,
    /// Attempts in a row that took too long.
    slow: u32,
}

#[derive(Debug)]
enum State {
    Waiting { dial_at: Instant },
    Attaching { link: LinkId, deadline: Instant },
    Attached { link: LinkId, member: NodeId },
}

/// What the rest of the node should know.
#[derive(Debug)]
pub(super) enum RelayEvent {
    /// Attached; this is the relay's own member of the ring.
    Attached { member: Record },
    /// A way to a relay closed; circuits through the link are gone. The
    /// relay's own member may be gone as well, if it was attached to.
    Lost {
        link: LinkId,
        member: Option<NodeId>,
    },
    /// Something a person should read.
    Trouble(Trouble),
}

/// All configured relays.
#[derive(Debug, Default)]
pub(super) struct Relays {
    relays: Vec<Relay>,
    pub(super) events: VecDeque<RelayEvent>,
}

impl Relays {
    pub(super) fn new(urls: &[String], now: Instant) -> Self {
        let relays = urls.iter().map(|url| Relay {
            url: url.clone(),
            state: State::Waiting { dial_at: now },
            failures: 0,
            slow: 0,
        });
        Self {
            relays: relays.collect(),
            events: VecDeque::new(),
        }
    }

    /// The links to relays that carry frames, and the relays' own members.
    pub(super) fn attached(&self) -> impl Iterator<Item = (LinkId, NodeId)> + '_ {
        self.relays.iter().filter_map(|relay| match relay.state {
            State::Attached { link, member } => Some((link, member)),
            _ => None,
        })
    }

    /// The relay's own member at the end of such a link.
    pub(super) fn member(&self, link: LinkId) -> Option<NodeId> {
        let mut attached = self.attached();
        let found = attached.find(|(own, _)| *own == link);
        found.map(|(_, member)| member)
    }

    /// Whether a link is one to a relay.
    pub(super) fn owns(&self, link: LinkId) -> bool {
        self.relays.iter().any(|relay| relay.link() == Some(link))
    }

    /// Whether frames from this link come from a relay that knows us.
    pub(super) fn is_attached(&self, link: LinkId) -> bool {
        let of =
            |relay: &Relay| matches!(relay.state, State::Attached { link: own, .. } if own == link);
        self.relays.iter().any(of)
    }

    /// Takes in a frame of the relay itself; deliveries are not for here.
    /// Returns what to send back.
    pub(super) fn on_frame(
        &mut self,
        me: &Me,
        link: LinkId,
        frame: &FromRelay,
        now: Instant,
    ) -> Option<(Lane, Vec<u8>)> {
        let relay = self
            .relays
            .iter_mut()
            .find(|relay| relay.link() == Some(link))?;
        match frame {
            FromRelay::Challenge { version, nonce } => {
                if *version != PROTOCOL_VERSION {
                    let trouble = refused(&relay.url, Refusal::Version);
                    self.events.push_back(RelayEvent::Trouble(trouble));
                }
                let attach = Attach::new(nonce, &me.identity, &me.record, &me.network).into();
                Some((Lane::Control, ToRelay::Attach(attach).encode()))
            }
            FromRelay::Welcome { member } => {
                if !matches!(relay.state, State::Attaching { .. }) {
                    return None;
                }
                if member.verify(&me.network).is_err() {
                    let words = format!("relay {} has no member of this network", relay.url);
                    let trouble = Trouble::new(TroubleKind::RelayRefused, words);
                    self.events.push_back(RelayEvent::Trouble(trouble));
                    return None;
                }
                let member = member.clone();
                relay.state = State::Attached {
                    link,
                    member: member.id(),
                };
                (relay.failures, relay.slow) = (0, 0);
                self.events.push_back(RelayEvent::Attached { member });
                None
            }
            FromRelay::Refused(refusal) => {
                let trouble = refused(&relay.url, *refusal);
                self.events.push_back(RelayEvent::Trouble(trouble));
                relay.failures = relay.failures.max(6);
                let _ = now;
                None
            }
            FromRelay::Deliver { .. } | FromRelay::Gone { .. } => None,
        }
    }

    /// A link to a relay closed, or could not be opened.
    pub(super) fn on_down(&mut self, link: LinkId, reason: &str, rng: &mut Rng, now: Instant) {
        let Some(relay) = self
            .relays
            .iter_mut()
            .find(|relay| relay.link() == Some(link))
        else {
            return;
        };
        // Said once at the first failure, not at each of an endless row.
        if relay.failures == 0 {
            let kind = match relay.state {
                State::Attached { .. } => TroubleKind::RelayLost,
                _ => TroubleKind::RelayUnreachable,
            };
            let words = format!("relay {}: {reason}; dialling again", relay.url);
            self.events
                .push_back(RelayEvent::Trouble(Trouble::new(kind, words)));
        }
        let member = match relay.state {
            State::Attached { member, .. } => Some(member),
            State::Waiting { .. } | State::Attaching { .. } => None,
        };
        let pause = PAUSE_MIN * 2u32.saturating_pow(relay.failures.min(10));
        relay.failures = relay.failures.saturating_add(1);
        relay.state = State::Waiting {
            dial_at: now + rng.jitter(pause.min(PAUSE_MAX)),
        };
        self.events.push_back(RelayEvent::Lost { link, member });
    }

    /// Dials what is due, and gives up what takes too long.
    pub(super) fn on_timeout(
        &mut self,
        rng: &mut Rng,
        now: Instant,
        mut next_link: impl FnMut() -> LinkId,
        outputs: &mut VecDeque<Output>,
    ) {
        let mut slow = Vec::new();
        for relay in &mut self.relays {
            match relay.state {
                State::Waiting { dial_at } if dial_at <= now => {
                    let link = next_link();
                    let patience = ATTACH_MIN * 2u32.saturating_pow(relay.slow.min(10));
                    let deadline = now + patience.min(ATTACH_MAX);
                    relay.state = State::Attaching { link, deadline };
                    let to = Dial::Relay {
                        url: relay.url.clone(),
                    };
                    outputs.push_back(Output::Dial { link, to });
                }
                State::Attaching { link, deadline } if deadline <= now => {
                    relay.slow = relay.slow.saturating_add(1);
                    slow.push(link);
                }
                _ => {}
            }
        }
        for link in slow {
            outputs.push_back(Output::Hangup { link });
            self.on_down(link, "no answer in time", rng, now);
        }
    }

    /// Dials every lost relay at once: the network came back, or the clock
    /// jumped.
    pub(super) fn hurry(&mut self, now: Instant) {
        for relay in &mut self.relays {
            if let State::Waiting { dial_at } = &mut relay.state {
                *dial_at = now;
            }
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let times = self.relays.iter().filter_map(|relay| match relay.state {
            State::Waiting { dial_at } => Some(dial_at),
            State::Attaching { deadline, .. } => Some(deadline),
            State::Attached { .. } => None,
        });
        times.min()
    }

    pub(super) fn status(&self) -> Vec<RelayStatus> {
        let status = |relay: &Relay| RelayStatus {
            url: relay.url.to_string(),
            state: match relay.state {
                State::Waiting { .. } => RelayState::Lost,
                State::Attaching { .. } => RelayState::Connecting,
                State::Attached { .. } => RelayState::Attached,
            },
        };
        self.relays.iter().map(status).collect()
    }
}

impl Me {
    /// This node is attached to a relay: others may look for it there.
    pub(super) fn add_home(&mut self, relay: NodeId) {
        let homes = self.record.homes();
        if homes.len() < HOME_COUNT_MAX && !homes.contains(&relay) {
            let homes = [homes, &[relay]].concat();
            let facts = self.record.facts().clone();
            self.record = self.identity.record_at(facts, homes, &self.network);
        }
    }
}

impl Relay {
    fn link(&self) -> Option<LinkId> {
        match self.state {
            State::Waiting { .. } => None,
            State::Attaching { link, .. } | State::Attached { link, .. } => Some(link),
        }
    }
}

fn refused(url: &str, refusal: Refusal) -> Trouble {
    let kind = match refusal {
        Refusal::Network => TroubleKind::WrongNetwork,
        _ => TroubleKind::RelayRefused,
    };
    Trouble::new(kind, format!("relay {url} refuses this node: {refusal}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One relay that was never dialled, and what dialling it takes.
    fn one_relay() -> (Instant, Relays, Rng, VecDeque<Output>) {
        let now = Instant::default();
        let relays = Relays::new(&["ws://relay.example/ws".into()], now);
        (now, relays, Rng::from_seed([7; 32]), VecDeque::new())
    }

    #[test]
    fn a_lost_relay_is_dialled_for_ever_after_pauses_that_grow_and_differ() {
        let (mut now, mut relays, mut rng, mut outputs) = one_relay();
        let mut pauses = Vec::new();
        for number in 0..1000 {
            relays.on_timeout(&mut rng, now, || LinkId(number), &mut outputs);
            let dialled = outputs.pop_front();
            assert!(
                matches!(dialled, Some(Output::Dial { link: LinkId(link), .. }) if link == number)
            );
            relays.on_down(LinkId(number), "refused", &mut rng, now);
            let due = relays.poll_timeout().unwrap();
            pauses.push(due.since(now));
            now = due;
        }
        assert!(pauses[0] >= PAUSE_MIN / 2 && pauses[0] <= PAUSE_MIN);
        assert!(pauses[1] >= PAUSE_MIN && pauses[1] <= PAUSE_MIN * 2);
        let late = pauses.split_off(10);
        assert!(
            late.iter()
                .all(|pause| (PAUSE_MAX / 2..=PAUSE_MAX).contains(pause))
        );
        assert!(late.windows(2).any(|pair| pair[0] != pair[1]));
        let troubles = relays.events.iter();
        let troubles = troubles.filter(|event| matches!(event, RelayEvent::Trouble(_)));
        assert_eq!(troubles.count(), 1, "said once");
    }

    #[test]
    fn a_relay_that_does_not_answer_is_dialled_anew_soon_and_given_more_time() {
        let (mut now, mut relays, mut rng, mut outputs) = one_relay();
        let mut waits = Vec::new();
        for number in 0..4 {
            relays.on_timeout(&mut rng, now, || LinkId(number), &mut outputs);
            let deadline = relays.poll_timeout().unwrap();
            waits.push(deadline.since(now));
            relays.on_timeout(&mut rng, deadline, || LinkId(99), &mut outputs);
            assert!(!relays.owns(LinkId(number)), "given up");
            now = relays.poll_timeout().unwrap();
        }
        assert_eq!(waits, [3, 6, 10, 10].map(Duration::from_secs));
    }
}
