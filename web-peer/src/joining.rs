//! Joining: what the page waits for, and why it failed.

use std::time::Duration;

use roundelay_core::status::RelayState;
use roundelay_core::{Instant, Node, Trouble, TroubleKind};
use wasm_bindgen::JsValue;

use crate::error::{Code, Error};
use crate::promise::{Call, Deferred};

/// How long joining may take, `/info` included.
pub(crate) const JOIN_TIMEOUT: Duration = Duration::from_secs(15);

/// What is known about the attempt from outside the node.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    /// When to give up.
    pub(crate) deadline: Instant,
    /// Whether the page gave a secret.
    pub(crate) has_secret: bool,
    /// Whether a relay has answered `/info`.
    pub(crate) has_info: bool,
    /// The relays' URLs.
    pub(crate) relays: Vec<String>,
}

/// A page that waits to be in a ring.
#[derive(Debug)]
pub(crate) struct Joining {
    attempt: Attempt,
    deferred: Deferred,
    close_count: usize,
    failure: Option<Error>,
    trouble: Option<String>,
}

impl Joining {
    pub(crate) const fn new(attempt: Attempt, deferred: Deferred) -> Self {
        Self {
            attempt,
            deferred,
            close_count: 0,
            failure: None,
            trouble: None,
        }
    }

    /// When the page gives up.
    pub(crate) const fn deadline(&self) -> Instant {
        self.attempt.deadline
    }

    /// A way to a relay closed, or could not be opened.
    pub(crate) fn on_relay_closed(&mut self) {
        self.close_count += 1;
        if !self.attempt.has_info && self.close_count >= self.attempt.relays.len() {
            self.failure
                .get_or_insert_with(|| unreachable(&self.attempt.relays));
        }
    }

    /// Core tells of a trouble. A refusal ends the attempt.
    pub(crate) fn on_trouble(&mut self, trouble: &Trouble) {
        let message = &trouble.message;
        if trouble.kind == TroubleKind::WrongNetwork {
            let code = if self.attempt.has_secret {
                Code::WrongSecret
            } else {
                Code::WrongNetwork
            };
            self.failure = Some(Error::new(code, message));
        }
        let lost = match trouble.kind {
            TroubleKind::OtherRing => Some(Code::OtherRing),
            TroubleKind::Storage => Some(Code::Storage),
            _ => None,
        };
        if let Some(code) = lost {
            self.failure = Some(Error::new(code, message));
        }
        self.trouble = Some(message.clone());
    }

    /// How it ended; itself, if it has not.
    pub(crate) fn verdict(self, node: &Node, now: Instant) -> Result<Call, Self> {
        if node.is_ready() {
            return Ok(self.deferred.settle(Ok(JsValue::UNDEFINED)));
        }
        let failure = self.failure.clone();
        let late = || (now >= self.attempt.deadline).then(|| self.too_late(node));
        match failure.or_else(late) {
            Some(error) => Ok(self.deferred.settle(Err(error))),
            None => Err(self),
        }
    }

    fn too_late(&self, node: &Node) -> Error {
        let relays = node.status().relays;
        if !relays
            .iter()
            .any(|relay| relay.state == RelayState::Attached)
        {
            return unreachable(&self.attempt.relays);
        }
        let seconds = JOIN_TIMEOUT.as_secs();
        let message = match &self.trouble {
            Some(trouble) => format!("no ring took this peer in within {seconds} s: {trouble}"),
            None => format!("no ring took this peer in within {seconds} s: try again"),
        };
        Error::new(Code::JoinTimeout, message)
    }
}

/// No relay answers.
pub(crate) fn unreachable(relays: &[String]) -> Error {
    let relays = relays.join(", ");
    let message = format!("no answer from {relays}: check the address and that the relay runs");
    Error::new(Code::RelayUnreachable, message)
}
