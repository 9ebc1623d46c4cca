//! A share that the browser keeps: commits in groups, one transaction at a
//! time, and reads that see those on their way.

use std::collections::BTreeMap;
use std::rc::Rc;

use js_sys::Promise;
use roundelay_core::store::{Read, StoreError, StoreOp, Stored, Write};
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::spawn_local;

use super::database::{Database, RECORDS, bytes, complete};
use super::lock::Lock;
use super::{Answer, COMMIT_BYTES_MAX, Health};
use crate::handle::WeakHandle;

/// Storage in IndexedDB.
#[derive(Debug)]
pub(super) struct Kept {
    database: Rc<Database>,
    /// `None` once it is given back.
    lock: Option<Lock>,
    driver: Option<WeakHandle>,
    /// What a transaction is about to make durable.
    running: Option<Group>,
    /// What goes into the next one.
    waiting: Group,
    health: Health,
}

/// Commits that are carried out together.
#[derive(Debug, Default)]
struct Group {
    tokens: Vec<u64>,
    writes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    bytes: usize,
}

impl Kept {
    pub(super) fn new(database: Database, lock: Lock) -> Self {
        Self {
            database: Rc::new(database),
            lock: Some(lock),
            driver: None,
            running: None,
            waiting: Group::default(),
            health: Health::default(),
        }
    }

    pub(super) fn attach(&mut self, driver: WeakHandle) {
        self.driver = Some(driver);
    }

    pub(super) fn submit(&mut self, token: u64, op: StoreOp) -> Option<Answer> {
        match op {
            StoreOp::Commit(writes) => self.commit(token, writes),
            StoreOp::Read(Read::Get { key }) => {
                if let Some(value) = self.on_its_way(&key) {
                    return Some(Ok(Stored::Value(value.clone())));
                }
                let database = Rc::clone(&self.database);
                self.answer_later(
                    token,
                    async move { database.get(&key).await.map(Stored::Value) },
                );
                None
            }
            // Core scans at its start alone, when nothing is on its way.
            StoreOp::Read(Read::Scan { .. }) if !self.is_idle() => Some(Err(StoreError::Failed)),
            StoreOp::Read(Read::Scan { from, to, limit }) => {
                let database = Rc::clone(&self.database);
                self.answer_later(token, async move {
                    let entries = database.scan(&from, &to, limit).await;
                    entries.map(Stored::Entries)
                });
                None
            }
        }
    }

    pub(super) fn on_ended(&mut self, result: Result<(), StoreError>) -> Vec<u64> {
        let ended = self.running.take().unwrap_or_default();
        // That nothing was written says nothing.
        if !ended.writes.is_empty() {
            self.health.refusing = result.err();
        }
        if result.is_err() {
            self.health.refused += ended.tokens.len() as u64;
        }
        self.begin();
        ended.tokens
    }

    pub(super) const fn health(&self) -> Health {
        self.health
    }

    pub(super) fn close(&mut self) -> Option<Promise> {
        let lock = self.lock.take()?;
        // Both groups are in transactions before the database is closed, and
        // whoever opens it next sees them.
        self.running = None;
        self.begin();
        self.driver = None;
        self.database.close();
        Some(lock.release())
    }

    fn commit(&mut self, token: u64, writes: Vec<Write>) -> Option<Answer> {
        if writes.is_empty() && self.is_idle() {
            return Some(Ok(Stored::Done));
        }
        let running = self.running.as_ref().map_or(0, |group| group.bytes);
        if !writes.is_empty() && running + self.waiting.bytes > COMMIT_BYTES_MAX {
            self.health.refused += 1;
            return Some(Err(StoreError::Full));
        }
        self.waiting.push(token, writes);
        self.begin();
        None
    }

    /// Puts what waits into a transaction, if none runs.
    fn begin(&mut self) {
        if self.running.is_some() || self.waiting.tokens.is_empty() {
            return;
        }
        let group = std::mem::take(&mut self.waiting);
        // Begun here, so that the order of transactions is that of orders.
        let begun = write_all(&self.database, &group.writes);
        self.running = Some(group);
        let driver = self.driver.clone();
        spawn_local(async move {
            let result = match begun {
                Ok(None) => Ok(()),
                Ok(Some(transaction)) => complete(&transaction).await,
                Err(_) => Err(StoreError::Failed),
            };
            if let Some(driver) = driver {
                driver.turn(|driver| driver.on_committed(result));
            }
        });
    }

    fn is_idle(&self) -> bool {
        self.running.is_none() && self.waiting.tokens.is_empty()
    }

    fn on_its_way(&self, key: &[u8]) -> Option<&Option<Vec<u8>>> {
        let waiting = self.waiting.writes.get(key);
        waiting.or_else(|| self.running.as_ref()?.writes.get(key))
    }

    fn answer_later(
        &self,
        token: u64,
        read: impl Future<Output = Result<Stored, JsValue>> + 'static,
    ) {
        let driver = self.driver.clone();
        spawn_local(async move {
            let answer = read.await.map_err(|_| StoreError::Failed);
            if let Some(driver) = driver {
                driver.turn(|driver| driver.on_stored(token, answer));
            }
        });
    }
}

impl Group {
    fn push(&mut self, token: u64, writes: Vec<Write>) {
        self.tokens.push(token);
        for write in writes {
            self.bytes += write.key.len() + write.value.as_ref().map_or(0, Vec::len);
            self.writes.insert(write.key, write.value);
        }
    }
}

/// Begins a transaction with these writes; `None` where there are none.
fn write_all(
    database: &Database,
    writes: &BTreeMap<Vec<u8>, Option<Vec<u8>>>,
) -> Result<Option<web_sys::IdbTransaction>, JsValue> {
    if writes.is_empty() {
        return Ok(None);
    }
    let transaction = database.write(&[RECORDS])?;
    let records = transaction.object_store(RECORDS)?;
    for (key, value) in writes {
        let request = match value {
            Some(value) => records.put_with_key(&bytes(value), &bytes(key)),
            None => records.delete(&bytes(key)),
        };
        if let Err(exception) = request {
            // All or none.
            let _ = transaction.abort();
            return Err(exception);
        }
    }
    Ok(Some(transaction))
}
