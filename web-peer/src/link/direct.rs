//! Direct links: WebRTC data channels to peers.
//!
//! What both ends keep to is written in `native-relay/src/link/direct.rs`:
//! channel 0 "control" carries the lanes control and key-value, channel 1
//! "bulk" carries repair and bulk; a message of core is one binary message;
//! the text message [`END_MARK`] is the last on each channel before a close.
//!
//! Chromium refuses a page's 501st connection that was not collected, closed
//! ones included. So every handler is taken away when a link ends, and no
//! future holds a connection.

mod channel;

use js_sys::{Array, Object};
use roundelay_core::{Description, DescriptionKind, Input, Lane, LinkId, Role};
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{
    Event, RtcConfiguration, RtcIceCandidateInit, RtcIceServer, RtcPeerConnection,
    RtcPeerConnectionIceEvent, RtcPeerConnectionState, RtcSdpType, RtcSessionDescriptionInit,
};

use self::channel::Channel;
pub(crate) use self::channel::ChannelKind;
use crate::error::words;
use crate::handle::WeakHandle;

/// The text message that ends a channel.
pub(crate) const END_MARK: &str = "end";

/// Candidates kept until the description that they belong to has come. More
/// are passed over: a peer has few.
const EARLY_COUNT_MAX: usize = 32;

/// What a channel did.
#[derive(Debug)]
pub(crate) enum ChannelEvent {
    /// It is open for messages.
    Open,
    /// A message came.
    Message(Vec<u8>),
    /// The end mark came.
    Ended,
    /// The browser's buffer has become small.
    Low,
    /// It is closed.
    Closed,
}

/// One connection to a peer.
#[derive(Debug)]
pub(crate) struct Direct {
    link: LinkId,
    role: Role,
    driver: WeakHandle,
    connection: RtcPeerConnection,
    control: Channel,
    bulk: Channel,
    is_described: bool,
    early: Vec<String>,
    is_up: bool,
    /// The connection calls these until [`Drop`] takes them away.
    _on_candidate: Closure<dyn FnMut(RtcPeerConnectionIceEvent)>,
    _on_state: Closure<dyn FnMut(Event)>,
}

/// Whether this browser has direct links at all.
pub(crate) fn is_supported() -> bool {
    js_sys::Reflect::has(&js_sys::global(), &"RTCPeerConnection".into()).unwrap_or_default()
}

impl Direct {
    /// Begins a connection: makes an offer at once, or waits for one.
    ///
    /// # Errors
    /// When the browser refuses, in words.
    pub(crate) fn open(
        driver: &WeakHandle,
        link: LinkId,
        role: Role,
        stun: Option<&str>,
    ) -> Result<Self, String> {
        let connection = connect(stun).map_err(|exception| words(&exception))?;
        let on_candidate = driver.on(move |driver, event: RtcPeerConnectionIceEvent| {
            if let Some(candidate) = event.candidate()
                && !candidate.candidate().is_empty()
            {
                let (kind, text) = (DescriptionKind::Candidate, candidate.candidate());
                driver.push(Input::Local(Description { link, kind, text }));
            }
        });
        let on_state = driver.on(move |driver, _: Event| {
            driver.with_direct(link, Self::on_state);
        });
        connection.set_onicecandidate(Some(on_candidate.as_ref().unchecked_ref()));
        connection.set_onconnectionstatechange(Some(on_state.as_ref().unchecked_ref()));
        let mut direct = Self {
            link,
            role,
            driver: driver.clone(),
            control: Channel::open(driver, &connection, link, ChannelKind::Control),
            bulk: Channel::open(driver, &connection, link, ChannelKind::Bulk),
            connection,
            is_described: false,
            early: Vec::new(),
            is_up: false,
            _on_candidate: on_candidate,
            _on_state: on_state,
        };
        if role == Role::Offerer {
            direct.describe(None);
        }
        Ok(direct)
    }

    /// Takes a description or candidate of the peer's, verified by core.
    pub(crate) fn remote(&mut self, kind: DescriptionKind, text: &str) {
        match (kind, self.role) {
            (DescriptionKind::Candidate, _) if self.is_described => self.add_candidate(text),
            (DescriptionKind::Candidate, _) if self.early.len() < EARLY_COUNT_MAX => {
                self.early.push(text.into());
            }
            (DescriptionKind::Offer, Role::Answerer) | (DescriptionKind::Answer, Role::Offerer)
                if !self.is_described =>
            {
                self.describe(Some(text));
                // The browser takes them after the description: it does one
                // thing after another (W3C WebRTC, 4.4.1.2).
                for candidate in std::mem::take(&mut self.early) {
                    self.add_candidate(&candidate);
                }
            }
            _ => {}
        }
    }

