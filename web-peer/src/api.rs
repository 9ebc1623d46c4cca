//! The JS API: methods of [`Peer`].
//!
//! No method takes `&mut self`, and those that wait return a promise of their
//! own: nothing of a `Peer` is borrowed while JavaScript runs.

use js_sys::{Function, Promise};
use roundelay_core::kvs::{RequestId, Terms};
use roundelay_core::{Node, Now};
use wasm_bindgen::closure::Closure;
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::future_to_promise;

use crate::Peer;
use crate::driver::Verb;
use crate::error::Error;
use crate::join::join;
use crate::listeners::Topic;
use crate::promise::rejected;
use crate::{options, values, watching};

#[wasm_bindgen]
impl Peer {
    /// Joins a ring: by the page's own relay and its network, unless told
    /// otherwise. Gives up within 15 seconds.
    ///
    /// ```js
    /// const peer = await Peer.join({ relays: ["https://relay.example"] });
    /// ```
    #[wasm_bindgen(unchecked_return_type = "Promise<Peer>")]
    pub fn join(
        #[wasm_bindgen(unchecked_optional_param_type = "JoinOptions")] options: JsValue,
    ) -> Promise {
        future_to_promise(async move {
            let handle = join(options).await?;
            Ok(Self { handle }.into())
        })
    }

    /// This peer's id: 52 characters of base32.
    #[wasm_bindgen(getter)]
    pub fn id(&self) -> String {
        self.handle.look(|driver| driver.node().id().to_string())
    }

    /// Writes a key.
    ///
    /// ```js
    /// const { version, copies } = await peer.put("chat/hello", "world");
    /// await peer.put("chat/typing", peer.id, { ttl: 5 });
    /// ```
    #[wasm_bindgen(unchecked_return_type = "Promise<PutResult>")]
    pub fn put(
        &self,
        #[wasm_bindgen(unchecked_param_type = "string")] key: &JsValue,
        #[wasm_bindgen(unchecked_param_type = "Uint8Array | string")] value: &JsValue,
        #[wasm_bindgen(unchecked_optional_param_type = "PutOptions")] options: &JsValue,
    ) -> Promise {
        settle(|| {
            let key = options::key(key)?;
            let value = options::value(value)?;
            let terms = Terms {
                mode: options::mode(options)?,
                condition: None,
                ttl: options::ttl(options)?,
            };
            let ask = |node: &mut Node, now| node.write(key, Some(value), terms, now);
            Ok(self.ask(Verb::Write, ask))
        })
    }

    /// Reads a key; `undefined` when there is none.
    ///
    /// ```js
    /// const found = await peer.get("chat/hello");
    /// if (found) console.log(new TextDecoder().decode(found.value));
    /// ```
    #[wasm_bindgen(unchecked_return_type = "Promise<GetResult | undefined>")]
    pub fn get(
        &self,
        #[wasm_bindgen(unchecked_param_type = "string")] key: &JsValue,
        #[wasm_bindgen(unchecked_optional_param_type = "CallOptions")] options: &JsValue,
    ) -> Promise {
        settle(|| {
            let key = options::key(key)?;
            let mode = options::mode(options)?;
            Ok(self.ask(Verb::Read, |node, now| node.get(key, mode, now)))
        })
    }

    /// Deletes a key.
    ///
    /// ```js
    /// await peer.delete("chat/hello", { mode: "one" });
    /// ```
    #[wasm_bindgen(unchecked_return_type = "Promise<PutResult>")]
    pub fn delete(
        &self,
        #[wasm_bindgen(unchecked_param_type = "string")] key: &JsValue,
        #[wasm_bindgen(unchecked_optional_param_type = "CallOptions")] options: &JsValue,
    ) -> Promise {
        settle(|| {
            let key = options::key(key)?;
            let mode = options::mode(options)?;
            Ok(self.ask(Verb::Write, |node, now| node.delete(key, mode, now)))
        })
    }

    /// Writes a key if it has this version, or, without one, if it has no
    /// value. Rejects with the code `condition_failed` if not. Without a value
    /// (`undefined`) it deletes.
    ///
    /// ```js
    /// const found = await peer.get("chat/count", { mode: "linearizable" });
    /// await peer.cas("chat/count", found?.version, "1");
    /// ```
    #[wasm_bindgen(unchecked_return_type = "Promise<PutResult>")]
    pub fn cas(
        &self,
        #[wasm_bindgen(unchecked_param_type = "string")] key: &JsValue,
        #[wasm_bindgen(unchecked_param_type = "string | undefined")] version: &JsValue,
        #[wasm_bindgen(unchecked_param_type = "Uint8Array | string | undefined")] value: &JsValue,
        #[wasm_bindgen(unchecked_optional_param_type = "CasOptions")] options: &JsValue,
    ) -> Promise {
        settle(|| {
            let key = options::key(key)?;
            let condition = options::condition(version)?;
            let value = match value.is_undefined() {
                true => None,
                false => Some(options::value(value)?),
            };
            let terms = Terms {
                ttl: options::ttl(options)?,
                ..condition.into()
            };
            let ask = |node: &mut Node, now| node.write(key, value, terms, now);
            Ok(self.ask(Verb::Write, ask))
        })
    }

