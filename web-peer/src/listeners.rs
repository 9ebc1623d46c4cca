//! Who wants to be told of the ring, the links and errors.

use js_sys::Function;
use roundelay_core::{Event, Node, TroubleKind};
use wasm_bindgen::JsValue;

use crate::error::{Code, Error};
use crate::promise::Call;
use crate::values;

/// What can be listened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    /// The ring, or the list of its members, changed.
    Ring,
    /// A link came, went or changed its kind.
    Link,
    /// Something is wrong.
    Error,
}

/// All listeners, and what they are still to be told.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    listeners: Vec<(u64, Topic, Function)>,
    count: u64,
    ring_changed: bool,
    links_changed: bool,
    errors: Vec<Error>,
}

impl Topic {
    /// The topic of this name.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn parse(name: &JsValue) -> Result<Self, Error> {
        match name.as_string().as_deref() {
            Some("ring") => Ok(Self::Ring),
            Some("link") => Ok(Self::Link),
            Some("error") => Ok(Self::Error),
            _ => Err(Error::new(
                Code::BadOptions,
                "listen to \"ring\", \"link\" or \"error\"",
            )),
        }
    }
}

impl Listeners {
    /// Adds one. Returns its number.
    pub(crate) fn add(&mut self, topic: Topic, callback: Function) -> u64 {
        self.count += 1;
        self.listeners.push((self.count, topic, callback));
        self.count
    }

    /// Removes one, if it is there.
    pub(crate) fn remove(&mut self, number: u64) {
        self.listeners.retain(|(own, _, _)| *own != number);
    }

    /// Takes note of an event. Many of one turn are told once.
    pub(crate) fn note(&mut self, event: &Event) {
        match event {
            Event::Ring => self.ring_changed = true,
            Event::Link => self.links_changed = true,
            Event::Trouble(trouble) => {
                let code = trouble_code(trouble.kind);
                self.errors.push(Error::new(code, &trouble.message));
            }
            Event::Reply { .. } | Event::Session { .. } => {}
        }
    }

    /// The calls that tell what was noted.
    pub(crate) fn calls(&mut self, node: &Node) -> Vec<Call> {
        let mut calls = Vec::new();
        if std::mem::take(&mut self.ring_changed) {
            self.tell(Topic::Ring, &mut calls, || values::ring(node));
        }
        if std::mem::take(&mut self.links_changed) {
            self.tell(Topic::Link, &mut calls, || values::links(node));
        }
        for error in std::mem::take(&mut self.errors) {
            self.tell(Topic::Error, &mut calls, || error.clone().into());
        }
        calls
    }

    fn tell(&self, topic: Topic, calls: &mut Vec<Call>, detail: impl Fn() -> JsValue) {
        let wanted = self.listeners.iter().filter(|(_, own, _)| *own == topic);
        calls.extend(wanted.map(|(_, _, callback)| Call::new(callback.clone(), detail())));
    }
}

const fn trouble_code(kind: TroubleKind) -> Code {
    match kind {
        TroubleKind::NoDirectLink => Code::NoDirectPath,
        TroubleKind::RelayLost => Code::RelayLost,
        TroubleKind::RelayUnreachable => Code::RelayUnreachable,
        TroubleKind::OtherRing => Code::OtherRing,
        TroubleKind::Storage => Code::Storage,
        TroubleKind::WrongNetwork | TroubleKind::RelayRefused | TroubleKind::IdentityInUse => {
            Code::Trouble
        }
    }
}
