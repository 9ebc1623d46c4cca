//! What a relay says of itself, before a peer attaches to it.

use js_sys::{Array, Reflect};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{AbortSignal, RequestInit, Response, Url};

use crate::clock::window;

/// How long a relay may take to answer.
const INFO_TIMEOUT_MS: u32 = 5_000;

/// A relay's `/info`, as far as a page needs it.
#[derive(Clone, Debug)]
pub(crate) struct Info {
    /// The name of the network that the relay serves first.
    pub(crate) network: String,
    /// Whether that network has a secret.
    secret_required: bool,
    /// Every network that it serves, from relays that tell.
    networks: Vec<Served>,
    /// Where it answers STUN, `host:port`.
    stun: Option<String>,
}

#[derive(Clone, Debug)]
struct Served {
    network: String,
    secret_required: bool,
}

impl Info {
    /// What an answer says; none if a field is not what it should be. Not by serde:
    /// that can say what is wrong, floats included, for 12 KB of the download.
    fn parse(answer: &JsValue) -> Option<Self> {
        let networks = match field(answer, "networks")? {
            absent if absent.is_undefined() => Vec::new(),
            list => {
                let list = list.dyn_into::<Array>().ok()?;
                list.iter()
                    .map(|one| Served::parse(&one))
                    .collect::<Option<_>>()?
            }
        };
        let secret_required = field(answer, "secret_required")?;
        let stun = field(answer, "stun")?;
        Some(Self {
            network: field(answer, "network")?.as_string()?,
            secret_required: !secret_required.is_undefined() && secret_required.as_bool()?,
            networks,
            stun: if stun.is_undefined() || stun.is_null() {
                None
            } else {
                Some(stun.as_string()?)
            },
        })
    }

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

impl Served {
    fn parse(one: &JsValue) -> Option<Self> {
        Some(Self {
            network: field(one, "network")?.as_string()?,
            secret_required: field(one, "secret_required")?.as_bool()?,
        })
    }
}

/// A field of an object, undefined when it is absent; none if it is no object.
fn field(object: &JsValue, name: &str) -> Option<JsValue> {
    Reflect::get(object, &name.into()).ok()
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
    Info::parse(&body)
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
