//! What core says, as plain JavaScript objects.

use js_sys::{Array, Object, Reflect, Uint8Array};
use roundelay_core::Node;
use roundelay_core::kvs::{Key, Page, Reply};
use serde::Serialize;
use serde_wasm_bindgen::Serializer;
use wasm_bindgen::JsValue;

use crate::error::Error;

/// `peer.status()`.
pub(crate) fn status(node: &Node) -> JsValue {
    plain(&node.status())
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
