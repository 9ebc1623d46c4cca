//! What the page hands in, checked.

use js_sys::{Array, Function, JsString, Reflect, Uint8Array};
use roundelay_core::RELAY_COUNT_MAX;
use roundelay_core::kvs::{
    Condition, Key, List, ListError, Mode, RequestError, Ttl, VALUE_LEN_MAX, Watch,
};
use wasm_bindgen::{JsCast, JsValue};
use web_sys::Url;

use crate::clock::window;
use crate::error::{Code, Error};

/// The options of `Peer.join`.
#[derive(Clone, Debug, Default)]
pub(crate) struct JoinOptions {
    /// The network's name.
    pub(crate) network: Option<String>,
    /// Relays, by any of their URLs.
    relays: Vec<String>,
    /// The network's secret.
    pub(crate) secret: Option<String>,
    /// The peer's name, for people.
    pub(crate) name: Option<String>,
}

impl JoinOptions {
    /// The options, from an object or nothing.
    ///
    /// # Errors
    /// When it is something else, or a field has a wrong type.
    pub(crate) fn parse(options: &JsValue) -> Result<Self, Error> {
        if options.is_undefined() || options.is_null() {
            return Ok(Self::default());
        }
        Ok(Self {
            network: text_field(options, "network")?,
            relays: texts_field(options, "relays")?,
            secret: text_field(options, "secret")?,
            name: text_field(options, "name")?,
        })
    }

    /// The WebSocket URLs of the relays: the page's own origin, if none is
    /// named.
    ///
    /// # Errors
    /// When a URL makes no sense, or there are too many.
    pub(crate) fn relay_urls(&self) -> Result<Vec<String>, Error> {
        let named = &self.relays;
        if named.len() > RELAY_COUNT_MAX {
            let message = format!("at most {RELAY_COUNT_MAX} relays can be given");
            return Err(Error::new(Code::BadOptions, message));
        }
        if named.is_empty() {
            let origin = window()?.location().origin();
            let origin = origin.map_err(|_| bad_relay("the page's own origin"))?;
            return Ok(vec![relay_url(&origin)?]);
        }
        named.iter().map(|url| relay_url(url)).collect()
    }
}

/// The WebSocket URL of a relay: `http` becomes `ws`, no path becomes `/ws`.
fn relay_url(text: &str) -> Result<String, Error> {
    let url = Url::new(text).map_err(|_| bad_relay(text))?;
    let scheme = match url.protocol().as_str() {
        "http:" | "ws:" => "ws:",
        "https:" | "wss:" => "wss:",
        _ => return Err(bad_relay(text)),
    };
    url.set_protocol(scheme);
    url.set_hash("");
    if url.pathname() == "/" {
        url.set_pathname("/ws");
    }
    Ok(url.href())
}

fn bad_relay(text: &str) -> Error {
    let message = format!("{text:?} is no relay: a URL with http, https, ws or wss is wanted");
    Error::new(Code::BadOptions, message)
}

/// The key in an argument.
///
/// # Errors
/// When it is no text, or no key.
pub(crate) fn key(key: &JsValue) -> Result<Key, Error> {
    let text = well_formed(key).ok_or_else(|| Error::new(Code::BadKey, "a key is a text"))?;
    Key::new(text).map_err(|error| Error::new(Code::BadKey, error))
}

/// The value in an argument. One that is too long is not even copied.
///
/// # Errors
/// When it is neither text nor bytes, or too long.
pub(crate) fn value(value: &JsValue) -> Result<Vec<u8>, Error> {
    let length = value.dyn_ref::<Uint8Array>().map(Uint8Array::length);
    let length = length.or_else(|| value.dyn_ref::<JsString>().map(JsString::length));
    if length.is_some_and(|length| length as usize > VALUE_LEN_MAX) {
        return Err(RequestError::TooLarge.into());
    }
    if let Some(bytes) = value.dyn_ref::<Uint8Array>() {
        return Ok(bytes.to_vec());
    }
    let message = "a value is a Uint8Array or a text without lone surrogates";
    let text = well_formed(value).ok_or_else(|| Error::new(Code::BadOptions, message))?;
    Ok(text.into_bytes())
}

/// The mode in the options of a call; `quorum`, if there is none.
///
/// # Errors
/// When it is none that is built.
pub(crate) fn mode(options: &JsValue) -> Result<Mode, Error> {
    if options.is_undefined() || options.is_null() {
        return Ok(Mode::default());
    }
    let Some(mode) = field(options, "mode")? else {
        return Ok(Mode::default());
    };
    let name = mode.as_string().unwrap_or_default();
    let message = "a mode is \"one\", \"quorum\" or \"linearizable\"";
    let bad = || Error::new(Code::BadMode, message);
    Mode::named(&name).ok_or_else(bad)
}

