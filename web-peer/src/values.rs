//! What core says, as plain JavaScript objects.

use js_sys::{Array, Object, Reflect, Uint8Array};
use roundelay_core::Node;
use roundelay_core::kvs::{Key, News, Page, Reply};
use roundelay_core::status::StoreState;
use roundelay_core::store::StoreError;
use serde::Serialize;
use serde_wasm_bindgen::Serializer;
use wasm_bindgen::JsValue;

use crate::error::Error;
use crate::store::Storage;

/// `peer.status()`: what the node says, and where its share is kept.
pub(crate) fn status(node: &Node, storage: &Storage) -> JsValue {
    let mut status = node.status();
    let health = storage.health();
    status.store.state = match health.refusing {
        None => StoreState::Ok,
        Some(StoreError::Full) => StoreState::Full,
        Some(StoreError::Failed) => StoreState::Failing,
    };
    status.counters.insert("store_refused", health.refused);
    let status = plain(&status);
    let store = Reflect::get(&status, &"store".into()).unwrap_or_default();
    let (medium, why) = match storage.why() {
        Some(why) => ("memory", why.into()),
        None => ("indexeddb", JsValue::NULL),
    };
    for (name, value) in [("medium", medium.into()), ("in_memory_because", why)] {
        // A plain object takes any property.
        let _ = Reflect::set(&store, &name.into(), &value);
    }
    status
}

/// `peer.ring()`.
pub(crate) fn ring(node: &Node) -> JsValue {
    plain(&node.ring_status())
}

/// The links of `peer.status()`.
pub(crate) fn links(node: &Node) -> JsValue {
    plain(&node.status().links)
}

/// `peer.locate(key)`.
pub(crate) fn place(node: &Node, key: &Key) -> JsValue {
    plain(&node.locate(key))
}

/// How a request ended.
///
/// # Errors
/// When it failed.
pub(crate) fn reply(reply: Reply) -> Result<JsValue, Error> {
    match reply {
        Reply::Found { value, version } => Ok(object(&[
            ("value", Uint8Array::from(value.as_slice()).into()),
            ("version", version.to_string().into()),
        ])),
        Reply::Listed(page) => Ok(listed(&page)),
        Reply::Watched(news) => Ok(watched(&news)),
        Reply::Missing | Reply::Evicted => Ok(JsValue::UNDEFINED),
        Reply::Written { version, copies } => {
            let copies = [("have", copies.have.into()), ("of", copies.of.into())];
            Ok(object(&[
                ("version", version.to_string().into()),
                ("copies", object(&copies)),
            ]))
        }
        Reply::Failed(error) => Err(error.into()),
    }
}

/// `peer.list(bucket)`: `next` is there if there is more.
fn listed(page: &Page) -> JsValue {
    let keys = page.keys.iter().map(|(key, version)| {
        object(&[
            ("key", key.as_str().into()),
            ("version", version.to_string().into()),
        ])
    });
    let next = page.next.as_ref().map(|key| key.as_str());
    object(&[
        ("keys", keys.collect::<Array>().into()),
        ("next", next.map_or(JsValue::UNDEFINED, JsValue::from)),
    ])
}

/// A piece of a watch: its events, and the token for the next.
fn watched(news: &News) -> JsValue {
    let reset = news.reset.then(|| object(&[("type", "reset".into())]));
    let changes = news.changes.iter().map(|change| {
        object(&[
            ("type", "change".into()),
            ("key", change.key.as_str().into()),
            ("version", change.version.to_string().into()),
            ("deleted", change.deleted.into()),
        ])
    });
    let events: Array = reset.into_iter().chain(changes).collect();
    object(&[
        ("events", events.into()),
        ("token", news.token.to_string().into()),
    ])
}

fn plain(value: &impl Serialize) -> JsValue {
    // Core's status types hold nothing that JavaScript lacks.
    let made = value.serialize(&Serializer::json_compatible());
    made.unwrap_or(JsValue::NULL)
}

fn object(fields: &[(&str, JsValue)]) -> JsValue {
    let object = Object::new();
    for (name, value) in fields {
        // A fresh object takes any property.
        let _ = Reflect::set(&object, &(*name).into(), value);
    }
    object.into()
}
