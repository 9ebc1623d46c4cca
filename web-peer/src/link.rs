//! Links: the ways in which messages of core reach another node.

pub(crate) mod account;
pub(crate) mod direct;
