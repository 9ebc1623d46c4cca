//! One peer connection: `rtc` 0.21.1 fed and drained.
//!
//! `rtc` does no work unasked, and some of its work waits for a timer that is
//! not due: after every event it must be given the time and be drained again,
//! or a handshake flight lies for 200 ms. [`Connection::turn`] does so, and is
//! called after every change.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use roundelay_core::event::{Description, DescriptionKind, Lane, LinkId, Role};
use rtc::data_channel::{RTCDataChannelId, RTCDataChannelInit};
use rtc::peer_connection::RTCPeerConnection;
use rtc::peer_connection::event::{RTCDataChannelEvent, RTCPeerConnectionEvent};
use rtc::peer_connection::message::RTCMessage;
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::peer_connection::transport::RTCIceCandidateInit;
use rtc::sansio::Protocol;
use rtc::shared::error::Error as RtcError;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};
use sync_wrapper::SyncWrapper;

use super::candidates::{self, MAX_REMOTE, Remote};
use super::channel::{ChannelKind, Next, Outbox};
use super::factory::Factory;
use super::path::Path;
use super::timers::Timers;
use super::{DirectEvent, END_MARK};

/// The longest description taken from a peer; theirs are below 2 KiB.
const MAX_DESCRIPTION: usize = 16 << 10;

/// The time that a close gives to what was sent before it.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// Datagrams fed between two drains of an open link. Fewer cost calls, more
/// make one acknowledgement of many, and SCTP needs three to see a loss.
const MAX_FED: usize = 16;

/// Takes the datagrams that a connection sends.
pub(super) trait Wire {
    /// One datagram, by a local address to a remote one.
    fn send(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]);
}

/// Whether a connection goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It does.
    Alive,
    /// It does not: why, in words.
    Down(String),
    /// It was closed by this side, and that is done.
    Closed,
}

/// When a fed connection wants its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Before it is fed again.
    Now,
    /// After the burst.
    Soon,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Opening,
    Up,
    /// Closed by this side; ends at this instant at the latest.
    Closing(Instant),
}

#[derive(Debug)]
struct Channel {
    id: RTCDataChannelId,
    outbox: Outbox,
    open: bool,
    /// The peer's end mark has come.
    ended: bool,
}

impl Channel {
    fn create(rtc: &mut RTCPeerConnection, label: &str, number: u16) -> Result<Self, RtcError> {
        let init = RTCDataChannelInit {
            negotiated: Some(number),
            ..RTCDataChannelInit::default()
        };
        Ok(Self {
            id: rtc.create_data_channel(label, Some(init))?.id(),
            outbox: Outbox::default(),
            open: false,
            ended: false,
        })
    }
}

/// A link.
pub(super) struct Connection {
    link: LinkId,
    role: Role,
    /// Wrapped, as it is not `Sync` and a future that borrows its owner, such
    /// as the wait for the socket, could not move between threads.
    rtc: SyncWrapper<RTCPeerConnection>,
    control: Channel,
    bulk: Channel,
    path: Path,
    window: usize,
    phase: Phase,
    /// Why it must end, found where it could not be said.
    fault: Option<String>,
    lost: bool,
    deadline: Option<Instant>,
    timers: Timers,
    fed: usize,
    /// Its owner has noted that it wants a turn.
    pub(super) marked: bool,
    described: bool,
    candidates: usize,
    /// Candidates that came before the description they belong to.
    early: Vec<String>,
}

impl Connection {
    /// A connection that has these addresses and waits for a description.
    pub(super) fn new(
        factory: &Factory,
        link: LinkId,
        role: Role,
        addresses: &[SocketAddr],
        now: Instant,
    ) -> Result<Self, String> {
        let make = || {
            let mut rtc = factory.build(now)?;
            let control = Channel::create(&mut rtc, "control", 0)?;
            let bulk = Channel::create(&mut rtc, "bulk", 1)?;
            for (rank, address) in (0..).zip(addresses) {
                rtc.add_local_candidate(candidates::init(candidates::host_line(*address, rank)))?;
            }
            // An empty one says that there are no more.
            rtc.add_local_candidate(RTCIceCandidateInit::default())?;
            Ok((rtc, control, bulk))
        };
        let (rtc, control, bulk) =
            make().map_err(|error: RtcError| format!("no peer connection: {error}"))?;
        Ok(Self {
            link,
            role,
            rtc: SyncWrapper::new(rtc),
            control,
            bulk,
            path: Path::default(),
            window: factory.window(),
            phase: Phase::Opening,
            fault: None,
            lost: false,
            deadline: None,
            timers: Timers::new(role, now),
            fed: 0,
            marked: false,
            described: false,
            candidates: 0,
            early: Vec::new(),
        })
    }

