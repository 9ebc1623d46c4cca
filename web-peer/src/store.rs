//! Storage of a page: core's ordered map of bytes, in IndexedDB or in memory.
//!
//! One peer of a browser holds the Web Lock of a network, and with it the
//! identity and the share that the browser keeps. All others, and pages that
//! may not keep anything, are peers of a moment, in memory; [`Storage::why`]
//! says why.
//!
//! As on a native node all commits that wait while one transaction runs go
//! into the next, and are answered when that is complete.

mod database;
mod kept;
mod lock;
mod open;

use js_sys::Promise;
use roundelay_core::store::{MemoryStore, StoreError, StoreOp, Stored};

use self::kept::Kept;
pub(crate) use self::open::{Start, open, transient};
use crate::handle::WeakHandle;

/// The version of what is kept. Another one is refused.
const FORMAT_VERSION: u32 = 1;

/// Bytes of commits on their way beyond which further ones are refused as if
/// storage were full: a page cannot have its peers wait, as a native node
/// does, and what it does not take here it pulls later.
const COMMIT_BYTES_MAX: usize = 32 << 20;

/// A peer's storage.
#[derive(Debug)]
pub(crate) struct Storage {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Memory { records: MemoryStore, why: String },
    Kept(Box<Kept>),
}

/// The answer to an order.
pub(crate) type Answer = Result<Stored, StoreError>;

/// Whether storage takes commits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Health {
    /// Why the last commit was refused, if it was.
    pub(crate) refusing: Option<StoreError>,
    /// How many were refused.
    pub(crate) refused: u64,
}

impl Storage {
    /// Storage that is gone with the peer, and why it is no better one.
    fn memory(why: String) -> Self {
        let records = MemoryStore::default();
        let kind = Kind::Memory { records, why };
        Self { kind }
    }

    fn kept(kept: Kept) -> Self {
        let kind = Kind::Kept(Box::new(kept));
        Self { kind }
    }

    /// Whom to answer.
    pub(crate) fn attach(&mut self, driver: WeakHandle) {
        if let Kind::Kept(kept) = &mut self.kind {
            kept.attach(driver);
        }
    }

    /// Carries out an order; all that were submitted before are visible to it.
    /// Answers at once, or says `None`: then the driver is told.
    pub(crate) fn submit(&mut self, token: u64, op: StoreOp) -> Option<Answer> {
        match &mut self.kind {
            Kind::Memory { records, .. } => Some(Ok(records.submit(op))),
            Kind::Kept(kept) => kept.submit(token, op),
        }
    }

    /// A transaction ended. Returns the orders that it answers, with the
    /// answer to all of them.
    pub(crate) fn on_ended(&mut self, result: Result<(), StoreError>) -> Vec<u64> {
        match &mut self.kind {
            Kind::Memory { .. } => Vec::new(),
            Kind::Kept(kept) => kept.on_ended(result),
        }
    }

    /// Whether it takes commits.
    pub(crate) fn health(&self) -> Health {
        match &self.kind {
            Kind::Memory { .. } => Health::default(),
            Kind::Kept(kept) => kept.health(),
        }
    }

    /// Why everything is in memory; `None` where it is kept.
    pub(crate) fn why(&self) -> Option<&str> {
        match &self.kind {
            Kind::Memory { why, .. } => Some(why),
            Kind::Kept(_) => None,
        }
    }

    /// Lets go of what is kept: another peer may have it when the promise, if
    /// there is one, is fulfilled. Commits on their way are carried out.
    pub(crate) fn close(&mut self) -> Option<Promise> {
        match &mut self.kind {
            Kind::Memory { .. } => None,
            Kind::Kept(kept) => kept.close(),
        }
    }
}
