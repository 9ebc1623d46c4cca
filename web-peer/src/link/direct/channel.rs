//! One data channel of a direct link.

use roundelay_core::{Lane, LinkId};
use wasm_bindgen::JsCast;
use wasm_bindgen::closure::Closure;
use web_sys::{
    Event, MessageEvent, RtcDataChannel, RtcDataChannelInit, RtcDataChannelType, RtcPeerConnection,
};

use super::{ChannelEvent, END_MARK};
use crate::handle::WeakHandle;
use crate::link::account::Account;
use crate::signalling::binary;

/// Up to so many bytes may wait in the browser before core is held back.
const BUFFERED_SMALL: u32 = 64 << 10;

/// The channels of a link. Their numbers are fixed, and both ends create them
/// unasked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChannelKind {
    /// Number 0: what must never wait behind data.
    Control,
    /// Number 1: data.
    Bulk,
}

impl ChannelKind {
    /// The channel that carries a lane.
    pub(super) const fn carrying(lane: Lane) -> Self {
        match lane {
            Lane::Control | Lane::Kv => Self::Control,
            Lane::Repair | Lane::Bulk => Self::Bulk,
        }
    }

    const fn name_and_number(self) -> (&'static str, u16) {
        match self {
            Self::Control => ("control", 0),
            Self::Bulk => ("bulk", 1),
        }
    }
}

/// One channel.
#[derive(Debug)]
pub(super) struct Channel {
    channel: RtcDataChannel,
    account: Account,
    pub(super) is_open: bool,
    /// The peer's end mark has come.
    pub(super) has_ended: bool,
    /// The channel calls these until [`Channel::fall_silent`].
    on_message: Closure<dyn FnMut(MessageEvent)>,
    on_open: Closure<dyn FnMut(Event)>,
    on_low: Closure<dyn FnMut(Event)>,
    on_close: Closure<dyn FnMut(Event)>,
}

impl Channel {
    /// Makes a channel that is negotiated in advance.
    pub(super) fn open(
        driver: &WeakHandle,
        connection: &RtcPeerConnection,
        link: LinkId,
        kind: ChannelKind,
    ) -> Self {
        let (name, number) = kind.name_and_number();
        let init = RtcDataChannelInit::new();
        init.set_negotiated(true);
        init.set_id(number);
        init.set_ordered(true);
        let channel = connection.create_data_channel_with_data_channel_dict(name, &init);
        channel.set_binary_type(RtcDataChannelType::Arraybuffer);
        channel.set_buffered_amount_low_threshold(BUFFERED_SMALL);
        let tell = |event: fn() -> ChannelEvent| {
            driver.on(move |driver, _: Event| driver.on_channel(link, kind, event()))
        };
        let on_message = driver.on(move |driver, event: MessageEvent| {
            if let Some(bytes) = binary(&event) {
                driver.on_channel(link, kind, ChannelEvent::Message(bytes));
            } else if event
                .data()
                .as_string()
                .is_some_and(|text| text == END_MARK)
            {
                driver.on_channel(link, kind, ChannelEvent::Ended);
            }
        });
        let new = Self {
            channel,
            account: Account::default(),
            is_open: false,
            has_ended: false,
            on_message,
            on_open: tell(|| ChannelEvent::Open),
            on_low: tell(|| ChannelEvent::Low),
            on_close: tell(|| ChannelEvent::Closed),
        };
        new.listen();
        new
    }

    fn listen(&self) {
        let channel = &self.channel;
        channel.set_onmessage(Some(self.on_message.as_ref().unchecked_ref()));
        channel.set_onopen(Some(self.on_open.as_ref().unchecked_ref()));
        channel.set_onbufferedamountlow(Some(self.on_low.as_ref().unchecked_ref()));
        // An error is always followed by a close.
        channel.set_onclose(Some(self.on_close.as_ref().unchecked_ref()));
    }

    /// Takes all handlers away.
    pub(super) fn fall_silent(&self) {
        self.channel.set_onmessage(None);
        self.channel.set_onopen(None);
        self.channel.set_onbufferedamountlow(None);
        self.channel.set_onclose(None);
    }

    pub(super) fn send(&mut self, lane: Lane, bytes: &[u8]) {
        self.account.give(lane, bytes.len());
        let _ = self.channel.send_with_u8_array(bytes);
    }

    pub(super) fn settle(&mut self, report: impl FnMut(Lane, usize)) {
        if self.account.is_open() {
            let buffered = self.channel.buffered_amount() as usize;
            self.account
                .settle(buffered, BUFFERED_SMALL as usize, report);
        }
    }

    /// Sends the end mark.
    pub(super) fn end(&self) {
        let _ = self.channel.send_with_str(END_MARK);
    }
}
