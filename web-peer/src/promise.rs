//! Promises that are settled later, and the calls to JavaScript that wait
//! until no borrow is held.

use js_sys::{Function, Promise};
use wasm_bindgen::JsValue;
use web_sys::console;

use crate::error::Error;

/// A promise's two ends to be settled by.
#[derive(Debug)]
pub(crate) struct Deferred {
    resolve: Function,
    reject: Function,
}

/// A call to JavaScript, to be made when no borrow is held.
#[derive(Debug)]
#[must_use]
pub(crate) struct Call {
    function: Function,
    argument: JsValue,
}

impl Deferred {
    /// A promise, and the way to settle it.
    pub(crate) fn new() -> (Option<Self>, Promise) {
        let mut ends = None;
        let promise = Promise::new(&mut |resolve, reject| ends = Some(Self { resolve, reject }));
        (ends, promise)
    }

    /// The call that settles the promise.
    pub(crate) fn settle(self, result: Result<JsValue, Error>) -> Call {
        match result {
            Ok(value) => Call::new(self.resolve, value),
            Err(error) => Call::new(self.reject, error.into()),
        }
    }
}

impl Call {
    pub(crate) const fn new(function: Function, argument: JsValue) -> Self {
        Self { function, argument }
    }

    /// Makes the call. What a callback throws is its author's to see.
    pub(crate) fn make(self) {
        if let Err(exception) = self.function.call1(&JsValue::UNDEFINED, &self.argument) {
            console::error_1(&exception);
        }
    }
}

/// A promise that is rejected already.
pub(crate) fn rejected(error: Error) -> Promise {
    Promise::reject(&error.into())
}