    /// Makes an offer.
    pub(super) fn offer(&mut self, now: Instant) -> Result<Description, String> {
        let mut make = || {
            let offer = self.rtc.get_mut().create_offer(None)?;
            self.rtc.get_mut().set_local_description(now, offer)
        };
        make().map_err(|error: RtcError| format!("no offer: {error}"))?;
        self.local(DescriptionKind::Offer)
    }

    fn local(&mut self, kind: DescriptionKind) -> Result<Description, String> {
        let description = self.rtc.get_mut().local_description();
        let description = description.ok_or("rtc made no description")?;
        Ok(Description {
            link: self.link,
            kind,
            text: description.sdp,
        })
    }

    /// Takes a description from the peer, and answers it if it is an offer.
    pub(super) fn remote(
        &mut self,
        kind: DescriptionKind,
        text: &str,
        now: Instant,
    ) -> Result<Option<Description>, String> {
        if text.len() > MAX_DESCRIPTION {
            return Err("the peer's description is too long".into());
        }
        match (kind, self.role) {
            (DescriptionKind::Candidate, _) => {
                self.remote_candidate(text)?;
                Ok(None)
            }
            (DescriptionKind::Offer, Role::Answerer) => {
                self.describe(kind, text, now)?;
                let mut make = || {
                    let answer = self.rtc.get_mut().create_answer(None)?;
                    self.rtc.get_mut().set_local_description(now, answer)
                };
                make().map_err(|error: RtcError| format!("no answer: {error}"))?;
                self.local(DescriptionKind::Answer).map(Some)
            }
            (DescriptionKind::Answer, Role::Offerer) => {
                self.describe(kind, text, now)?;
                Ok(None)
            }
            (DescriptionKind::Offer, Role::Offerer) => Err("both sides made an offer".into()),
            (DescriptionKind::Answer, Role::Answerer) => Err("an answer to no offer".into()),
        }
    }

    fn describe(&mut self, kind: DescriptionKind, text: &str, now: Instant) -> Result<(), String> {
        let data_only = text.lines().filter(|line| line.starts_with("m="));
        if data_only
            .map(|line| line.starts_with("m=application "))
            .ne([true])
        {
            return Err("the peer's description is not of data channels alone".into());
        }
        let (text, kept) = candidates::filter_description(text)
            .ok_or("the peer's description has a malformed candidate")?;
        let description = match kind {
            DescriptionKind::Answer => RTCSessionDescription::answer(text),
            _ => RTCSessionDescription::offer(text),
        };
        description
            .and_then(|description| self.rtc.get_mut().set_remote_description(now, description))
            .map_err(|error| format!("the peer's description is malformed: {error}"))?;
        self.described = true;
        self.candidates += kept;
        for line in std::mem::take(&mut self.early) {
            self.remote_candidate(&line)?;
        }
        Ok(())
    }

    fn remote_candidate(&mut self, line: &str) -> Result<(), String> {
        match candidates::judge(line) {
            Remote::Malformed => return Err("the peer's candidate is malformed".into()),
            Remote::Useless => return Ok(()),
            Remote::Usable if self.candidates + self.early.len() >= MAX_REMOTE => return Ok(()),
            Remote::Usable => {}
        }
        let line = line.trim();
        if !self.described {
            self.early.push(line.to_owned());
            return Ok(());
        }
        self.candidates += 1;
        self.rtc
            .get_mut()
            .add_remote_candidate(candidates::init(line.to_owned()))
            .map_err(|error| format!("the peer's candidate is malformed: {error}"))
    }

    /// Feeds a datagram. Answers when a turn is due.
    pub(super) fn feed(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        bytes: &[u8],
        now: Instant,
    ) -> Due {
        let from = self.path.on_received(from, bytes, now);
        if self.path.is_selected(from) {
            self.timers.on_heard(now);
        }
        let datagram = TaggedBytesMut {
            now,
            transport: TransportContext {
                local_addr: to,
                peer_addr: from,
                ecn: None,
                transport_protocol: TransportProtocol::UDP,
            },
            message: BytesMut::from(bytes),
        };
        // The first byte of STUN is 0 to 3 (RFC 7983).
        if bytes.first().is_some_and(|first| *first > 3) {
            self.timers.on_data(bytes.len(), now);
        }
        // A bad datagram is its sender's matter; `rtc` answers no error here.
        let _ = self.rtc.get_mut().handle_read(datagram);
        self.fed += 1;
        // Until the channels are open every datagram takes a turn: `rtc` drops
        // a message that comes in before it has raised their opening.
        if self.phase == Phase::Opening || self.fed >= MAX_FED {
            Due::Now
        } else {
            Due::Soon
        }
    }

