//! One peer at a time has what a browser keeps of a network: a Web Lock says
//! which. The browser gives it back when the page is gone, however it went.

use js_sys::{Array, Function, Object, Promise, Reflect};
use wasm_bindgen::closure::Closure;
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{AbortSignal, PerformanceNavigation, Window};

use crate::error::words;

/// How long a page that was loaded anew waits for the one before it, which may
/// not be gone yet.
const RELOAD_WAIT_MS: u32 = 2_000;

/// The lock, held until it is released or the page is gone.
#[derive(Debug)]
pub(super) struct Lock {
    release: Function,
    released: Promise,
}

impl Lock {
    /// Takes the lock of this name.
    ///
    /// # Errors
    /// When another peer has it, or the browser has none to give, in words.
    pub(super) async fn take(window: &Window, name: &str) -> Result<Self, String> {
        let manager = Reflect::get(&window.navigator(), &"locks".into()).unwrap_or_default();
        if manager.is_undefined() || !window.is_secure_context() {
            return Err(
                "only pages from https or from this machine may keep anything: this peer's \
                 identity and share are gone with the page"
                    .into(),
            );
        }
        let manager: LockManager = manager.unchecked_into();
        let mut release = None;
        let held = Promise::new(&mut |resolve, _| release = Some(resolve));
        let mut released = None;
        let granted = Promise::new(&mut |resolve, reject| {
            let held = held.clone();
            // It is called once, or the promise below is rejected.
            let callback = Closure::once_into_js(move |lock: JsValue| {
                let is_held = !lock.is_null();
                let _ = resolve.call1(&JsValue::UNDEFINED, &is_held.into());
                if is_held { held.into() } else { lock }
            });
            match manager.request(name, &options(window), callback.unchecked_ref()) {
                Ok(promise) => released = Some(promise),
                Err(exception) => {
                    let _ = reject.call1(&JsValue::UNDEFINED, &exception);
                }
            }
        });
        let ends: Array = [&granted].into_iter().chain(&released).collect();
        let is_held = JsFuture::from(Promise::race(&ends)).await;
        match (is_held.map(|held| held.as_bool()), release, released) {
            (Ok(Some(true)), Some(release), Some(released)) => Ok(Self { release, released }),
            (Err(exception), ..) if !is_late(&exception) => Err(format!(
                "this browser lets the page keep nothing ({}): its identity and share are gone \
                 with it",
                words(&exception)
            )),
            _ => Err(
                "another page of this browser is the peer that it keeps: this one's identity \
                 and share are gone with the page"
                    .into(),
            ),
        }
    }

    /// Gives it back. The promise says when others may have it.
    pub(super) fn release(self) -> Promise {
        let _ = self.release.call0(&JsValue::UNDEFINED);
        self.released
    }
}

#[wasm_bindgen]
extern "C" {
    /// What web-sys has only behind a compiler flag.
    type LockManager;

    #[wasm_bindgen(method, catch)]
    fn request(
        this: &LockManager,
        name: &str,
        options: &JsValue,
        callback: &Function,
    ) -> Result<Promise, JsValue>;
}

fn options(window: &Window) -> JsValue {
    let kind = window
        .performance()
        .map(|performance| performance.navigation().type_());
    let options = Object::new();
    let (name, value) = if kind == Some(PerformanceNavigation::TYPE_RELOAD) {
        let signal = AbortSignal::timeout_with_u32(RELOAD_WAIT_MS);
        ("signal", signal.into())
    } else {
        ("ifAvailable", JsValue::TRUE)
    };
    // A fresh object takes any property.
    let _ = Reflect::set(&options, &name.into(), &value);
    options.into()
}

/// Whether waiting for the lock took too long.
fn is_late(exception: &JsValue) -> bool {
    let name = Reflect::get(exception, &"name".into()).unwrap_or_default();
    matches!(
        name.as_string().as_deref(),
        Some("AbortError" | "TimeoutError")
    )
}
