//! IndexedDB, as far as a peer needs it: two stores, and promises of what
//! requests and transactions come to.

use std::cell::Cell;
use std::rc::Rc;

use js_sys::{Array, Object, Promise, Reflect, Uint8Array};
use roundelay_core::store::StoreError;
use wasm_bindgen::closure::Closure;
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    IdbDatabase, IdbKeyRange, IdbObjectStore, IdbOpenDbRequest, IdbRequest, IdbTransaction,
    IdbVersionChangeEvent, Window,
};

use super::FORMAT_VERSION;
use crate::error::words;

/// What core keeps, by keys that are bytes.
pub(super) const RECORDS: &str = "records";
/// Who this peer is.
pub(super) const IDENTITY: &str = "identity";

/// How long the browser may take to open a database: one that never answers
/// would keep the page out of the ring.
const OPEN_TIMEOUT_MS: i32 = 5_000;

/// Entries that are read at once.
const SCAN_COUNT: u32 = 64;

/// An open database.
#[derive(Debug)]
pub(super) struct Database {
    database: IdbDatabase,
}

impl Database {
    /// Opens the database of this name, and makes it where there is none.
    ///
    /// # Errors
    /// When there is none to be had, or it has another format, in words. Then
    /// it stays as it was.
    pub(super) async fn open(window: &Window, name: &str) -> Result<Self, String> {
        let factory = window.indexed_db().map_err(|exception| words(&exception))?;
        let factory = factory.ok_or("it has no IndexedDB")?;
        let request = factory.open_with_u32(name, FORMAT_VERSION);
        let request = request.map_err(|exception| words(&exception))?;
        let found = Rc::new(Cell::new(0));
        let (upgraded, before) = (request.clone(), Rc::clone(&found));
        let upgrade = Closure::once(move |event: IdbVersionChangeEvent| {
            before.set(event.old_version() as u32);
            make(&upgraded, event.old_version() as u32);
        });
        request.set_onupgradeneeded(Some(upgrade.as_ref().unchecked_ref()));
        let opened = settled(&request);
        let late = Promise::new(&mut |_, reject| {
            let delay = OPEN_TIMEOUT_MS;
            let _ = window.set_timeout_with_callback_and_timeout_and_arguments_0(&reject, delay);
        });
        let raced = JsFuture::from(Promise::race(&Array::of2(&opened, &late))).await;
        if raced.is_ok()
            && let Ok(database) = request.result()
        {
            let database = database.unchecked_into();
            return Ok(Self { database });
        }
        Err(refusal(&request, found.get()))
    }

    /// Begins a transaction that writes, and is complete only when it is on
    /// the disk.
    pub(super) fn write(&self, stores: &[&str]) -> Result<IdbTransaction, JsValue> {
        let options = Object::new();
        // A fresh object takes any property.
        let _ = Reflect::set(&options, &"durability".into(), &"strict".into());
        let stores: Array = stores.iter().copied().map(JsValue::from).collect();
        let database: &Transactions = self.database.unchecked_ref();
        database.transaction(&stores, "readwrite", &options)
    }

    /// The value of a key.
    pub(super) async fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, JsValue> {
        let request = self.records()?.get(&bytes(key))?;
        let value = answer(&request).await?;
        if value.is_undefined() {
            return Ok(None);
        }
        Ok(Some(value.dyn_into::<Uint8Array>()?.to_vec()))
    }

    /// As core's [`Scan`](roundelay_core::store::Read::Scan).
    pub(super) async fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, JsValue> {
        let (mut found, mut total) = (Vec::new(), 0);
        let mut from = bytes(from);
        let mut opens = false;
        let to = bytes(to);
        // The browser takes a range that ends before it begins for an error.
        while let Ok(range) =
            IdbKeyRange::bound_with_lower_open_and_upper_open(&from, &to, opens, true)
        {
            let records = self.records()?;
            let keys = answer(&records.get_all_keys_with_key_and_limit(&range, SCAN_COUNT)?);
            let values = answer(&records.get_all_with_key_and_limit(&range, SCAN_COUNT)?);
            let keys: Array = keys.await?.dyn_into()?;
            let values: Array = values.await?.dyn_into()?;
            for (key, value) in keys.iter().zip(values.iter()) {
                let key = Uint8Array::new(&key).to_vec();
                let value = value.dyn_into::<Uint8Array>()?.to_vec();
                total += key.len() + value.len();
                if total > limit && !found.is_empty() {
                    return Ok(found);
                }
                found.push((key, value));
            }
            if keys.length() < SCAN_COUNT {
                break;
            }
            (from, opens) = (keys.get(keys.length() - 1), true);
        }
        Ok(found)
    }