/// The page of a bucket that is asked for.
///
/// # Errors
/// When the bucket is none, or an option makes no sense.
pub(crate) fn list(bucket: &JsValue, options: &JsValue) -> Result<List, Error> {
    let message = "a bucket is a text";
    let bucket = well_formed(bucket).ok_or_else(|| Error::new(Code::BadBucket, message))?;
    let mut list = List::new(&bucket)?.with_mode(mode(options)?)?;
    if options.is_undefined() || options.is_null() {
        return Ok(list);
    }
    if let Some(after) = text_field(options, "after")? {
        list = list.with_after(&after)?;
    }
    if let Some(limit) = field(options, "limit")? {
        // What is no whole number is not within the limits, either.
        let limit = limit.as_f64().filter(|limit| limit.fract() == 0.0);
        list = list.with_limit(limit.map_or(0, |limit| limit as usize))?;
    }
    Ok(list)
}

/// What is to be watched.
///
/// # Errors
/// When it is neither a key nor a bucket.
pub(crate) fn watch(target: &JsValue) -> Result<Watch, Error> {
    let message = "name a key, or a bucket with a slash at its end";
    let target = well_formed(target).ok_or_else(|| Error::new(Code::BadKey, message))?;
    Watch::new(&target).map_err(|error| Error::new(Code::BadKey, error))
}

/// The function in an argument.
///
/// # Errors
/// When it is none.
pub(crate) fn callback(callback: &JsValue) -> Result<Function, Error> {
    let callback = callback.dyn_ref::<Function>().cloned();
    callback.ok_or_else(|| Error::new(Code::BadOptions, "the callback is no function"))
}

impl From<ListError> for Error {
    fn from(error: ListError) -> Self {
        let code = match error {
            ListError::EmptyBucket | ListError::SlashInBucket | ListError::LongBucket => {
                Code::BadBucket
            }
            ListError::AfterElsewhere | ListError::Limit => Code::BadOptions,
            ListError::Linearizable => Code::BadMode,
        };
        Self::new(code, error)
    }
}

/// The time to live in the options of a call, if there is one.
///
/// # Errors
/// When it is no whole number of seconds within the limits.
pub(crate) fn ttl(options: &JsValue) -> Result<Option<Ttl>, Error> {
    if options.is_undefined() || options.is_null() {
        return Ok(None);
    }
    let parse = |value: JsValue| {
        let seconds = value.as_f64().filter(|seconds| seconds.fract() == 0.0);
        // What is too small or too large becomes what is none, either.
        let ttl = seconds.map_or(0, |seconds| seconds as u32).try_into();
        ttl.map_err(|error| Error::new(Code::BadTtl, error))
    };
    field(options, "ttl")?.map(parse).transpose()
}

/// The condition of a compare-and-set: the version that a key must have, or
/// none for a key that must have no value.
///
/// # Errors
/// When it is neither.
pub(crate) fn condition(version: &JsValue) -> Result<Condition, Error> {
    if version.is_undefined() || version.is_null() {
        return Ok(Condition::Absent);
    }
    let text = version.as_string().unwrap_or_default();
    let version = text
        .parse()
        .map_err(|error| Error::new(Code::BadOptions, error))?;
    Ok(Condition::Version(version))
}

/// A field of an object; `None` when it is absent.
fn field(object: &JsValue, name: &str) -> Result<Option<JsValue>, Error> {
    let value = Reflect::get(object, &name.into());
    let value = value.map_err(|_| Error::new(Code::BadOptions, "the options are no object"))?;
    Ok((!value.is_undefined() && !value.is_null()).then_some(value))
}

fn text_field(object: &JsValue, name: &str) -> Result<Option<String>, Error> {
    let text = |value: JsValue| {
        let message = format!("the option {name} is a text");
        well_formed(&value).ok_or_else(|| Error::new(Code::BadOptions, message))
    };
    field(object, name)?.map(text).transpose()
}

fn texts_field(object: &JsValue, name: &str) -> Result<Vec<String>, Error> {
    let bad = || {
        Error::new(
            Code::BadOptions,
            format!("the option {name} is a list of texts"),
        )
    };
    let Some(value) = field(object, name)? else {
        return Ok(Vec::new());
    };
    let list = value.dyn_into::<Array>().map_err(|_| bad())?;
    list.iter()
        .map(|item| well_formed(&item).ok_or_else(bad))
        .collect()
}

/// A text that UTF-8 can say.
fn well_formed(value: &JsValue) -> Option<String> {
    let text = value.dyn_ref::<JsString>()?;
    text.is_valid_utf16().then(|| String::from(text))
}