    /// Lists a page of a bucket: its keys and their versions.
    ///
    /// ```js
    /// let page = await peer.list("chat");
    /// while (page.next) page = await peer.list("chat", { after: page.next });
    /// ```
    #[wasm_bindgen(unchecked_return_type = "Promise<ListResult>")]
    pub fn list(
        &self,
        #[wasm_bindgen(unchecked_param_type = "string")] bucket: &JsValue,
        #[wasm_bindgen(unchecked_optional_param_type = "ListOptions")] options: &JsValue,
    ) -> Promise {
        settle(|| {
            let list = options::list(bucket, options)?;
            Ok(self.ask(Verb::Read, |node, now| node.list(list, now)))
        })
    }

    /// Tells where a key lives.
    ///
    /// ```js
    /// const { voters, mirrors } = await peer.locate("chat/hello");
    /// ```
    #[wasm_bindgen(unchecked_return_type = "Promise<Place>")]
    pub fn locate(
        &self,
        #[wasm_bindgen(unchecked_param_type = "string")] key: &JsValue,
    ) -> Promise {
        settle(|| {
            let key = options::key(key)?;
            let place = self
                .handle
                .look(|driver| values::place(driver.node(), &key));
            Ok(Promise::resolve(&place))
        })
    }

    /// Everything about this peer at a glance.
    ///
    /// ```js
    /// const direct = peer.status().links.filter((link) => link.kind === "direct");
    /// ```
    #[wasm_bindgen(unchecked_return_type = "Status")]
    pub fn status(&self) -> JsValue {
        self.handle
            .look(|driver| values::status(driver.node(), driver.storage()))
    }

    /// The ring as this peer knows it.
    ///
    /// ```js
    /// for (const member of peer.ring().members) console.log(member.name);
    /// ```
    #[wasm_bindgen(unchecked_return_type = "Ring")]
    pub fn ring(&self) -> JsValue {
        self.handle.look(|driver| values::ring(driver.node()))
    }

    /// Calls back whenever the ring or a link changes, or something is wrong.
    /// Returns a function that ends it.
    ///
    /// ```js
    /// const stop = peer.on("error", (error) => console.warn(error.code, error.message));
    /// ```
    ///
    /// # Errors
    /// When there is no such event, or the callback is no function.
    #[wasm_bindgen(skip_typescript)]
    pub fn on(&self, event: &JsValue, callback: &JsValue) -> Result<Function, JsValue> {
        let topic = Topic::parse(event)?;
        let callback = options::callback(callback)?;
        let number = self
            .handle
            .turn(|driver| driver.listeners.add(topic, callback));
        let handle = self.handle.clone();
        let end = move || handle.turn(|driver| driver.listeners.remove(number));
        Ok(Closure::<dyn FnMut()>::new(end)
            .into_js_value()
            .unchecked_into())
    }

    /// Leaves the ring; its neighbours know at once. The promise settles when
    /// all links are closed.
    ///
    /// ```js
    /// addEventListener("pagehide", () => peer.leave());
    /// ```
    #[wasm_bindgen(unchecked_return_type = "Promise<void>")]
    pub fn leave(&self) -> Promise {
        self.handle.turn(|driver| driver.leave())
    }

    /// Watches a key, or, with a slash at its end, the keys of a bucket: first what
    /// is there, then what changes. Returns a function that ends it.
    ///
    /// ```js
    /// const stop = peer.watch("chat/", (event) => console.log(event));
    /// ```
    ///
    /// # Errors
    /// When it is neither a key nor a bucket, or the callback is no function.
    #[wasm_bindgen(skip_typescript)]
    pub fn watch(&self, target: &JsValue, callback: &JsValue) -> Result<Function, JsValue> {
        let watch = options::watch(target)?;
        let callback = options::callback(callback)?;
        Ok(watching::begin(self.handle.clone(), watch, callback))
    }

    /// A stream to a peer: comes in a later version.
    #[wasm_bindgen(unchecked_return_type = "Promise<never>")]
    pub fn open(&self) -> Promise {
        rejected(Error::not_built("open"))
    }

    /// Streams from peers: comes in a later version.
    #[wasm_bindgen(unchecked_return_type = "Promise<never>")]
    pub fn accept(&self) -> Promise {
        rejected(Error::not_built("accept"))
    }
}

impl Peer {
    /// A promise of what the node answers.
    fn ask(&self, verb: Verb, ask: impl FnOnce(&mut Node, Now) -> RequestId) -> Promise {
        self.handle.turn(|driver| driver.request(verb, ask))
    }
}

/// What is wrong with an argument rejects the promise, as all else does.
fn settle(call: impl FnOnce() -> Result<Promise, Error>) -> Promise {
    call().unwrap_or_else(rejected)
}