    /// Gives the time, if a timer is due.
    pub(super) fn on_timeout(&mut self, now: Instant) {
        if let Phase::Closing(limit) = self.phase
            && limit <= now
        {
            self.lost = true;
        }
        if self.phase == Phase::Up && self.timers.is_lost(now) {
            self.fault
                .get_or_insert_with(|| "no path to the peer answers".into());
        }
        self.timers.on_given(now);
        self.give_time(now);
    }

    fn give_time(&mut self, now: Instant) {
        if let Err(error) = self.rtc.get_mut().handle_timeout(now) {
            self.fault
                .get_or_insert_with(|| format!("the connection broke: {error}"));
        }
    }

    /// When [`Connection::on_timeout`] is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let limit = match self.phase {
            Phase::Closing(limit) => Some(limit),
            _ => None,
        };
        [self.deadline, limit].into_iter().flatten().min()
    }

    /// Queues a message.
    pub(super) fn send(&mut self, lane: Lane, bytes: Vec<u8>) {
        if self.is_closing() {
            return;
        }
        let channel = match ChannelKind::carrying(lane) {
            ChannelKind::Control => &mut self.control,
            ChannelKind::Bulk => &mut self.bulk,
        };
        if !channel.outbox.push(lane, bytes) {
            self.fault
                .get_or_insert_with(|| format!("too much waits in the lane {lane:?}"));
        }
    }

    /// Begins to close: what was sent before still goes, and end marks last.
    pub(super) fn close(&mut self, now: Instant) {
        match self.phase {
            Phase::Opening => self.lost = true,
            Phase::Up => {
                self.control.outbox.end();
                self.bulk.outbox.end();
            }
            Phase::Closing(_) => return,
        }
        self.phase = Phase::Closing(now + CLOSE_LIMIT);
    }

    /// Whether this side has closed it.
    pub(super) fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing(_))
    }

    /// Takes out what has come, and sends nothing.
    pub(super) fn read(&mut self, events: &mut VecDeque<DirectEvent>) {
        while let Some(message) = self.rtc.get_mut().poll_read() {
            self.on_message(message.message, events);
        }
    }

    /// Drains and feeds until nothing moves any more.
    pub(super) fn turn(
        &mut self,
        now: Instant,
        wire: &mut impl Wire,
        events: &mut VecDeque<DirectEvent>,
    ) -> Verdict {
        self.fed = 0;
        self.marked = false;
        self.settle(events);
        let was_acknowledged = self.is_acknowledged();
        self.hand_over(now);
        loop {
            self.write(now, wire);
            let mut raised = false;
            while let Some(event) = self.rtc.get_mut().poll_event() {
                raised = true;
                self.on_event(&event, events);
            }
            let mut read = false;
            while let Some(message) = self.rtc.get_mut().poll_read() {
                read = true;
                self.on_message(message.message, events);
            }
            self.settle(events);
            let handed = self.hand_over(now);
            if !raised && !read && !handed {
                break;
            }
            if raised {
                self.give_time(now);
            }
        }
        if was_acknowledged && let Some(later) = self.timers.early_ack() {
            // By SCTP's clock it is due then, and nothing else is: what was
            // sent just now is sent again a second later at the earliest.
            self.give_time(later);
            self.write(now, wire);
        }
        let verdict = self.verdict();
        if verdict == Verdict::Alive {
            self.deadline = self.due(now);
        } else {
            self.shut(now, wire);
        }
        verdict
    }

    /// Whether nothing waits, neither to leave nor to be acknowledged.
    fn is_idle(&self) -> bool {
        self.control.outbox.is_idle() && self.bulk.outbox.is_idle()
    }

    /// Whether nothing that was sent waits for an acknowledgement.
    fn is_acknowledged(&self) -> bool {
        self.control.outbox.is_acknowledged() && self.bulk.outbox.is_acknowledged()
    }

    /// When the time is to be given next. What `rtc` asks for counts only until
    /// the link is open: from then on it asks for every 200 ms, for ever.
    fn due(&mut self, now: Instant) -> Option<Instant> {
        if self.phase != Phase::Up {
            let at = self.rtc.get_mut().poll_timeout();
            // Timers that are overdue even now would spin the caller.
            return at.map(|at| at.max(now + Duration::from_millis(1)));
        }
        let (is_idle, is_moving) = (self.is_idle(), self.path.has_rival());
        Some(self.timers.due(is_idle, is_moving, now))
    }

    fn on_event(&mut self, event: &RTCPeerConnectionEvent, events: &mut VecDeque<DirectEvent>) {
        match event {
            RTCPeerConnectionEvent::OnDataChannel(RTCDataChannelEvent::OnOpen(id)) => {
                for channel in [&mut self.control, &mut self.bulk] {
                    channel.open |= channel.id == *id;
                }
                if self.phase == Phase::Opening && self.control.open && self.bulk.open {
                    self.phase = Phase::Up;
                    events.push_back(DirectEvent::Up { link: self.link });
                }
            }
            RTCPeerConnectionEvent::OnDataChannel(RTCDataChannelEvent::OnClose(_)) => {
                self.lost = true;
            }
            _ => {}
        }
    }

    fn on_message(&mut self, message: RTCMessage, events: &mut VecDeque<DirectEvent>) {
        let RTCMessage::DataChannelMessage(id, message) = message else {
            return;
        };
        let channels = [&mut self.control, &mut self.bulk];
        let Some(channel) = channels.into_iter().find(|channel| channel.id == id) else {
            return;
        };
        if message.is_string {
            // No other text has a meaning.
            channel.ended |= message.data == END_MARK;
        } else if self.phase == Phase::Up && !channel.ended {
            events.push_back(DirectEvent::Frame {
                link: self.link,
                bytes: message.data.into(),
            });
        }
    }

    /// Reports the bytes that have left.
    fn settle(&mut self, events: &mut VecDeque<DirectEvent>) {
        let mut drained = [0; Lane::ALL.len()];
        for channel in [&mut self.control, &mut self.bulk] {
            let outstanding = self
                .rtc
                .get_mut()
                .data_channel(channel.id)
                .map_or(0, |channel| channel.outstanding_bytes());
            channel.outbox.settle(outstanding, |lane, bytes| {
                drained[lane as usize] += bytes;
            });
        }
        if self.phase != Phase::Up {
            return;
        }
        for (lane, bytes) in Lane::ALL.into_iter().zip(drained) {
            if bytes > 0 {
                let link = self.link;
                events.push_back(DirectEvent::Drained { link, lane, bytes });
            }
        }
    }

    /// Gives what the windows allow to `rtc`; answers whether it gave any.
    fn hand_over(&mut self, now: Instant) -> bool {
        if self.phase == Phase::Opening || self.lost {
            return false;
        }
        let mut handed = false;
        for channel in [&mut self.control, &mut self.bulk] {
            while let Some(next) = channel.outbox.take(self.window) {
                let Some(mut out) = self.rtc.get_mut().data_channel(channel.id) else {
                    self.lost = true;
                    return handed;
                };
                let sent = match next {
                    // Neither conversion copies.
                    Next::Message(bytes) => out.send(now, BytesMut::from(Bytes::from(bytes))),
                    Next::End => out.send_text(now, END_MARK),
                };
                if let Err(error) = sent {
                    self.fault
                        .get_or_insert_with(|| format!("the channel takes no message: {error}"));
                    return handed;
                }
                handed = true;
            }
        }
        handed
    }

    fn verdict(&mut self) -> Verdict {
        let ended = self.control.ended && self.bulk.ended;
        if self.is_closing() {
            let finished = self.control.outbox.is_finished() && self.bulk.outbox.is_finished();
            let done = self.lost || self.fault.is_some() || (ended && finished);
            return if done {
                Verdict::Closed
            } else {
                Verdict::Alive
            };
        }
        if ended {
            Verdict::Down("closed by peer".into())
        } else if let Some(fault) = self.fault.take() {
            Verdict::Down(fault)
        } else if self.lost {
            Verdict::Down("the peer's end broke off".into())
        } else {
            Verdict::Alive
        }
    }

    /// Ends the connection at once, and tells the peer's transport.
    pub(super) fn shut(&mut self, now: Instant, wire: &mut impl Wire) {
        // What fails to close is dropped all the same.
        let _ = self.rtc.get_mut().close();
        self.write(now, wire);
    }

    fn write(&mut self, now: Instant, wire: &mut impl Wire) {
        while let Some(out) = self.rtc.get_mut().poll_write() {
            let (from, bytes) = (out.transport.local_addr, &out.message);
            // `rtc` checks every path every 2 s, whatever comes by it.
            let is_needless = self.phase == Phase::Up
                && self.timers.is_fresh(self.is_idle(), now)
                && !self.path.has_rival()
                && self.path.is_check(out.transport.peer_addr, bytes);
            if is_needless {
                continue;
            }
            let (to, also) = self.path.on_sent(out.transport.peer_addr, bytes, now);
            for to in std::iter::once(to).chain(also) {
                wire.send(from, to, bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests;