    /// Takes the peer's description, if there is one, and makes our own, if
    /// it is our turn.
    fn describe(&mut self, remote: Option<&str>) {
        let mut steps = Vec::new();
        if let Some(text) = remote {
            self.is_described = true;
            let kind = match self.role {
                Role::Offerer => RtcSdpType::Answer,
                Role::Answerer => RtcSdpType::Offer,
            };
            let description = RtcSessionDescriptionInit::new(kind);
            description.set_sdp(text);
            steps.push(JsFuture::from(
                self.connection.set_remote_description(&description),
            ));
        }
        let own = match (self.role, remote) {
            (Role::Offerer, None) => Some(DescriptionKind::Offer),
            (Role::Answerer, Some(_)) => Some(DescriptionKind::Answer),
            _ => None,
        };
        if own.is_some() {
            // Without a type the browser makes the offer or answer that is due.
            let due: RtcSessionDescriptionInit = Object::new().unchecked_into();
            steps.push(JsFuture::from(self.connection.set_local_description(&due)));
        }
        let (driver, link) = (self.driver.clone(), self.link);
        spawn_local(async move {
            let mut failure = None;
            for step in steps {
                if let Err(exception) = step.await {
                    failure.get_or_insert_with(|| words(&exception));
                }
            }
            driver.turn(|driver| match (failure, own) {
                (Some(reason), _) => driver.on_direct_closed(link, reason),
                (None, Some(kind)) => driver.with_direct(link, |direct| direct.tell_own(kind)),
                (None, None) => {}
            });
        });
    }

    fn tell_own(&mut self, kind: DescriptionKind) -> Effect {
        let Some(description) = self.connection.local_description() else {
            return Effect::Down("the browser made no description".into());
        };
        let (link, text) = (self.link, description.sdp());
        Effect::Input(Input::Local(Description { link, kind, text }))
    }

    fn add_candidate(&self, text: &str) {
        let candidate = RtcIceCandidateInit::new(text.trim_start_matches("a="));
        candidate.set_sdp_mid(Some("0"));
        candidate.set_sdp_m_line_index(Some(0));
        let added = self
            .connection
            .add_ice_candidate_with_opt_rtc_ice_candidate_init(Some(&candidate));
        // One that the browser does not like is one path less, no failure.
        let added = JsFuture::from(added);
        spawn_local(async move {
            let _ = added.await;
        });
    }

    fn on_state(&mut self) -> Effect {
        match self.connection.connection_state() {
            RtcPeerConnectionState::Failed if self.is_up => {
                Effect::Down("the peer cannot be reached any more".into())
            }
            RtcPeerConnectionState::Failed => Effect::Down("no path to the peer was found".into()),
            RtcPeerConnectionState::Closed => Effect::Down("the connection closed".into()),
            // "disconnected" is not death: it may come back by itself.
            _ => Effect::None,
        }
    }

    /// Takes in what a channel did.
    pub(crate) fn on_channel(&mut self, kind: ChannelKind, event: ChannelEvent) -> Effect {
        let link = self.link;
        let channel = self.channel(kind);
        match event {
            ChannelEvent::Open => {
                channel.is_open = true;
                if self.control.is_open && self.bulk.is_open && !self.is_up {
                    self.is_up = true;
                    return Effect::Input(Input::LinkUp { link });
                }
                Effect::None
            }
            ChannelEvent::Message(bytes) => Effect::Input(Input::Frame { link, bytes }),
            ChannelEvent::Ended => {
                channel.has_ended = true;
                if self.control.has_ended && self.bulk.has_ended {
                    return Effect::Down("closed by peer".into());
                }
                Effect::None
            }
            // Every turn settles the accounts.
            ChannelEvent::Low => Effect::None,
            ChannelEvent::Closed => Effect::Down("the data channel broke off".into()),
        }
    }

    /// Sends a message. On a link that breaks it is lost, as the end will
    /// tell.
    pub(crate) fn send(&mut self, lane: Lane, bytes: &[u8]) {
        self.channel(ChannelKind::carrying(lane)).send(lane, bytes);
    }

    /// Reports what left the browser's buffers.
    pub(crate) fn settle(&mut self, mut report: impl FnMut(Lane, usize)) {
        self.control.settle(&mut report);
        self.bulk.settle(&mut report);
    }

    /// Says that this end closes the link. Returns whether the peer can hear
    /// it; then keep the link until [`Self::on_channel`] says that it is down,
    /// or for a second.
    pub(crate) fn end(&mut self) -> bool {
        if self.is_up {
            self.control.end();
            self.bulk.end();
        }
        self.is_up
    }

    fn channel(&mut self, kind: ChannelKind) -> &mut Channel {
        match kind {
            ChannelKind::Control => &mut self.control,
            ChannelKind::Bulk => &mut self.bulk,
        }
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        self.connection.set_onicecandidate(None);
        self.connection.set_onconnectionstatechange(None);
        self.control.fall_silent();
        self.bulk.fall_silent();
        self.connection.close();
    }
}

/// What follows from an event, for the driver to do.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Nothing.
    None,
    /// Core must know.
    Input(Input),
    /// The link has ended, for this reason.
    Down(String),
}

fn connect(stun: Option<&str>) -> Result<RtcPeerConnection, JsValue> {
    let configuration = RtcConfiguration::new();
    if let Some(stun) = stun {
        let server = RtcIceServer::new();
        server.set_urls(&stun.into());
        configuration.set_ice_servers(&Array::of1(&server));
    }
    RtcPeerConnection::new_with_configuration(&configuration)
}
