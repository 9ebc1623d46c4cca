//! One `setTimeout` for all that waits.

use js_sys::Function;
use roundelay_core::Instant;
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};

/// The longest delay that browsers take; beyond it they fire at once.
const DELAY_MS_MAX: u64 = i32::MAX as u64;

/// The driver's alarm clock.
#[derive(Debug)]
pub(crate) struct Timer {
    callback: Closure<dyn FnMut()>,
    armed: Option<(Instant, i32)>,
}

impl Timer {
    /// A timer that calls this when it is due.
    pub(crate) fn new(callback: impl FnMut() + 'static) -> Self {
        Self {
            callback: Closure::new(callback),
            armed: None,
        }
    }

    /// The timer has fired.
    pub(crate) fn on_fired(&mut self) {
        self.armed = None;
    }

    /// Sees to it that the timer fires by `at`. One that is armed for an
    /// earlier instant is left: firing once too often costs less than setting
    /// it anew at every turn.
    pub(crate) fn arm(&mut self, at: Option<Instant>, now: Instant) {
        let Some(at) = at else {
            return;
        };
        if self.armed.is_some_and(|(armed, _)| armed <= at) {
            return;
        }
        self.disarm();
        let Some(window) = web_sys::window() else {
            return;
        };
        let micros = at.since(now).as_micros();
        let millis = u64::try_from(micros.div_ceil(1000)).unwrap_or(DELAY_MS_MAX);
        let millis = i32::try_from(millis.min(DELAY_MS_MAX)).unwrap_or(i32::MAX);
        let callback: &JsValue = self.callback.as_ref();
        let callback: &Function = callback.unchecked_ref();
        let timer = window.set_timeout_with_callback_and_timeout_and_arguments_0(callback, millis);
        self.armed = timer.ok().map(|timer| (at, timer));
    }

    fn disarm(&mut self) {
        if let Some((_, timer)) = self.armed.take()
            && let Some(window) = web_sys::window()
        {
            window.clear_timeout_with_handle(timer);
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.disarm();
    }
}
