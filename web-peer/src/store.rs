//! Storage of a page: in memory, and gone with the page.

pub(crate) use roundelay_core::store::MemoryStore as Storage;
