//! What a relay says of itself, before a peer attaches to it.

use serde::Deserialize;
use wasm_bindgen::JsCast;
use wasm_bindgen_futures::JsFuture;
use web_sys::{AbortSignal, RequestInit, Response, Url};

use crate::clock::window;

/// How long a relay may take to answer.
const INFO_TIMEOUT_MS: u32 = 5_000;

/// A relay's `/info`, as far as a page needs it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Info {
    /// The name of the network that the relay serves first.
    pub(crate) network: String,
    /// Whether that network has a secret.
    #[serde(default)]
    secret_required: bool,
    /// Every network that it serves, from relays that tell.
    #[serde(default)]
    networks: Vec<Served>,
    /// Where it answers STUN, `host:port`.
    #[serde(default)]
    stun: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct Served {
    network: String,
    secret_required: bool,
}

impl Info {
    /// Whether the relay lets nobody into this network without a secret.
    pub(crate) fn wants_secret(&self, network: &str) -> bool {
        let mut meant = self.networks.iter().filter(|net| net.network == network);
        match meant.next() {
            // One name may stand for several networks, of different secrets.
            Some(first) => first.secret_required && meant.all(|net| net.secret_required),
            None => self.secret_required && self.network == network,
        }
    }

    /// The URL of the relay's STUN server, as ICE wants it.
    pub(crate) fn stun_url(&self) -> Option<String> {
        let stun = self.stun.as_deref().filter(|stun| !stun.is_empty())?;
        Some(if stun.starts_with("stun:") {
            stun.into()
        } else {
            format!("stun:{stun}")
        })
    }
}

/// Asks relays, by their WebSocket URLs, until one answers.
pub(crate) async fn ask(relays: &[String]) -> Option<Info> {
    for relay in relays {
        if let Some(info) = ask_one(relay).await {
            return Some(info);
        }
    }
    None
}

async fn ask_one(relay: &str) -> Option<Info> {
    let options = RequestInit::new();
    options.set_signal(Some(&AbortSignal::timeout_with_u32(INFO_TIMEOUT_MS)));
    let request = window()
        .ok()?
        .fetch_with_str_and_init(&info_url(relay)?, &options);
    let response: Response = JsFuture::from(request).await.ok()?.dyn_into().ok()?;
    if !response.ok() {
        return None;
    }
    let body = JsFuture::from(response.json().ok()?).await.ok()?;
    serde_wasm_bindgen::from_value(body).ok()
}

/// `/info` lies beside `/ws`.
fn info_url(relay: &str) -> Option<String> {
    let url = Url::new_with_base("info", relay).ok()?;
    url.set_protocol(if url.protocol() == "wss:" {
        "https:"
    } else {
        "http:"
    });
    Some(url.href())
}
