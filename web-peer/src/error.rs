//! What callers are told when something fails: a code for programs, words for
//! people.

use std::fmt;

use js_sys::Reflect;
use roundelay_core::kvs::RequestError;
use wasm_bindgen::JsValue;

/// The codes of the JS API. They are part of it: never renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// Surely not applied: too few voters can be reached.
    Unavailable,
    /// A write that may or may not have been applied.
    OutcomeUnknown,
    /// The value is longer than a value may be.
    TooLarge,
    /// A voter's storage is full.
    Full,
    /// Too many requests are under way.
    Busy,
    /// Surely not applied: the condition does not hold.
    ConditionFailed,
    /// Surely not applied: the key takes no writes of mode `one`.
    Conflict,
    /// The peer is in no ring, or has left it.
    NotJoined,
    /// What was given is no key.
    BadKey,
    /// What was given is no bucket.
    BadBucket,
    /// What was given is no mode.
    BadMode,
    /// What was given is no time to live.
    BadTtl,
    /// An argument or option is not what it has to be.
    BadOptions,
    /// A call that a later version brings.
    NotBuilt,
    /// No relay answers.
    RelayUnreachable,
    /// The network wants a secret, and none was given.
    SecretRequired,
    /// The relay knows this network by another secret, or not at all.
    WrongSecret,
    /// The relay does not serve this network without a secret.
    WrongNetwork,
    /// A relay answered, but no ring took this peer in.
    JoinTimeout,
    /// A peer cannot be reached directly; its link stays relayed.
    NoDirectPath,
    /// The way to a relay broke; it is dialled again.
    RelayLost,
    /// The network has another ring than the one that this peer was in.
    OtherRing,
    /// The browser does not keep what it should.
    Storage,
    /// Anything else that a person should know of.
    Trouble,
}

impl Code {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::TooLarge => "too_large",
            Self::Full => "full",
            Self::Busy => "busy",
            Self::ConditionFailed => "condition_failed",
            Self::Conflict => "conflict",
            Self::NotJoined => "not_joined",
            Self::BadKey => "bad_key",
            Self::BadBucket => "bad_bucket",
            Self::BadMode => "bad_mode",
            Self::BadTtl => "bad_ttl",
            Self::BadOptions => "bad_options",
            Self::NotBuilt => "not_built",
            Self::RelayUnreachable => "relay_unreachable",
            Self::SecretRequired => "secret_required",
            Self::WrongSecret => "wrong_secret",
            Self::WrongNetwork => "wrong_network",
            Self::JoinTimeout => "join_timeout",
            Self::NoDirectPath => "no_direct_path",
            Self::RelayLost => "relay_lost",
            Self::OtherRing => "other_ring",
            Self::Storage => "storage",
            Self::Trouble => "trouble",
        }
    }
}

/// A failure on its way to JavaScript, where it is an `Error` with a `code`.
#[derive(Clone, Debug)]
pub(crate) struct Error {
    code: Code,
    message: String,
}

impl Error {
    pub(crate) fn new(code: Code, message: impl fmt::Display) -> Self {
        let message = message.to_string();
        Self { code, message }
    }

    /// A call that a later version brings.
    pub(crate) fn not_built(call: &str) -> Self {
        Self::new(Code::NotBuilt, format_args!("{call} is not built yet"))
    }

    /// The peer has left.
    pub(crate) fn left() -> Self {
        Self::new(Code::NotJoined, "this peer has left the ring: join again")
    }
}

impl From<RequestError> for Error {
    fn from(error: RequestError) -> Self {
        let code = match error {
            // No call of a page ends with the last.
            RequestError::Unavailable { .. } | RequestError::Answers => Code::Unavailable,
            RequestError::OutcomeUnknown => Code::OutcomeUnknown,
            RequestError::TooLarge => Code::TooLarge,
            RequestError::Full => Code::Full,
            RequestError::Busy => Code::Busy,
            RequestError::NotJoined => Code::NotJoined,
            RequestError::ConditionFailed { .. } => Code::ConditionFailed,
            RequestError::Conflict => Code::Conflict,
        };
        Self::new(code, error)
    }
}

impl From<Error> for JsValue {
    fn from(error: Error) -> Self {
        let object = js_sys::Error::new(&error.message);
        // A fresh Error takes any property.
        let _ = Reflect::set(&object, &"code".into(), &error.code.as_str().into());
        object.into()
    }
}

/// Whether an exception is an error of ours with this code.
pub(crate) fn is_of(exception: &JsValue, code: Code) -> bool {
    let its = Reflect::get(exception, &"code".into()).unwrap_or_default();
    its.as_string().as_deref() == Some(code.as_str())
}

/// What a browser's exception says.
pub(crate) fn words(exception: &JsValue) -> String {
    let message = Reflect::get(exception, &"message".into()).ok();
    message
        .and_then(|message| message.as_string())
        .or_else(|| exception.as_string())
        .unwrap_or_else(|| "the browser refused".into())
}
