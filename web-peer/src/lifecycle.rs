//! The page's life: what sleeps is woken, and asks at once what it missed.

use wasm_bindgen::JsCast;
use wasm_bindgen::closure::Closure;
use web_sys::{Event, EventTarget, VisibilityState};

use crate::handle::WeakHandle;

/// Listens while it lives.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    targets: Vec<(EventTarget, &'static str)>,
    handler: Closure<dyn FnMut(Event)>,
}

impl Lifecycle {
    /// Begins to listen; `None` where there is no page.
    pub(crate) fn watch(driver: &WeakHandle) -> Option<Self> {
        let window = web_sys::window()?;
        let document = window.document()?;
        let page = document.clone();
        let handler = driver.on(move |driver, event: Event| {
            let hides = page.visibility_state() == VisibilityState::Hidden;
            if !hides || event.type_() != "visibilitychange" {
                driver.resume();
            }
        });
        let targets = vec![
            (EventTarget::from(document.clone()), "visibilitychange"),
            (EventTarget::from(document), "resume"),
            (EventTarget::from(window), "online"),
        ];
        let new = Self { targets, handler };
        for (target, name) in &new.targets {
            let listener = new.handler.as_ref().unchecked_ref();
            let _ = target.add_event_listener_with_callback(name, listener);
        }
        Some(new)
    }
}

impl Drop for Lifecycle {
    fn drop(&mut self) {
        for (target, name) in &self.targets {
            let listener = self.handler.as_ref().unchecked_ref();
            let _ = target.remove_event_listener_with_callback(name, listener);
        }
    }
}
