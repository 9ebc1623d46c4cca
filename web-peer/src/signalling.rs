//! The way to a relay: a WebSocket that carries whole messages both ways.

use js_sys::{ArrayBuffer, Uint8Array};
use roundelay_core::{Input, Lane, LinkId};
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{BinaryType, CloseEvent, Event, MessageEvent, WebSocket};

use crate::error::words;
use crate::handle::WeakHandle;
use crate::link::account::Account;

/// Up to so many bytes may wait in the browser before core is held back.
const BUFFERED_SMALL: usize = 256 << 10;

/// One connection to a relay.
#[derive(Debug)]
pub(crate) struct Signalling {
    socket: WebSocket,
    account: Account,
    /// The socket calls these until [`Drop`] takes them away.
    _on_open: Closure<dyn FnMut(Event)>,
    _on_message: Closure<dyn FnMut(MessageEvent)>,
    _on_close: Closure<dyn FnMut(CloseEvent)>,
}

impl Signalling {
    /// Begins to open a connection. Its events name the link.
    ///
    /// # Errors
    /// When the browser refuses the URL, in words.
    pub(crate) fn open(driver: &WeakHandle, link: LinkId, url: &str) -> Result<Self, String> {
        let socket = WebSocket::new(url).map_err(|exception| words(&exception))?;
        socket.set_binary_type(BinaryType::Arraybuffer);
        let on_open = driver.on(move |driver, _: Event| driver.push(Input::LinkUp { link }));
        let on_message = driver.on(move |driver, event: MessageEvent| {
            if let Some(bytes) = binary(&event) {
                driver.push(Input::Frame { link, bytes });
            }
        });
        // An error is always followed by a close.
        let on_close = driver.on(move |driver, event: CloseEvent| {
            driver.on_relay_closed(link, close_words(&event));
        });
        socket.set_onopen(Some(on_open.as_ref().unchecked_ref()));
        socket.set_onmessage(Some(on_message.as_ref().unchecked_ref()));
        socket.set_onclose(Some(on_close.as_ref().unchecked_ref()));
        Ok(Self {
            socket,
            account: Account::default(),
            _on_open: on_open,
            _on_message: on_message,
            _on_close: on_close,
        })
    }

    /// Sends a message. On a connection that closes it is lost, as the close
    /// will tell.
    pub(crate) fn send(&mut self, lane: Lane, bytes: &[u8]) {
        self.account.give(lane, bytes.len());
        let _ = self.socket.send_with_u8_array(bytes);
    }

    /// Reports what left the browser's buffer.
    pub(crate) fn settle(&mut self, report: impl FnMut(Lane, usize)) {
        if self.account.is_open() {
            let buffered = self.socket.buffered_amount() as usize;
            self.account.settle(buffered, BUFFERED_SMALL, report);
        }
    }

    /// Whether core is owed a report. A WebSocket has no event for it: ask
    /// again soon.
    pub(crate) fn is_backed_up(&self) -> bool {
        self.account.is_open()
    }
}

impl Drop for Signalling {
    fn drop(&mut self) {
        self.socket.set_onopen(None);
        self.socket.set_onmessage(None);
        self.socket.set_onclose(None);
        // What was sent before is delivered first.
        let _ = self.socket.close();
    }
}

/// The bytes of a binary message.
pub(crate) fn binary(event: &MessageEvent) -> Option<Vec<u8>> {
    let data: JsValue = event.data();
    let buffer = data.dyn_into::<ArrayBuffer>().ok()?;
    Some(Uint8Array::new(&buffer).to_vec())
}

fn close_words(event: &CloseEvent) -> String {
    let reason = event.reason();
    match event.code() {
        _ if !reason.is_empty() => reason,
        1000 | 1001 => "it closed the connection".into(),
        1006 => "it does not answer, or the connection broke".into(),
        code => format!("the connection closed with code {code}"),
    }
}
