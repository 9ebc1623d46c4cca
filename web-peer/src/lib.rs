//! Roundelay in a web page: the page is a full peer of the ring.
//!
//! ```js
//! import init, { Peer } from "./roundelay-web.js";
//!
//! await init();
//! const peer = await Peer.join();
//! await peer.put("chat/hello", "world");
//! const { value } = await peer.get("chat/hello");
//! ```
//!
//! The node is core's, sans-IO. Here is what drives it in a browser:
//!
//! ```text
//! api -> handle -> driver -> signalling   WebSocket to a relay
//!                    |  \--> link/direct  data channels to peers
//!                    |-----> store        IndexedDB, or a map in memory
//!                    |-----> timer        one setTimeout
//!                    \-----> promise      calls to JavaScript, after the turn
//! ```

mod api;
mod clock;
mod driver;
mod error;
mod handle;
mod info;
mod join;
mod joining;
mod lifecycle;
mod link;
mod listeners;
mod options;
mod promise;
mod signalling;
mod store;
mod timer;
mod types;
mod values;
mod watching;

use wasm_bindgen::prelude::wasm_bindgen;

use crate::handle::Handle;

/// A panic is a fault of this program: the console is told where it lies.
#[wasm_bindgen(start)]
fn start() {
    std::panic::set_hook(Box::new(|info| {
        web_sys::console::error_1(&info.to_string().into());
    }));
}

/// This page as a peer of the ring. It stays one until `leave()`, whether or
/// not it is still referred to.
///
/// ```js
/// const peer = await Peer.join({ network: "default" });
/// const stop = peer.on("ring", (ring) => console.log(ring.members.length));
/// ```
#[wasm_bindgen]
#[derive(Debug)]
pub struct Peer {
    handle: Handle,
}
