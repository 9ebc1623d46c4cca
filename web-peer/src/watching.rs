//! Watches of the page's: one piece is asked for after another.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use js_sys::{Array, Function, Promise, Reflect};
use roundelay_core::kvs::Watch;
use wasm_bindgen::JsCast;
use wasm_bindgen::closure::Closure;
use wasm_bindgen_futures::{JsFuture, spawn_local};

use crate::driver::Verb;
use crate::handle::Handle;
use crate::promise::Call;

/// How long to wait after a piece that failed.
const PAUSE: Duration = Duration::from_secs(1);

/// Begins to watch. Returns the function that ends it.
pub(crate) fn begin(handle: Handle, watch: Watch, callback: Function) -> Function {
    let ended = Rc::new(Cell::new(false));
    spawn_local(go_on(handle, watch, callback, Rc::clone(&ended)));
    let end = move || ended.set(true);
    Closure::<dyn FnMut()>::new(end)
        .into_js_value()
        .unchecked_into()
}

async fn go_on(handle: Handle, mut watch: Watch, callback: Function, ended: Rc<Cell<bool>>) {
    while !ended.get() && !handle.look(|driver| driver.has_left()) {
        let asked = watch.clone();
        let piece =
            handle.turn(|driver| driver.request(Verb::Read, |node, now| node.watch(asked, now)));
        let Ok(piece) = JsFuture::from(piece).await else {
            // Voters may be away: the token stays good, or a reset follows.
            let _ = JsFuture::from(pause()).await;
            continue;
        };
        let field = |name: &str| Reflect::get(&piece, &name.into()).unwrap_or_default();
        for event in Array::from(&field("events")) {
            if !ended.get() {
                Call::new(callback.clone(), event).make();
            }
        }
        if let Some(Ok(token)) = field("token").as_string().map(|token| token.parse()) {
            watch = watch.with_token(token);
        }
    }
}

fn pause() -> Promise {
    let millis = i32::try_from(PAUSE.as_millis()).unwrap_or(i32::MAX);
    Promise::new(&mut |resolve, _| {
        if let Some(window) = web_sys::window() {
            let _ = window.set_timeout_with_callback_and_timeout_and_arguments_0(&resolve, millis);
        }
    })
}