    fn records(&self) -> Result<IdbObjectStore, JsValue> {
        let transaction = self.database.transaction_with_str(RECORDS)?;
        transaction.object_store(RECORDS)
    }

    /// Transactions that have begun are carried out.
    pub(super) fn close(&self) {
        self.database.close();
    }
}

#[wasm_bindgen]
extern "C" {
    /// What web-sys has only behind a compiler flag: how durable a transaction
    /// is.
    type Transactions;

    #[wasm_bindgen(method, catch)]
    fn transaction(
        this: &Transactions,
        stores: &Array,
        mode: &str,
        options: &JsValue,
    ) -> Result<IdbTransaction, JsValue>;
}

/// Bytes as IndexedDB takes them, for keys and values.
pub(super) fn bytes(bytes: &[u8]) -> JsValue {
    Uint8Array::from(bytes).into()
}

/// What a request comes to. Its transaction lives on until the caller waits
/// for something else.
pub(super) fn answer(
    request: &IdbRequest,
) -> impl Future<Output = Result<JsValue, JsValue>> + use<> {
    // Now, since it may settle while something else is waited for.
    let settled = JsFuture::from(settled(request));
    let request = request.clone();
    async move {
        match settled.await {
            Ok(_) => request.result(),
            Err(_) => Err(request.error()?.map_or(JsValue::UNDEFINED, JsValue::from)),
        }
    }
}

/// The end of a transaction: all of it is durable, or nothing has happened.
pub(super) async fn complete(transaction: &IdbTransaction) -> Result<(), StoreError> {
    let ended = Promise::new(&mut |resolve, reject| {
        transaction.set_oncomplete(Some(&resolve));
        transaction.set_onabort(Some(&reject));
    });
    if JsFuture::from(ended).await.is_ok() {
        return Ok(());
    }
    let name = transaction.error().map(|error| error.name());
    Err(match name.as_deref() {
        Some("QuotaExceededError") => StoreError::Full,
        _ => StoreError::Failed,
    })
}

fn settled(request: &IdbRequest) -> Promise {
    Promise::new(&mut |resolve, reject| {
        request.set_onsuccess(Some(&resolve));
        request.set_onerror(Some(&reject));
    })
}

/// A new database gets its stores. One of an older format is left alone.
fn make(request: &IdbOpenDbRequest, before: u32) {
    if before > 0 {
        if let Some(transaction) = request.transaction() {
            let _ = transaction.abort();
        }
    } else if let Ok(database) = request.result() {
        let database: IdbDatabase = database.unchecked_into();
        for store in [RECORDS, IDENTITY] {
            let _ = database.create_object_store(store);
        }
    }
}

/// Why a database was not opened.
fn refusal(request: &IdbOpenDbRequest, before: u32) -> String {
    // Before its end a request has no error to tell.
    let Ok(error) = request.error() else {
        // Should it open yet, nobody uses it.
        return "its IndexedDB does not answer".into();
    };
    let name = error.as_ref().map(|error| error.name());
    if before > 0 {
        return format!(
            "what it keeps has format {before}, and this page reads format {FORMAT_VERSION}"
        );
    }
    match name.as_deref() {
        Some("VersionError") => format!(
            "what it keeps has a later format than {FORMAT_VERSION}, which this page reads; load \
             the newest page"
        ),
        _ => error.map_or_else(
            || "its IndexedDB refuses".into(),
            |error| format!("its IndexedDB refuses: {}", error.message()),
        ),
    }
}
